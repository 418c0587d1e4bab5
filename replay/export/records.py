"""Ticks, recorded bars and depth of a log as tables, streamed as the live decoder gives them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, InputFileError
from engine.core.records import ALL_INSTRUMENTS, BAR, TICK, Instruments, Schema, TickKind
from feeds.burst import BurstDecoder
from feeds.codec import decode_frame
from feeds.log_index import SCHEMA
from feeds.log_reader import LogReader
from replay.bursts import (
    Burst,
    Define,
    LogBursts,
    MergedBursts,
    ReceiveOrder,
    count_faults,
    count_records,
)
from replay.export.table import Batch, Column, Table, fill, text_column, time_column

_FLAGS: Final = "bits of TickFlag: 1 crossed, 2 locked, 4 one-sided, 8 time back, 16 duplicate id, "
_MORE_FLAGS: Final = "32 out of session, 64 odd condition, 128 auction, 256 halted, 512 no size"
_PLACE: Final = (
    Column("epoch", "<u8", "", "the stream's epoch"),
    Column("seq", "<u8", "", "the record's number in it; of a GAP the first that is missing"),
    text_column("symbol", 32, "SYMBOL.VENUE; empty for what concerns all instruments"),
    Column("instrument", "<u4", "", f"id in the log; {ALL_INSTRUMENTS} for all"),
)
_BOOK: Final = (
    Column("bid", "<f8", "price", "NaN: unknown"),
    Column("ask", "<f8", "price", "NaN: unknown"),
    Column("bid_size", "<f8", "units"),
    Column("ask_size", "<f8", "units"),
)
TICKS: Final = Table(
    (
        *_PLACE,
        time_column("ts_event", "the venue's time"),
        time_column("ts_recv", "the gateway's receive time"),
        text_column("kind", 9, "HEARTBEAT, TRADE, QUOTE, SNAPSHOT, or GAP with the count in size"),
        Column("price", "<f8", "price", "NaN: none"),
        Column("size", "<f8", "units"),
        Column("turnover", "<f8", "price times units"),
        Column("side", "i1", "", "the aggressor's: 1 buy, -1 sell, 0 unknown"),
        *_BOOK,
        Column("flags", "<u2", "", _FLAGS + _MORE_FLAGS),
    ),
    {"table": "ticks"},
)
_BAR_VALUES: Final = (
    time_column("ts_open", "where the bar begins"),
    time_column("ts_event", "its close: the end of a time bar, else the last tick's time"),
    time_column("ts_recv", "when it was known to be closed"),
    *(Column(name, "<f8", "price") for name in ("open", "high", "low", "close")),
    *(Column(name, "<f8", "units") for name in ("volume", "buy_volume", "sell_volume")),
    Column("turnover", "<f8", "price times units"),
    Column("ofi", "<f8", "units", "order-flow imbalance of the quotes inside"),
    *_BOOK,
    Column("pre_close", "<f8", "price", "the exchange's ex-right reference; NaN: unknown"),
    Column("count", "<u4", "samples", "inside"),
    Column("trades", "<u4", "trades", "inside"),
    Column("session", "<i4", "days since 1970-01-01 at the venue", "the trading day"),
    Column("flags", "<u2", "", _FLAGS + _MORE_FLAGS),
)
RECORDED_BARS: Final = Table((*_PLACE, *_BAR_VALUES), {"table": "bars"})
_SHARED_NAMES: Final = frozenset(TICK.names or ()) & {one.name for one in TICKS.columns} - {"kind"}
BAR_NAMES: Final = frozenset(BAR.names or ()) & {one.name for one in _BAR_VALUES}
BAR_COLUMNS: Final = _BAR_VALUES
_KINDS: Final = np.array([kind.name for kind in TickKind], "S9")


class Batches:
    """Rows of logs, batch after batch.

    Args:
        batches: The rows.
        faults: Returns what is wrong with the logs, by reason; all of it once all rows are taken.
    """

    def __init__(self, batches: Iterable[Batch], faults: Callable[[], dict[str, int]]) -> None:
        self._batches = batches
        self.faults = faults

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


class Symbols:
    """The instruments' symbols as they are defined on the way through a log."""

    def __init__(self) -> None:
        self._table = np.zeros(1, "S32")

    def define(self, instruments: Instruments) -> None:
        """Take definitions; the last place stays empty, for records that concern all."""
        if not len(instruments):
            return
        grown = np.zeros(max(len(self._table), int(instruments["id"].max()) + 2), "S32")
        grown[: len(self._table)] = self._table
        grown[instruments["id"]] = instruments["symbol"]
        self._table = grown

    def of(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.bytes_]:
        """Return their symbols, empty where there is none."""
        return self._table[np.minimum(ids, len(self._table) - 1)]


def open_bursts(readers: Sequence[LogReader], define: Define) -> LogBursts | MergedBursts:
    """Return the bursts of a log, or of several in time order."""
    if len(readers) == 1:
        return LogBursts(readers[0], 4096, define)
    return MergedBursts(readers, define)


