"""Any CSV of trades, quotes, snapshots or bars, by a map from our fields to its columns.

``--columns 'time=date+time,price=last,…'`` names the file's column of each field; ``a+b`` joins two
with a space; a field that is not named is looked for under its own name. Fields: time, symbol, and

- trades: price; size, turnover, side (buy/b/1/+1, sell/s/-1)
- quotes: bid, ask; bid_size, ask_size
- snapshots: all of bid, ask, bid_size, ask_size, price, size, turnover
- bars: open, high, low, close; volume, turnover, pre_close

where those before the semicolon are required. A file without header (``--no-header``) has columns
named 1, 2, 3 and so on. Every member of a zip is a table of its own; in ``--symbol`` ``{member}``
stands for its name without ending and ``{tail}`` for the last part of that after an underscore.

Rules, one record a row:
- The symbol is the row's, else ``--symbol``; without a dot ``--venue`` is added. A row without
  one is refused, ``bad_symbol``.
- Time: ``--time-format`` s, ms, us, ns (since 1970, fractions allowed), ms-of-day (with ``--date``
  or a yyyymmdd in the file's name), iso, or a strptime pattern; without a zone it is in
  ``--timezone``, UTC by default.
- An empty cell is missing: NaN for a price, 0 for a size, turnover or volume. A quote's or
  snapshot's price of 0 is a missing side; a trade's or bar's is refused. A trade of size 0 is kept
  and flagged ODD_CONDITION. Missing turnover of a trade or snapshot is price times size.
- Ticks keep the order of the file; where time steps back ``ts_recv`` is that of the row before and
  TIME_BACK is flagged. Several files, and the members
  of a zip, are merged by time. Bars are put in order of time, then
  symbol, and a second one of the same is refused; see ``bar_rules``.
- A bar's time is its close, unless ``--session 09:30-15:00`` says when the days of dated bars
  begin and end. ``--bar-length`` says how long before its close it opened.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import ConfigError
from engine.core.records import (
    Bars,
    TickFlag,
    TickKind,
    Ticks,
    empty_bars,
    empty_ticks,
    instrument_row,
)
from feeds.importers.bar_rules import BarShelf, mend_bars, refuse_bad_bars
from feeds.importers.columns import ColumnBlock, floats, read_columns
from feeds.importers.intake import LogIntake
from feeds.importers.merging import Batch, Source, merge_sources
from feeds.importers.options import ImportOptions, RecordKind
from feeds.importers.reading import ByteMeter, member_names
from feeds.importers.times import TimeReader
from feeds.importers.zones import (
    NS_PER_DAY,
    NS_PER_S,
    local_to_utc_ns,
    parse_zone,
    utc_offset_ns,
    utc_to_local_ns,
)

_FIELDS: Final[dict[RecordKind, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    RecordKind.TRADES: (("time", "price"), ("size", "turnover", "side", "symbol")),
    RecordKind.QUOTES: (("time", "bid", "ask"), ("bid_size", "ask_size", "symbol")),
    RecordKind.SNAPSHOTS: (
        ("time",),
        ("bid", "ask", "bid_size", "ask_size", "price", "size", "turnover", "symbol"),
    ),
    RecordKind.BARS: (
        ("time", "open", "high", "low", "close"),
        ("volume", "turnover", "pre_close", "symbol"),
    ),
}
_KINDS: Final = {
    RecordKind.TRADES: TickKind.TRADE,
    RecordKind.QUOTES: TickKind.QUOTE,
    RecordKind.SNAPSHOTS: TickKind.SNAPSHOT,
}
_SIDES: Final = {"": 0, "0": 0, "b": 1, "buy": 1, "1": 1, "+1": 1, "s": -1, "sell": -1, "-1": -1}
_AMOUNTS: Final = ("size", "turnover", "bid_size", "ask_size", "volume")
_TEXT: Final = ("time", "symbol", "side")
_SESSION: Final = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")


class ColumnMap(NamedTuple):
    """Which columns each field is made of.

    Args:
        columns: Columns by field; more than one are joined with a space.
        required: Columns that must be there.
        named: Fields the user named.
    """

    columns: dict[str, tuple[str, ...]]
    required: tuple[str, ...]
    named: set[str]

    def optional(self) -> tuple[str, ...]:
        """Return the columns that may be there."""
        every = {name for names in self.columns.values() for name in names}
        return tuple(sorted(every - set(self.required)))


@dataclass(frozen=True, slots=True)
class _Table:
    options: ImportOptions
    columns: ColumnMap
    zone: tzinfo
    intake: LogIntake
    meter: ByteMeter
    day_offset_s: int
    numbers: dict[str, int] = field(default_factory=dict)


def import_csv(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Import files of one layout.

    Raises:
        ConfigError: a setting says nothing that can be used.
        InputFileError: a file is damaged or lacks a column.
    """
    zone = parse_zone(options.timezone or "UTC")
    columns = parse_columns(options.columns, options.records)
    day_offset_s = utc_offset_ns(zone, 0) // NS_PER_S
    table = _Table(options, columns, zone, intake, meter, day_offset_s)
    if options.records is RecordKind.BARS:
        session = parse_session(options.session)
        shelf = BarShelf(intake)
        for path in files:
            _shelve(path, table, session, shelf)
        shelf.write(intake.report.instruments)
        return
    sources = [
        Source(partial(_batches, path, member, table))
        for path in files
        for member in member_names(path)
    ]
    for batch in merge_sources(sources):
        intake.ticks(batch)


