"""Databento's DBN files: trades, quotes, ten levels and bars of any data set.

Rules, one record a row:
- ``trades`` become TRADE ticks; so do the trades of ``mbo``, whose other rows are refused
  ``order_event``: a book of single orders is not built.
- ``mbp-1``, ``tbbo``, ``cmbp-1`` and ``tcbbo``: a row that is a trade becomes a SNAPSHOT tick (the
  trade, and the book as the row gives it), any other a QUOTE. ``bbo-1s``, ``bbo-1m`` and their
  consolidated forms become QUOTE ticks at the time they were taken.
- ``mbp-10`` does as ``mbp-1`` with its best level, and each change of its levels is also written
  behind its tick as a DEPTH10 record; ``--depth 5`` writes five levels, ``--depth 0`` none.
- ``ohlcv`` of a second, minute, hour or day become BAR records that close an interval after the
  time they are stamped with. They have no turnover. Bars and ticks make logs of their own.
- The aggressor sold where ``side`` is A. A row whose book the venue calls doubtful
  (``F_MAYBE_BAD_BOOK``) is flagged ODD_CONDITION, its depth record UNCERTAIN.
- ``ts_event`` and ``ts_recv`` are the file's; ``ts_recv`` never decreases. Times or prices without
  a value are refused as ``bad_time``, or missing.
- ``SYMBOL.VENUE`` is the raw symbol and the data set's part before the dot; an instrument id whose
  symbol the file does not say is refused, ``unknown_symbol``, unless ``--symbol`` says it.
- Definitions, statistics, status, imbalances and the like are refused, ``not_imported``. A damaged
  or cut off file ends the import.
"""

import heapq
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import databento_dbn as dbn
import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Bars, TickFlag, TickKind, empty_bars
from feeds.books.depth_records import DepthRecords, Top, depth_record, top_flags
from feeds.importers.bar_rules import BarShelf, mend_bars, refuse_bad_bars
from feeds.importers.dbn_instruments import InstrumentNames
from feeds.importers.dbn_reading import DbnFile
from feeds.importers.intake import LogIntake
from feeds.importers.interleave import Interleaver, TickFields
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.importers.zones import NS_PER_DAY, NS_PER_S

DEPTH_BY_DEFAULT: Final = 10
_NAN: Final = float("nan")
_SCALE: Final = 1e9
_MOST_NS: Final = 1 << 62
_BLOCK: Final = 4_096
_SIDES: Final = {"A": -1, "B": 1}
_BARS: Final[dict[Any, int]] = {
    dbn.RType.OHLCV_1S: NS_PER_S,
    dbn.RType.OHLCV_1M: 60 * NS_PER_S,
    dbn.RType.OHLCV_1H: 3600 * NS_PER_S,
    dbn.RType.OHLCV_1D: NS_PER_DAY,
}
_TOPS: Final = (dbn.MBP1Msg, dbn.CMBP1Msg)
_QUOTES: Final = (dbn.BBOMsg, dbn.CBBOMsg)
_TICKS: Final = (dbn.TradeMsg, dbn.MBOMsg, dbn.MBP10Msg, *_TOPS, *_QUOTES)


class _Row(NamedTuple):
    ts_recv: int
    rank: int
    row: int
    place: int
    instrument: int
    day_offset_ns: int
    found: Any