def tick_batches(readers: Sequence[LogReader]) -> Batches:
    """Return the ticks of logs, heartbeats and gaps among them, as TICKS.

    Raises:
        InputFileError: several logs that cannot be merged, see ``MergedBursts``.
    """
    symbols = Symbols()
    bursts = open_bursts(readers, symbols.define)
    return Batches(_tick_rows(bursts, symbols), bursts.faults)


def _tick_rows(bursts: LogBursts | MergedBursts, symbols: Symbols) -> Iterator[Batch]:
    for burst in bursts:
        if burst.schema == Schema.TICK:
            rows = _placed(TICKS, burst, symbols)
            fill(rows, burst.records[: burst.size], _SHARED_NAMES)
            rows["kind"] = _KINDS[burst.records["kind"][: burst.size]]
            yield rows


def recorded_bar_batches(reader: LogReader) -> Batches:
    """Return the bars that a log holds, as RECORDED_BARS."""
    symbols = Symbols()
    bursts = open_bursts([reader], symbols.define)
    return Batches(_bar_rows(bursts, symbols), bursts.faults)


def _bar_rows(bursts: LogBursts | MergedBursts, symbols: Symbols) -> Iterator[Batch]:
    for burst in bursts:
        if burst.schema == Schema.BAR:
            rows = _placed(RECORDED_BARS, burst, symbols)
            fill(rows, burst.records[: burst.size], BAR_NAMES)
            yield rows


def _placed(table: Table, burst: Burst, symbols: Symbols) -> Batch:
    rows = table.empty(burst.size)
    ids = burst.records["instrument"][: burst.size]
    fill(rows, burst.origins[: burst.size], ("epoch", "seq"))
    rows["instrument"], rows["symbol"] = ids, symbols.of(ids)
    return rows


def depth_table(levels: int) -> Table:
    """Return the columns of depth snapshots of 5 or 10 levels."""
    sides = [
        Column(name, ("<f8", (levels,)), unit, "best first; unused levels NaN, size 0")
        for name, unit in (
            ("bid", "price"), ("ask", "price"), ("bid_size", "units"), ("ask_size", "units")
        )
    ]  # fmt: skip
    columns = (
        *_PLACE,
        time_column("ts_event", "the venue's time"),
        time_column("ts_recv", "the gateway's receive time"),
        Column("update_id", "<u8", "", "the venue's number of the book's state"),
        Column("levels", "<u2", "levels", "in use"),
        *sides,
        Column("flags", "<u2", "", _FLAGS + _MORE_FLAGS),
    )
    return Table(columns, {"table": "depth"})


def depth_levels(reader: LogReader) -> int:
    """Return how many levels a log's depth has.

    Raises:
        InputFileError: it has none, or both kinds.
    """
    found = {5: Schema.DEPTH5, 10: Schema.DEPTH10}
    there = [levels for levels, schema in found.items() if count_records(reader, schema)]
    if len(there) != 1:
        problem = "it holds depth of 5 and of 10 levels" if there else "it holds no depth"
        raise InputFileError(reader.path, problem)
    return there[0]


def depth_batches(reader: LogReader, levels: int) -> Batches:
    """Return the depth snapshots of a log, as ``depth_table``; damaged frames are left out."""
    decoder, order = BurstDecoder(0), ReceiveOrder()
    rows = _depth_rows(reader, levels, decoder, order)
    return Batches(rows, lambda: count_faults([reader], [decoder], order))


def _depth_rows(
    reader: LogReader, levels: int, decoder: BurstDecoder, order: ReceiveOrder
) -> Iterator[Batch]:
    """Yield rows; the decoder, of the live path, counts what is wrong with a frame."""
    table, symbols = depth_table(levels), Symbols()
    wanted = Schema.DEPTH5 if levels == 5 else Schema.DEPTH10
    names = [one.name for one in table.columns[len(_PLACE) :]]
    schemas = reader.frames[:, SCHEMA]
    for place in np.flatnonzero(np.isin(schemas, (Schema.INSTRUMENTS, wanted))).tolist():
        segment = next(reader.segments(place, place + 1))
        try:
            frame = decode_frame(segment.wire.data, int(segment.offsets[0]))
        except FrameError:
            decoder.decode(segment.wire, segment.offsets, segment.lengths, 0, 1)
            continue
        if schemas[place] == Schema.INSTRUMENTS:
            symbols.define(frame.records)
            continue
        order.see(frame.records)
        rows = table.empty(len(frame.records))
        fill(rows, frame.records, [*names, "instrument"])
        rows["symbol"] = symbols.of(frame.records["instrument"])
        rows["epoch"] = frame.epoch
        rows["seq"] = frame.first_seq + np.arange(len(rows), dtype=np.uint64)
        yield rows


def with_source(table: Table, logs: Sequence[Path], **facts: Any) -> Table:
    """Return a table that says where its rows come from."""
    told = {**table.facts, "source": [str(path) for path in logs], **facts}
    return Table(table.columns, told)
