"""Merges logs in time order: by receive time, and where that is equal by the order given.

Instruments are brought together by symbol, and their definitions stay in place among the ticks, so
that none acts before its time; ticks are numbered anew from 1 in the first log's epoch. Where a log
lacks records, the merged log lacks as many numbers, at least one. Bars, depth and raw frames are
left out.
"""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, InputFileError, LogError
from engine.core.records import (
    ALL_INSTRUMENTS,
    INSTRUMENT,
    MAX_INSTRUMENTS,
    TICK,
    Instruments,
    Schema,
    TickKind,
    Ticks,
    id_bound,
)
from feeds.burst import BurstDecoder
from feeds.codec import decode_frame
from feeds.log_index import COUNT, SCHEMA
from feeds.log_reader import LogReader
from feeds.log_writer import LogWriter

__all__ = [
    "MergedPart",
    "left_out",
    "merge_logs",
    "merged_instruments",
    "merged_records",
    "merged_ticks",
    "refuse_overlaps",
]

_MERGED_GATEWAY: Final = 1


class MergedPart(NamedTuple):
    """What comes next in a merge: TICK, or INSTRUMENT that take effect here; shape (N,), N >= 1."""

    schema: Schema
    records: npt.NDArray[np.void]


def merged_instruments(
    readers: Sequence[LogReader],
) -> tuple[Instruments, list[npt.NDArray[np.uint32]]]:
    """Bring the logs' instruments together by symbol, in the order they first appear.

    The first definition of a symbol counts; ``merged_records`` yields the later ones in place.

    Returns:
        The table, and for each log the new id of each of its ids, shape (I,), u4.

    Raises:
        LogError: together there are too many.
    """
    ids: dict[bytes, int] = {}
    rows: list[np.void] = []
    maps: list[npt.NDArray[np.uint32]] = []
    for reader in readers:
        new_ids = np.zeros(len(reader.instruments), np.uint32)
        for i, row in enumerate(_first_definitions(reader)):
            new_ids[i] = ids.setdefault(bytes(row["symbol"]), len(ids))
            if new_ids[i] == len(rows):
                rows.append(row)
        maps.append(new_ids)
    if len(rows) > MAX_INSTRUMENTS:
        raise LogError(readers[-1].path, f"{len(rows)} instruments together are too many")
    table = np.array(rows, INSTRUMENT) if rows else np.zeros(0, INSTRUMENT)
    table["id"] = np.arange(len(table))
    return table, maps


def refuse_overlaps(readers: Sequence[LogReader]) -> None:
    """Refuse logs that hold the same instrument over the same time: its ticks would count twice.

    Raises:
        InputFileError: two logs do.
    """
    if len(readers) < 2:
        return
    held: dict[str, list[tuple[int, int, Path]]] = {}
    for reader in readers:
        for symbol, first, last in _ticked(reader):
            for begin, end, path in held.get(symbol, ()):
                if first < end and begin < last:
                    problem = f"it holds {symbol} over the same time as {path}: give one of them"
                    raise InputFileError(reader.path, problem)
            held.setdefault(symbol, []).append((first, last, reader.path))


def _ticked(reader: LogReader) -> Iterator[tuple[str, int, int]]:
    """Yield the instruments that have ticks in a log, with its first and last time."""
    told = reader.summary()
    for one in told["instruments"]:
        if one["ticks"] and told["first_ts_recv"] is not None:
            yield one["symbol"], told["first_ts_recv"], told["last_ts_recv"]


def merged_records(
    readers: Sequence[LogReader], decoders: Sequence[BurstDecoder] | None = None
) -> Iterator[MergedPart]:
    """Yield the logs' ticks in time order, instruments as ``merged_instruments`` numbers them.

    A log whose receive times step back is merged by the latest time it has reached. GAP ticks
    stand where a log lacks records. A log's definitions come right before its next tick, unless
    they change nothing; those that come after its last tick follow that.

    Args:
        readers: The logs.
        decoders: One a log, whose counters tell what was refused; made by default.

    Yields:
        Parts with arrays of their own.
    """
    table, maps = merged_instruments(readers)
    decoders = decoders or [BurstDecoder(0) for _ in readers]
    sources = [
        _Source(reader, decoder, new_ids)
        for reader, decoder, new_ids in zip(readers, decoders, maps, strict=True)
    ]
    for part in _in_order(sources):
        if part.schema == Schema.INSTRUMENTS:
            ids = part.records["id"]
            if table[ids].tobytes() == part.records.tobytes():
                continue
            table[ids] = part.records
        yield part


def merged_ticks(
    readers: Sequence[LogReader], decoders: Sequence[BurstDecoder] | None = None
) -> Iterator[Ticks]:
    """Yield only the ticks of ``merged_records``."""
    for part in merged_records(readers, decoders):
        if part.schema == Schema.TICK:
            yield part.records


def merge_logs(paths: Sequence[str | Path], out: str | Path, *, overwrite: bool = False) -> int:
    """Write the merged log; return its number of ticks.

    Raises:
        InputFileError: a log is missing, or holds what another one holds too.
        LogError: a file is not a tick log, or ``out`` exists and may not be overwritten.
    """
    readers = [LogReader(path) for path in paths]
    refuse_overlaps(readers)
    table, _ = merged_instruments(readers)
    epochs = readers[0].epochs
    with LogWriter(
        out, table, gateway=_MERGED_GATEWAY, epoch=epochs[0] if epochs else 0, overwrite=overwrite
    ) as writer:
        return sum(_write(writer, part) for part in merged_records(readers))