def import_dbn(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge DBN files of any data sets into the log by their receive time.

    Raises:
        InputFileError: a file is damaged, or bars and ticks were given together.
    """
    depth = DEPTH_BY_DEFAULT if options.depth is None else options.depth
    ticks, bars = _TickRows(intake, depth), _BarRows(intake)
    rows = heapq.merge(
        *(_rows(DbnFile(path, meter), rank, options, intake) for rank, path in enumerate(files)),
        key=lambda row: row[:3],
    )
    for row in rows:
        (bars if isinstance(row.found, dbn.OHLCVMsg) else ticks).add(row)
        if bars.taken and ticks.taken:
            path = files[row.rank]
            raise InputFileError(path, "bars and ticks are imported into logs of their own")
    ticks.flush()
    bars.write()


def _rows(file: DbnFile, rank: int, options: ImportOptions, intake: LogIntake) -> Iterator[_Row]:
    """Yield a file's market records, ``ts_recv`` not decreasing; refuse the others."""
    report, latest = intake.report, 0
    place = report.place(file.path)
    names = InstrumentNames(file, options, intake)
    for row, found in file.records():
        report.read(place, 1)
        refuse = partial(report.refuse, place=place, rows=(row,))
        if isinstance(found, dbn.SymbolMappingMsg):
            file.symbols.read_message(found)
        if not isinstance(found, (*_TICKS, dbn.OHLCVMsg)):
            refuse("not_imported")
            continue
        ts_recv = received_ns(found)
        if not 0 < ts_recv < _MOST_NS or not found.ts_event > 0:
            refuse("bad_time")
            continue
        number = names.number(found, ts_recv)
        if number < 0:
            refuse("unknown_symbol")
            continue
        latest = max(latest, ts_recv)
        yield _Row(latest, rank, row, place, number, names.day_offset_ns, found)


def received_ns(found: Any) -> int:
    """Return when a record was received; a bar, when it closed. 0 if it cannot be told."""
    if isinstance(found, dbn.OHLCVMsg):
        length_ns = _BARS.get(found.rtype, 0)
        return found.ts_event + length_ns if length_ns else 0
    return int(found.ts_recv)


class _TickRows:
    """Turns rows in order into ticks, with depth records between."""

    def __init__(self, intake: LogIntake, depth: int) -> None:
        self.taken = False
        self._report = intake.report
        self._out = Interleaver(intake)
        self._depth = depth
        self._tops: dict[int, Top] = {}

    def add(self, row: _Row) -> None:
        """Take one row."""
        self.taken = True
        found = row.found
        if isinstance(found, dbn.MBOMsg) and found.action != "T":
            self._report.refuse("order_event", row.place, (row.row,))
            return
        tick = _quote(row) if isinstance(found, _QUOTES) else _tick(row)
        if tick is None:
            self._report.refuse("bad_time", row.place, (row.row,))
            return
        self._out.tick(tick, row.place, row.row)
        if self._depth and isinstance(found, dbn.MBP10Msg):
            self._out.between(self._changed_depth(row))

    def flush(self) -> None:
        """Write what was taken."""
        self._out.flush()

    def _changed_depth(self, row: _Row) -> DepthRecords | None:
        found = row.found
        top = _levels(found.levels[: self._depth])
        before = self._tops.get(row.instrument)
        if before is not None and np.array_equal(before, top, equal_nan=True):
            return None
        self._tops[row.instrument] = top
        return depth_record(
            top,
            used=int(np.isfinite(top[:2]).sum(axis=1).max()),
            instrument=row.instrument,
            update_id=found.sequence,
            ts_event=found.ts_event,
            ts_recv=row.ts_recv,
            flags=top_flags(top) | (TickFlag.UNCERTAIN if _is_doubtful(found) else 0),
        )


class _BarRows:
    """Keeps the bars of all files, 200 bytes each, until every one is there."""

    def __init__(self, intake: LogIntake) -> None:
        self.taken = False
        self._intake = intake
        self._blocks: dict[int, list[_BarBlock]] = {}

    def add(self, row: _Row) -> None:
        """Take one row."""
        self.taken = True
        blocks = self._blocks.setdefault(row.place, [])
        if not blocks or blocks[-1].full:
            blocks.append(_BarBlock())
        blocks[-1].add(row)

    def write(self) -> None:
        """Refuse what breaks a rule, and write the others in order of their close."""
        shelf, report = BarShelf(self._intake), self._intake.report
        for place, blocks in sorted(self._blocks.items()):
            for block in blocks:
                bars, numbers = block.taken()
                good = refuse_bad_bars(bars, numbers, place, report)
                kept = bars[good]
                mend_bars(kept, report, expect_pre_close=False)
                shelf.add(kept, numbers[good], place)
        self._blocks.clear()
        shelf.write(report.instruments)


class _BarBlock:
    """A few thousand bars of one place and the numbers of their rows."""

    def __init__(self) -> None:
        self._bars = empty_bars(_BLOCK)
        self._numbers = np.zeros(_BLOCK, np.int64)
        self._count = 0

    @property
    def full(self) -> bool:
        return self._count == _BLOCK

    def add(self, row: _Row) -> None:
        _fill_bar(self._bars[self._count], row)
        self._numbers[self._count] = row.row
        self._count += 1

    def taken(self) -> tuple[Bars, npt.NDArray[np.int64]]:
        return self._bars[: self._count], self._numbers[: self._count]


def _fill_bar(bar: Any, row: _Row) -> None:
    found = row.found
    bar["ts_open"] = found.ts_event
    bar["ts_event"] = received_ns(found)
    for name in ("open", "high", "low", "close"):
        bar[name] = _price(getattr(found, name))
    bar["volume"] = found.volume
    bar["instrument"] = row.instrument
    bar["session"] = (found.ts_event + row.day_offset_ns) // NS_PER_DAY


def _tick(row: _Row) -> TickFields | None:
    """Make a tick of a trade or of a change of the best level; None if it has no time."""
    found = row.found
    if found.ts_event >= _MOST_NS:
        return None
    traded = found.action == "T"
    levels = getattr(found, "levels", None)
    book = _best(levels[0]) if levels else (_NAN, _NAN, 0.0, 0.0)
    kind = TickKind.QUOTE
    if traded:
        kind = TickKind.SNAPSHOT if levels else TickKind.TRADE
    price, size = (_price(found.price), float(found.size)) if traded else (_NAN, 0.0)
    flags = TickFlag.ODD_CONDITION if _is_doubtful(found) or (traded and size == 0) else 0
    side = _SIDES.get(str(found.side), 0) if traded else 0
    times = (found.ts_event, row.ts_recv)
    return (*times, price, size, 0.0, *book, row.instrument, kind, side, flags)


def _quote(row: _Row) -> TickFields:
    """Make a tick of a book that was looked at by the clock; its trade is an older one's."""
    found = row.found
    flags = TickFlag.ODD_CONDITION if _is_doubtful(found) else 0
    times = (row.ts_recv, row.ts_recv)
    book = _best(found.levels[0])
    return (*times, _NAN, 0.0, 0.0, *book, row.instrument, TickKind.QUOTE, 0, flags)


def _price(fixed: int) -> float:
    return _NAN if fixed == dbn.UNDEF_PRICE else fixed / _SCALE


def _best(level: Any) -> tuple[float, float, float, float]:
    bid, ask = _price(level.bid_px), _price(level.ask_px)
    return bid, ask, float(level.bid_sz), float(level.ask_sz)


def _levels(levels: list[Any]) -> Top:
    """Return levels as ``LevelBook.top`` has them, f8, shape (4, L)."""
    top = np.array([_best(level) for level in levels]).T.copy()
    for side in range(2):
        top[side + 2][np.isnan(top[side])] = 0.0
    return top


def _is_doubtful(found: Any) -> bool:
    return bool(int(found.flags) & dbn.F_MAYBE_BAD_BOOK)
