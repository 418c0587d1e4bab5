"""Binance WebSocket captures: one frame a line, behind the recorder's clock.

Lines are ``<clock> <JSON>``, the clock in ns, us or ms (the first line's magnitude decides for the
file), or cryptofeed's ``<seconds>.<fraction>: <JSON>``; plain or compressed. JSON is the combined
stream's envelope, or a REST depth snapshot.

Rules:
- ``trade`` and ``bookTicker`` become TRADE and QUOTE ticks. ``aggTrade`` does too where it comes
  before any ``trade`` of its instrument; of the two the one that came first is used, the other is
  kept raw. Everything else (depth updates, depth snapshots, klines, mark prices, answers to
  subscriptions, unknown streams) is kept as a RAW frame holding the line itself.
- With ``--depth 5`` or ``10`` the depth lines are also put on books (``feeds.books``), and each
  change of a book's best levels is written behind its line as a DEPTH5 or DEPTH10 record; one
  without levels says that the book is lost. A snapshot that does not name its symbol is that of the
  only symbol its file has had so far.
- ``ts_recv`` is the recorder's clock, and the log is in its order; where it steps back, the reading
  of the line before is used. ``ts_event`` is T, else E; a spot bookTicker has neither: ``ts_recv``.
  Event times that step back are flagged TIME_BACK; the recorder's clock may well be behind them.
- The aggressor sold where ``m`` (the buyer was the maker) is true.
- A trade whose ``X`` is not MARKET (INSURANCE_FUND) is kept and flagged ODD_CONDITION, one of size
  0 too; a price of 0 is refused. A trade id or book update number not above the highest before it
  is flagged DUPLICATE_ID and kept.
- The venue is BINANCE, BINANCE_USDM, BINANCE_COINM or BINANCE_US, by ``--venue`` or as
  ``binance_frames.guess_venue`` finds.
- Connection notes are refused as ``not_a_market_frame``, lines of no such form and broken JSON by
  reason. Several files are merged by ``ts_recv``, in one instant in the order given.
"""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from engine.core.errors import InputFileError
from engine.core.records import Board, TickFlag, TickKind, instrument_row
from feeds.books.level_book import Best
from feeds.importers.binance_depth import DepthBooks, first_price
from feeds.importers.binance_frames import (
    DepthFrame,
    Frame,
    LineClock,
    LineFault,
    Other,
    Quote,
    Trade,
    guess_venue,
    parse_payload,
)
from feeds.importers.intake import LogIntake
from feeds.importers.interleave import Interleaver, RawLine, TickFields
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter, read_blocks

_GUESS_LINES: Final = 500
_NAN: Final = float("nan")


class _Line(NamedTuple):
    ts_recv: int
    rank: int
    row: int
    place: int
    text: bytes
    payload: bytes