def left_out(paths: Sequence[str | Path]) -> dict[str, int]:
    """Return what of some logs a merge leaves out: records by schema, of RAW the frames."""
    counted = dict.fromkeys(("BAR", "DEPTH5", "DEPTH10", "RAW"), 0)
    for path in paths:
        with LogReader(path) as reader:
            frames = reader.frames
        for name in counted:
            rows = frames[frames[:, SCHEMA] == Schema[name]]
            counted[name] += len(rows) if name == "RAW" else int(rows[:, COUNT].sum())
    return {name: count for name, count in counted.items() if count}


def _write(writer: LogWriter, part: MergedPart) -> int:
    """Write definitions, or ticks, leaving out numbers for each GAP; return the ticks written."""
    if part.schema == Schema.INSTRUMENTS:
        writer.define(part.records)
        return 0
    ticks = part.records
    gaps = np.flatnonzero(ticks["kind"] == TickKind.GAP).tolist()
    at = 0
    for gap in gaps:
        writer.write_ticks(ticks[at:gap])
        writer.next_seq += max(1, int(ticks["size"][gap]))
        at = gap + 1
    writer.write_ticks(ticks[at:])
    return len(ticks) - len(gaps)


def _first_definitions(reader: LogReader) -> Instruments:
    """Return the first definition of each of a log's ids, shape (I,); damaged frames skipped."""
    table = np.zeros(len(reader.instruments), INSTRUMENT)
    unmet = np.ones(len(table), np.bool_)
    for place in np.flatnonzero(reader.frames[:, SCHEMA] == Schema.INSTRUMENTS).tolist():
        if not unmet.any():
            break
        segment = next(reader.segments(place, place + 1))
        try:
            rows = decode_frame(segment.wire.data, int(segment.offsets[0])).records
        except FrameError:
            continue
        new = rows[unmet[rows["id"]]]
        table[new["id"]] = new
        unmet[new["id"]] = False
    return table


def _in_order(sources: Sequence["_Source"]) -> Iterator[MergedPart]:
    heap: list[tuple[int, int]] = []
    for rank, source in enumerate(sources):
        if source.more():
            heap.append((source.ts, rank))
        else:
            yield from source.definitions()
    heapq.heapify(heap)
    while heap:
        _, rank = heapq.heappop(heap)
        source = sources[rank]
        yield from source.definitions()
        yield MergedPart(Schema.TICK, source.take(heap[0] if heap else None, rank))
        if source.more():
            heapq.heappush(heap, (source.ts, rank))
        else:
            yield from source.definitions()


class _Source:
    """One log: its ticks, taken from the front up to a time, and what it defines before them."""

    def __init__(
        self, reader: LogReader, decoder: BurstDecoder, new_ids: npt.NDArray[np.uint32]
    ) -> None:
        self._reader = reader
        self._decoder = decoder
        self._new_ids = new_ids
        self._batches = self._decode()
        self._defined: list[Instruments] = []
        self._ticks: Ticks = np.zeros(0, TICK)
        self._times = np.zeros(0, np.int64)
        self._at = 0
        self._latest = 0

    @property
    def ts(self) -> int:
        """Receive time the next tick stands at; ``more`` must have said yes."""
        return int(self._times[self._at])

    def more(self) -> bool:
        """Whether there is a next tick; reads on if need be."""
        while self._at == len(self._ticks):
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._load(batch)
        return True

    def definitions(self) -> Iterator[MergedPart]:
        """Take the definitions read since the last tick that was taken."""
        defined, self._defined = self._defined, []
        return (MergedPart(Schema.INSTRUMENTS, rows) for rows in defined)

    def take(self, other: tuple[int, int] | None, rank: int) -> Ticks:
        """Take the ticks of this batch that come before the next one of another log."""
        end = len(self._ticks)
        if other is not None:
            side: Final = "right" if rank < other[1] else "left"
            end = self._at + int(np.searchsorted(self._times[self._at :], other[0], side=side))
        part = self._ticks[self._at : end]
        self._at = end
        return part

    def _decode(self) -> Iterator[Ticks]:
        decoder = self._decoder
        for wire, offsets, lengths, _file in self._reader.segments():
            at, stop = 0, len(offsets)
            while at < stop:
                segment = decoder.decode(wire, offsets, lengths, at, stop)
                at += segment.consumed
                if segment.schema == Schema.INSTRUMENTS:
                    self._learn(decode_frame(wire.data, int(offsets[at - 1])).records)
                elif segment.schema == Schema.TICK:
                    yield decoder.ticks[: segment.count]

    def _learn(self, instruments: Instruments) -> None:
        known = max(self._decoder.known_instruments, id_bound(instruments))
        self._decoder.known_instruments = known
        if len(instruments):
            rows = instruments.copy()
            rows["id"] = self._new_ids[rows["id"]]
            self._defined.append(rows)

    def _load(self, batch: Ticks) -> None:
        self._ticks = batch.copy()
        self._at = 0
        own = self._ticks["instrument"] != ALL_INSTRUMENTS
        self._ticks["instrument"][own] = self._new_ids[self._ticks["instrument"][own]]
        self._times = np.maximum(np.maximum.accumulate(self._ticks["ts_recv"]), self._latest)
        if len(self._times):
            self._latest = int(self._times[-1])
