"""Event arrays as hftbacktest documents them: trades and changes of price levels, a row each.

A row has ``ev`` (what it is, with flags), ``exch_ts`` and ``local_ts`` (ns), ``px`` and ``qty``.

Rules:
- Rows flagged for the local side are read; those for the exchange side alone are the same events
  in the exchange's order, and are refused, ``not_local``.
- A trade becomes a TRADE tick; the aggressor bought where it is flagged as a buy.
- Depth, snapshot, clear and best-price rows change an order book (``in_books``). Rows of one
  ``local_ts`` and ``exch_ts`` are one change; if it changes the best prices or their sizes, a QUOTE
  tick is made of it (``quotes_made``), behind the trades of the same times; and if it changes the
  best ten levels, a DEPTH10 record. ``--depth 5`` writes five, ``--depth 0`` none.
- A clear removes a side's levels from the best up to its price, or all where that is not finite,
  or both sides where it names none. A best-price row also removes what is better than it.
- ``ts_event`` is ``exch_ts``, ``ts_recv`` is ``local_ts``; where that steps back the reading of the
  row before is used.
- Rows of single orders are refused as ``order_event``, kinds that are not known as
  ``unknown_event``, levels without a side as ``bad_side``, with a price or size that cannot be as
  ``bad_level``, and times before 1973 (they are not in nanoseconds) as ``bad_time``.
- The symbol is ``--symbol``, or the file's name up to its first ``_``, with ``--venue``. Files of
  one symbol share its book, and all are merged by ``ts_recv``.
"""

import heapq
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Board, TickKind, instrument_row
from feeds.importers.event_array_book import EventBook
from feeds.importers.event_array_reading import ROWS_AT_ONCE, EventRows, read_events
from feeds.importers.event_kinds import EventFlag, EventKind
from feeds.importers.intake import LogIntake
from feeds.importers.interleave import Interleaver
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.tick_check import AHEAD_NS

DEPTH_BY_DEFAULT: Final = 10
_EARLIEST_NS: Final = 10**17
_LATEST_NS: Final = 1 << 62
_NAN: Final = float("nan")
_KIND_BITS: Final = 0xFF
_BOOK_KINDS: Final = (EventKind.DEPTH, EventKind.CLEAR, EventKind.SNAPSHOT, EventKind.BEST)
_ORDER_KINDS: Final = (EventKind.ADD, EventKind.CANCEL, EventKind.MODIFY, EventKind.FILL)
_SIDED: Final = EventFlag.BUY | EventFlag.SELL


class _Change(NamedTuple):
    """Rows of one instant of one file, ready to be merged with those of others."""

    ts_recv: int
    rank: int
    number: int
    place: int
    events: npt.NDArray[np.void]
    rows: npt.NDArray[np.int64]