def parse_columns(text: str, records: RecordKind) -> ColumnMap:
    """Read ``field=column,field=a+b`` for one kind of record.

    Raises:
        ConfigError: not of that form, or a field this kind of record has not.
    """
    required, optional = _FIELDS[records]
    columns: dict[str, tuple[str, ...]] = {name: (name,) for name in (*required, *optional)}
    named: set[str] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not column or name not in columns:
            expected = f"write field=column; the fields of {records} are {', '.join(columns)}"
            raise ConfigError("--columns", "", part, expected)
        columns[name] = tuple(piece.strip() for piece in column.split("+"))
        named.add(name)
    must = [name for name in columns if name in required or name in named]
    return ColumnMap(columns, tuple(piece for name in must for piece in columns[name]), named)


def parse_session(text: str) -> tuple[int, int] | None:
    """Read ``HH:MM-HH:MM`` as nanoseconds since midnight; None for "".

    Raises:
        ConfigError: not of that form.
    """
    if not text:
        return None
    match = _SESSION.fullmatch(text)
    if match is None:
        raise ConfigError("--session", "", text, "write 09:30-15:00")
    hours = [int(part) for part in match.groups()]
    opened, closed = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if not opened < closed <= 24 * 60:
        raise ConfigError("--session", "", text, "it must end after it begins, as in 09:30-15:00")
    return opened * 60 * NS_PER_S, closed * 60 * NS_PER_S


def _batches(path: Path, member: str, table: _Table) -> Iterator[Batch]:
    floor_ns = 0
    for block, times in _timed_blocks(path, member, table):
        ticks, good = _ticks(block, table)
        ticks["ts_event"] = times
        ticks = ticks[good]
        if not len(ticks):
            continue
        ticks["ts_recv"] = np.maximum(np.maximum.accumulate(ticks["ts_event"]), floor_ns)
        floor_ns = int(ticks["ts_recv"][-1])
        places = np.full(len(ticks), block.place, np.int32)
        yield Batch(ticks, block.rows[good], places)


def _shelve(path: Path, table: _Table, session: tuple[int, int] | None, shelf: BarShelf) -> None:
    report = table.intake.report
    for block, times in _timed_blocks(path, "", table):
        bars, good = _bars(block, table)
        _stamp(bars, times, table, session)
        good[good] = refuse_bad_bars(bars[good], block.rows[good], block.place, report)
        bars = bars[good]
        mend_bars(bars, report, expect_pre_close="pre_close" in table.columns.named)
        shelf.add(bars, block.rows[good], block.place)


def _timed_blocks(
    path: Path, member: str, table: _Table
) -> Iterator[tuple[ColumnBlock, npt.NDArray[np.int64]]]:
    """Yield blocks of rows whose time parsed, and that time in UTC."""
    report, options, columns = table.intake.report, table.options, table.columns
    required, optional = columns.required, columns.optional()
    for block in read_columns(
        path, required, optional, report, table.meter, header=options.header, member=member
    ):
        reader = TimeReader(options.time_format, table.zone, options.date, path, block.member)
        times = reader.read(_cells(block, columns, "time"))
        good = times > 0
        report.refuse("bad_time", block.place, block.rows[~good].tolist())
        yield block.only(good), times[good]


def _cells(block: ColumnBlock, columns: ColumnMap, field: str) -> list[str]:
    """Return a field's cells, empty ones where the table has not got it."""
    parts = [block.cells.get(name) for name in columns.columns[field]]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return [""] * len(block.rows)
    return found[0] if len(found) == 1 else [" ".join(cells) for cells in zip(*found, strict=True)]


