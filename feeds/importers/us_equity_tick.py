"""US equity ticks of the consolidated tape, one zip a symbol, day and kind (Lean's layout).

Rows have no header. Time is milliseconds since midnight in New York, prices ten-thousandths.
Quote: time, bid, bid size, ask, ask size, exchange, condition mask (hex), suspicious.
Trade: time, price, size, exchange, condition mask (hex), suspicious.

Rules, one record a row:
- Top of book. Each quote row carries one side, at the venue that then stands best: the tape's
  changes of the *national* best, bid row and ask row in pairs. So the book is the latest bid row
  and the latest ask row, with those rows' sizes, whatever the exchange. (Withdrawals are not in
  these files: a best over every venue's last quote stays crossed nearly all day.) It starts empty
  each day.
- A quote row with condition bits beyond regular, opening, closing or fast trading, or marked
  suspicious, is kept with the book as it was before, flagged ODD_CONDITION; with halt bits HALTED
  as well. A row with neither side repeats the book too, flagged ODD_CONDITION. Before the first
  side of the day is known such a row is refused: ``no_side``.
- A trade whose bits beyond regular, sweep, trade-through exempt, automatic, yellow flag or auction
  are set (they do not make the tape's last price), or marked suspicious, or of size 0, is kept and
  flagged ODD_CONDITION; opening, closing and reopening prints AUCTION; form T and extended hours
  OUT_OF_SESSION. The aggressor's side is not in the data: 0. A price of 0 is refused.
- Rows before 9:30 or from 16:00 on, New York, are flagged OUT_OF_SESSION; half days are not known.
- Files are merged by time whatever their order on the command line; in one millisecond by symbol,
  trades before quotes (a trade is then judged against the book before it), then by row.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import (
    Board,
    Instruments,
    TickFlag,
    TickKind,
    Ticks,
    empty_ticks,
    instrument_row,
)
from feeds.importers.day_ticks import DayRows, parsed_blocks, stamp_times
from feeds.importers.intake import LogIntake
from feeds.importers.merging import Batch, Source, merge_sources
from feeds.importers.number_rows import CODE, HEX, RowParser
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.importers.tick_files import TickFile, in_day_order
from feeds.importers.zones import NS_PER_S, parse_zone, utc_offset_ns

ZONE: Final = "America/New_York"
VENUE: Final = "US"
PRICE_SCALE: Final = 10_000.0
OPEN_NS: Final = (9 * 3600 + 30 * 60) * NS_PER_S
CLOSE_NS: Final = 16 * 3600 * NS_PER_S

_MS_AS_NS: Final = 6
REGULAR_TRADE: Final = 0x1 | 0x10 | 0x20 | 0x1000_0000 | 0x2000_0000
"""Regular, yellow flag, intermarket sweep, automatic execution, trade-through exempt."""
AUCTION_TRADE: Final = 0x40 | 0x80 | 0x100
"""Opening, closing and reopening prints."""
EXTENDED_TRADE: Final = 0x400 | 0x2000
"""Form T, extended hours."""
REGULAR_QUOTE: Final = 0x1 | 0x8 | 0x800 | 0x20_0000
"""Regular, closing, opening, fast trading."""
HALTED_QUOTE: Final = 0x10 | 0x20 | 0x80 | 0x200 | 0x1000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x40_0000
"""News, imbalance, volatility pause, related security, equipment, sub-penny, no open, influx."""


def import_us_equity_ticks(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge quote and trade zips of any symbols and days into the log.

    Raises:
        InputFileError: a file is damaged or its name does not say what it holds.
    """
    named = in_day_order(files)
    zone = parse_zone(options.timezone or ZONE)
    sources = []
    for file in named:
        not_before = file.day_ns - utc_offset_ns(zone, file.day_ns)
        instrument = intake.register(_definition(file, options))
        read = _quotes if file.kind == "quote" else _trades
        sources.append(Source(partial(read, file, options, intake, meter, instrument), not_before))
    for batch in merge_sources(sources):
        intake.ticks(batch)


def _definition(file: TickFile, options: ImportOptions) -> Instruments:
    symbol = f"{options.symbol or file.symbol}.{options.venue or VENUE}"
    noon_ns = file.day_ns + 12 * 3600 * NS_PER_S
    offset_ns = utc_offset_ns(parse_zone(options.timezone or ZONE), noon_ns)
    return instrument_row(
        symbol,
        board=Board.US_EQUITY,
        calendar="XNYS",
        tick_size=0.01,
        lot=1.0,
        price_decimals=2,
        day_offset_s=offset_ns // NS_PER_S,
    )