def import_event_arrays(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge event arrays of any instruments into the log by their local times.

    Raises:
        InputFileError: a file is damaged, no event array, or does not say its symbol or venue.
    """
    depth = DEPTH_BY_DEFAULT if options.depth is None else options.depth
    out = Interleaver(intake)
    symbols = [_symbol(path, options) for path in files]
    instruments: dict[str, tuple[int, EventBook]] = {}
    for change in heapq.merge(
        *(_changes(path, rank, intake, meter) for rank, path in enumerate(files)),
        key=lambda change: change[:3],
    ):
        symbol = symbols[change.rank]
        if symbol not in instruments:
            instruments[symbol] = (_register(symbol, change, intake), EventBook(depth))
        instrument, book = instruments[symbol]
        _put(change, instrument, book, intake, out)
    out.flush()
    for _, book in instruments.values():
        intake.report.books.update(book.counts())


def _symbol(path: Path, options: ImportOptions) -> str:
    symbol = options.symbol or path.name.partition(".")[0].partition("_")[0].upper()
    if "." in symbol:
        return symbol
    if not options.venue:
        problem = f"does not say the venue of {symbol or 'its symbol'}"
        raise InputFileError(path, f"{problem}; give --venue, or --symbol SYMBOL.VENUE")
    return f"{symbol}.{options.venue}"


def _register(symbol: str, change: _Change, intake: LogIntake) -> int:
    decimals = len(repr(float(change.events["px"][0])).partition(".")[2])
    try:
        row = instrument_row(
            symbol, board=Board.CRYPTO, calendar="24/7", price_decimals=min(max(decimals, 2), 12)
        )
    except ValueError as error:
        raise InputFileError(symbol, str(error)) from None
    return intake.register(row)


def _changes(path: Path, rank: int, intake: LogIntake, meter: ByteMeter) -> Iterator[_Change]:
    """Yield a file's good rows by instant, ``ts_recv`` not decreasing; refuse the others."""
    report = intake.report
    place, latest, number = report.place(path), 0, 0
    held_rows = np.zeros(0, np.int64)
    events: npt.NDArray[np.void] | None = None
    for block in read_events(path, meter):
        report.read(place, len(block.rows))
        good = _good(block, place, intake)
        rows = np.flatnonzero(good) + block.first_row
        if not len(rows):
            continue
        fresh = block.rows[good]
        events = fresh if events is None else np.concatenate([events, fresh])
        held_rows = np.concatenate([held_rows, rows])
        bounds = _starts(events)
        if len(bounds) == 1 and len(events) >= ROWS_AT_ONCE:
            bounds = np.array([0, len(events)])
        for start, stop in itertools.pairwise(bounds.tolist()):
            latest = max(latest, int(events["local_ts"][start]))
            number += 1
            yield _Change(latest, rank, number, place, events[start:stop], held_rows[start:stop])
        events, held_rows = events[bounds[-1] :], held_rows[bounds[-1] :]
    if events is not None and len(events):
        latest = max(latest, int(events["local_ts"][0]))
        yield _Change(latest, rank, number + 1, place, events, held_rows)


def _starts(events: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return where each instant's rows begin."""
    local, exchange = events["local_ts"], events["exch_ts"]
    other = (local[1:] != local[:-1]) | (exchange[1:] != exchange[:-1])
    return np.concatenate(([0], np.flatnonzero(other) + 1)).astype(np.int64)


def _good(block: EventRows, place: int, intake: LogIntake) -> npt.NDArray[np.bool_]:
    """Refuse rows by the first rule they break; tell which remain, shape (N,)."""
    rows = block.rows
    kind = rows["ev"] & np.uint64(_KIND_BITS)
    of_book, of_orders = np.isin(kind, _BOOK_KINDS), np.isin(kind, _ORDER_KINDS)
    sides = rows["ev"] & np.uint64(_SIDED)
    cleared = kind == EventKind.CLEAR
    times = np.stack([rows["exch_ts"], rows["local_ts"]])
    with np.errstate(invalid="ignore"):
        level = (rows["px"] > 0) & np.isfinite(rows["px"])
        level &= (rows["qty"] >= 0) & np.isfinite(rows["qty"])
    rules = {
        "not_local": (rows["ev"] & np.uint64(EventFlag.LOCAL)) == 0,
        "order_event": of_orders,
        "unknown_event": ~of_book & ~of_orders & (kind != EventKind.TRADE),
        "bad_time": ((times < _EARLIEST_NS) | (times >= _LATEST_NS)).any(axis=0),
        "time_ahead": of_book & (rows["exch_ts"] - rows["local_ts"] > AHEAD_NS),
        "bad_side": of_book & ((sides == _SIDED) | ((sides == 0) & ~cleared)),
        "bad_level": of_book & ~cleared & ~level,
    }
    good = np.ones(len(rows), np.bool_)
    for reason, broken in rules.items():
        where = np.flatnonzero(good & broken) + block.first_row
        intake.report.refuse(reason, place, where.tolist())
        good &= ~broken
    return good


def _put(
    change: _Change, instrument: int, book: EventBook, intake: LogIntake, out: Interleaver
) -> None:
    """Write an instant's trades, then what it makes of the book."""
    events = change.events
    traded = (events["ev"] & np.uint64(_KIND_BITS)) == EventKind.TRADE
    ts_event = int(events["exch_ts"][0])
    for at in np.flatnonzero(traded).tolist():
        event = events[at]
        flags = int(event["ev"])
        side = 1 if flags & EventFlag.BUY else -1 if flags & EventFlag.SELL else 0
        price = (float(event["px"]), float(event["qty"]), 0.0, _NAN, _NAN, 0.0, 0.0)
        times = (ts_event, change.ts_recv)
        fields = (*times, *price, instrument, TickKind.TRADE, side, 0)
        out.tick(fields, change.place, int(change.rows[at]))
    levels = events[~traded]
    if not len(levels):
        return
    intake.report.in_books += len(levels)
    intake.report.recognise(change.place, len(levels))
    if book.apply(levels) and not np.isnan(book.levels.top[:2, 0]).all():
        intake.report.quotes_made += 1
        best = (_NAN, 0.0, 0.0, *book.levels.best(), instrument, TickKind.QUOTE, 0, 0)
        out.tick((ts_event, change.ts_recv, *best), change.place, int(change.rows[-1]))
    out.between(book.depth_record(instrument, ts_event, change.ts_recv))