def _fill(
    records: Ticks | Bars, block: ColumnBlock, table: _Table, fields: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Write the numeric fields and the instrument; refuse what does not parse; tell what does."""
    good = np.ones(len(block.rows), np.bool_)

    def refuse(reason: str, bad: npt.NDArray[np.bool_]) -> None:
        table.intake.report.refuse(reason, block.place, block.rows[good & bad].tolist())
        good[bad] = False

    for name in (name for name in fields if name not in _TEXT):
        cells = _cells(block, table.columns, name)
        values, bad = floats(cells)
        refuse("not_a_number", bad)
        empty = np.array([not cell.strip() for cell in cells], np.bool_)
        records[name] = np.where(empty, 0.0, values) if name in _AMOUNTS else values
    numbers = [_instrument(text, block, table) for text in _cells(block, table.columns, "symbol")]
    refuse("bad_symbol", np.array([number < 0 for number in numbers], np.bool_))
    records["instrument"] = np.maximum(np.array(numbers, np.int64), 0)
    return good


def _ticks(block: ColumnBlock, table: _Table) -> tuple[Ticks, npt.NDArray[np.bool_]]:
    records = table.options.records
    required, optional = _FIELDS[records]
    ticks = empty_ticks(len(block.rows))
    ticks["kind"] = _KINDS[records]
    good = _fill(ticks, block, table, (*required, *optional))
    if records is RecordKind.TRADES:
        sides = [_SIDES.get(text.lower()) for text in _cells(block, table.columns, "side")]
        bad = np.array([side is None for side in sides], np.bool_)
        table.intake.report.refuse("bad_side", block.place, block.rows[good & bad].tolist())
        good[bad] = False
        ticks["side"] = [side or 0 for side in sides]
        ticks["flags"][ticks["size"] == 0] |= np.uint16(TickFlag.ODD_CONDITION)
    if records is not RecordKind.QUOTES:
        missing = (ticks["turnover"] == 0) & np.isfinite(ticks["price"])
        ticks["turnover"][missing] = (ticks["price"] * ticks["size"])[missing]
    return ticks, good


def _bars(block: ColumnBlock, table: _Table) -> tuple[Bars, npt.NDArray[np.bool_]]:
    required, optional = _FIELDS[RecordKind.BARS]
    bars = empty_bars(len(block.rows))
    return bars, _fill(bars, block, table, (*required, *optional))


def _stamp(
    bars: Bars, times: npt.NDArray[np.int64], table: _Table, session: tuple[int, int] | None
) -> None:
    days = utc_to_local_ns(times, table.zone) // NS_PER_DAY
    bars["session"] = days
    if session is None:
        bars["ts_event"] = times
        bars["ts_open"] = times - table.options.bar_length_ns
    else:
        bars["ts_open"] = local_to_utc_ns(days * NS_PER_DAY + session[0], table.zone)
        bars["ts_event"] = local_to_utc_ns(days * NS_PER_DAY + session[1], table.zone)


def _symbol(text: str, member: str, options: ImportOptions) -> str:
    """Return ``SYMBOL.VENUE`` of a row's symbol text, or of the settings where that is empty.

    Raises:
        ConfigError: the settings and the table together do not say it.
    """
    stem = member.rpartition("/")[2].rpartition(".")[0]
    symbol = text.strip() or options.symbol
    symbol = symbol.replace("{member}", stem).replace("{tail}", stem.rpartition("_")[2])
    if not symbol:
        raise ConfigError("--symbol", "", "", "the table has no symbol column; give SYMBOL.VENUE")
    if "." in symbol:
        return symbol
    if not options.venue:
        raise ConfigError("--venue", "", "", f"say the venue of {symbol}, or give SYMBOL.VENUE")
    return f"{symbol}.{options.venue}"


def _instrument(text: str, block: ColumnBlock, table: _Table) -> int:
    """Return the id of a row's instrument, -1 if its text is no symbol."""
    in_table = all(name in block.cells for name in table.columns.columns["symbol"])
    if in_table and not text.strip() and not table.options.symbol:
        return -1
    symbol = _symbol(text, block.member, table.options)
    number = table.numbers.get(symbol)
    if number is None:
        try:
            row = instrument_row(
                symbol, calendar=table.options.calendar, day_offset_s=table.day_offset_s
            )
            number = table.intake.register(row)
        except ValueError:
            number = -1
        table.numbers[symbol] = number
    return number