def import_binance_raw(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge captures of any markets into the log by the recorder's clock.

    Raises:
        InputFileError: a file is damaged, or its market cannot be told.
    """
    venues = [options.venue or _guess(path) for path in files]
    lines = heapq.merge(*(_lines(path, rank, intake, meter) for rank, path in enumerate(files)))
    converter = Converter(intake, venues, options.depth or 0)
    for line in lines:
        converter.add(line)
    converter.flush()
    converter.count_books()


def _guess(path: Path) -> str:
    block = next(read_blocks(path, lambda _: None), None)
    lines = block.text.splitlines()[:_GUESS_LINES] if block else []
    venue = guess_venue(lines, path.name)
    if venue is None and lines:
        problem = f"no line of the first {len(lines)} tells which Binance market this is"
        raise InputFileError(path, f"{problem}; give --venue if it is one")
    return str(venue or "")


def _lines(path: Path, rank: int, intake: LogIntake, meter: ByteMeter) -> Iterator[_Line]:
    """Yield a file's frames, ``ts_recv`` not decreasing; refuse the lines that are none."""
    report, clock, place, latest = intake.report, LineClock(), -1, 0
    for block in read_blocks(path, meter):
        if block.first_row == 1:
            place = report.place(path, block.member)
        texts = block.text.split(b"\n")
        if not texts[-1]:
            texts.pop()
        report.read(place, len(texts))
        for row, text in enumerate(texts, block.first_row):
            found = clock.split(text)
            if isinstance(found, Frame):
                latest = max(latest, found.ts_recv)
                yield _Line(latest, rank, row, place, text, found.payload)
            else:
                report.refuse(found, place, (row,))


class Converter:
    """Turns lines in order into ticks, raw frames and depth records.

    Args:
        intake: Where they go.
        venues: Venue of each file's symbols, by rank.
        depth: Levels of the depth records made from depth lines; 0 makes none.
    """

    def __init__(self, intake: LogIntake, venues: list[str], depth: int = 0) -> None:
        self._intake = intake
        self._out = Interleaver(intake)
        self._venues = venues
        self._numbers: dict[tuple[int, str], int] = {}
        self._streams: dict[int, str] = {}
        self._highest: dict[tuple[int, str], int] = {}
        self._books = DepthBooks(depth) if depth else None

    def add(self, line: _Line) -> None:
        """Take one line."""
        found = parse_payload(line.payload)
        if isinstance(found, LineFault):
            self._intake.report.refuse(found, line.place, (line.row,))
        elif isinstance(found, Other):
            self._keep(line, known=found.known)
        elif isinstance(found, DepthFrame):
            self._depth(line, found)
        elif isinstance(found, Trade):
            self._trade(line, found)
        else:
            self._quote(line, found)

    def flush(self) -> None:
        """Write what was taken."""
        self._out.flush()

    def count_books(self) -> None:
        """Tell the report what the books have seen."""
        if self._books is not None:
            self._intake.report.books.update(self._books.totals())

    def _keep(self, line: _Line, *, known: bool) -> None:
        self._out.between(RawLine(line.text, line.ts_recv, line.place, line.row, known))

    def _depth(self, line: _Line, frame: DepthFrame) -> None:
        self._keep(line, known=True)
        if self._books is None:
            return
        number = self._depth_number(line.rank, frame)
        if number is None:
            self._books.counts["without_symbol"] += 1
        else:
            self._out.between(self._books.on_frame(number, frame, line.ts_recv))

    def _depth_number(self, rank: int, frame: DepthFrame) -> int | None:
        if frame.symbol:
            return self._number(rank, frame.symbol, first_price(frame.data))
        of_file = [number for (of, _), number in self._numbers.items() if of == rank]
        return of_file[0] if len(of_file) == 1 else None

    def _trade(self, line: _Line, trade: Trade) -> None:
        number = self._number(line.rank, trade.symbol, trade.price_text)
        if self._streams.setdefault(number, trade.stream) != trade.stream:
            self._keep(line, known=True)
            return
        flags = self._repeated(number, "trade", trade.id)
        if trade.odd or trade.size == 0:
            flags |= TickFlag.ODD_CONDITION
        times = (trade.ts_event, line.ts_recv)
        amounts = (trade.price, trade.size, 0.0, _NAN, _NAN, 0.0, 0.0)
        self._take(line, (*times, *amounts, number, TickKind.TRADE, trade.side, flags))

    def _quote(self, line: _Line, quote: Quote) -> None:
        number = self._number(line.rank, quote.symbol, quote.bid_text)
        flags = self._repeated(number, "quote", quote.id)
        times = (quote.ts_event or line.ts_recv, line.ts_recv)
        book = (quote.bid, quote.ask, quote.bid_size, quote.ask_size)
        self._take(line, (*times, _NAN, 0.0, 0.0, *book, number, TickKind.QUOTE, 0, flags))
        if self._books is not None:
            best = Best(quote.bid or _NAN, quote.ask or _NAN, quote.bid_size, quote.ask_size)
            self._out.between(self._books.on_ticker(number, quote.id, best, line.ts_recv))

    def _take(self, line: _Line, tick: TickFields) -> None:
        self._out.tick(tick, line.place, line.row)

    def _repeated(self, number: int, stream: str, venue_id: int) -> int:
        highest = self._highest.get((number, stream))
        if highest is not None and venue_id <= highest:
            return TickFlag.DUPLICATE_ID
        self._highest[number, stream] = venue_id
        return 0

    def _number(self, rank: int, symbol: str, price_text: str) -> int:
        number = self._numbers.get((rank, symbol))
        if number is None:
            decimals = len(price_text.partition(".")[2].rstrip("0"))
            row = instrument_row(
                f"{symbol}.{self._venues[rank]}",
                board=Board.CRYPTO,
                calendar="24/7",
                price_decimals=min(max(decimals, 2), 12),
            )
            number = self._numbers[rank, symbol] = self._intake.register(row)
        return number