def _trades(
    file: TickFile,
    options: ImportOptions,
    intake: LogIntake,
    meter: ByteMeter,
    instrument: int,
) -> Iterator[Batch]:
    zone = parse_zone(options.timezone or ZONE)
    parser = RowParser(_MS_AS_NS, 0, 0, CODE, HEX, 0)
    floor_ns = 0
    for block in parsed_blocks(file.path, parser, intake.report, meter):
        ticks = _trade_ticks(block.values)
        floor_ns = stamp_times(ticks, block.values[:, 0], file.day_ns, zone, floor_ns)
        yield _batch(ticks, block, instrument)


def _trade_ticks(values: npt.NDArray[np.int64]) -> Ticks:
    ticks = empty_ticks(len(values))
    ticks["kind"] = TickKind.TRADE
    ticks["price"] = values[:, 1] / PRICE_SCALE
    ticks["size"] = values[:, 2]
    ticks["turnover"] = ticks["price"] * ticks["size"]
    condition, suspicious = values[:, 4], values[:, 5] != 0
    known = REGULAR_TRADE | AUCTION_TRADE | EXTENDED_TRADE
    odd = ((condition & ~known) != 0) | suspicious | (values[:, 2] == 0)
    outside = _outside(values[:, 0]) | ((condition & EXTENDED_TRADE) != 0)
    _flag(ticks, odd, TickFlag.ODD_CONDITION)
    _flag(ticks, (condition & AUCTION_TRADE) != 0, TickFlag.AUCTION)
    _flag(ticks, outside, TickFlag.OUT_OF_SESSION)
    return ticks


def _quotes(
    file: TickFile,
    options: ImportOptions,
    intake: LogIntake,
    meter: ByteMeter,
    instrument: int,
) -> Iterator[Batch]:
    zone = parse_zone(options.timezone or ZONE)
    parser = RowParser(_MS_AS_NS, 0, 0, 0, 0, CODE, HEX, 0)
    book = TopOfBook()
    floor_ns = 0
    for block in parsed_blocks(file.path, parser, intake.report, meter):
        ticks = book.follow(block.values)
        floor_ns = stamp_times(ticks, block.values[:, 0], file.day_ns, zone, floor_ns)
        yield _batch(ticks, block, instrument)


class TopOfBook:
    """The national best bid and offer of one symbol and day, from one-sided quote rows."""

    __slots__ = ("_best",)

    def __init__(self) -> None:
        self._best = {"bid": (0, 0), "ask": (0, 0)}

    def follow(self, values: npt.NDArray[np.int64]) -> Ticks:
        """Return one QUOTE tick a row, times unset.

        Args:
            values: Parsed quote rows in order, shape (N, 8).
        """
        ticks = empty_ticks(len(values))
        ticks["kind"] = TickKind.QUOTE
        condition = values[:, 6]
        empty = (values[:, 1] == 0) & (values[:, 3] == 0)
        odd = ((condition & ~REGULAR_QUOTE) != 0) | (values[:, 7] != 0) | empty
        for side, column in (("bid", 1), ("ask", 3)):
            prices, sizes = values[:, column], values[:, column + 1]
            self._carry(ticks, side, prices, sizes, (prices != 0) & ~odd)
        _flag(ticks, odd, TickFlag.ODD_CONDITION)
        _flag(ticks, (condition & HALTED_QUOTE) != 0, TickFlag.HALTED)
        _flag(ticks, _outside(values[:, 0]), TickFlag.OUT_OF_SESSION)
        return ticks

    def _carry(
        self,
        ticks: Ticks,
        side: str,
        prices: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        states: npt.NDArray[np.bool_],
    ) -> None:
        latest = np.maximum.accumulate(np.where(states, np.arange(1, len(states) + 1), 0))
        price, size = self._best[side]
        prices = np.concatenate(([price], prices))[latest]
        sizes = np.concatenate(([size], sizes))[latest]
        ticks[side] = prices / PRICE_SCALE
        ticks[f"{side}_size"] = sizes
        if len(prices):
            self._best[side] = (int(prices[-1]), int(sizes[-1]))


def _outside(of_day_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return (of_day_ns < OPEN_NS) | (of_day_ns >= CLOSE_NS)


def _flag(ticks: Ticks, where: npt.NDArray[np.bool_], flag: TickFlag) -> None:
    ticks["flags"][where] |= np.uint16(flag)


def _batch(ticks: Ticks, block: DayRows, instrument: int) -> Batch:
    ticks["instrument"] = instrument
    places = np.full(len(ticks), block.place, np.int32)
    return Batch(ticks, block.rows, places)
