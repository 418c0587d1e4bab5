"""Merges logs in time order: by receive time, and where that is equal by the order given.

Instruments are brought together by symbol; ticks are numbered anew from 1 in the first log's
epoch. Where a log lacks records, the merged log lacks as many numbers, at least one. Bars, depth
and raw frames are left out.
"""

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import LogError
from engine.core.records import (
    ALL_INSTRUMENTS,
    INSTRUMENT,
    MAX_INSTRUMENTS,
    TICK,
    Instruments,
    TickKind,
    Ticks,
)
from feeds.burst import BurstDecoder
from feeds.log_reader import LogReader, TickBatch
from feeds.log_writer import LogWriter

__all__ = ["merge_logs", "merged_instruments", "merged_ticks"]

_MERGED_GATEWAY: Final = 1


def merged_instruments(
    readers: Sequence[LogReader],
) -> tuple[Instruments, list[npt.NDArray[np.uint32]]]:
    """Bring the logs' instruments together by symbol, in the order they first appear.

    The last definition of a symbol counts.

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
        for i, row in enumerate(reader.instruments):
            new_id = ids.setdefault(bytes(row["symbol"]), len(ids))
            if new_id == len(rows):
                rows.append(row)
            else:
                rows[new_id] = row
            new_ids[i] = new_id
        maps.append(new_ids)
    if len(rows) > MAX_INSTRUMENTS:
        raise LogError(readers[-1].path, f"{len(rows)} instruments together are too many")
    table = np.array(rows, INSTRUMENT) if rows else np.zeros(0, INSTRUMENT)
    table["id"] = np.arange(len(table))
    return table, maps


def merged_ticks(
    readers: Sequence[LogReader], decoders: Sequence[BurstDecoder] | None = None
) -> Iterator[Ticks]:
    """Yield the logs' ticks in time order, instruments as ``merged_instruments`` numbers them.

    A log whose receive times step back is merged by the latest time it has reached. GAP ticks
    stand where a log lacks records.

    Args:
        readers: The logs.
        decoders: One a log, whose counters tell what was refused; made by default.

    Yields:
        TICK, shape (N,), N >= 1; arrays of their own.
    """
    _, maps = merged_instruments(readers)
    decoders = decoders or [BurstDecoder(len(reader.instruments)) for reader in readers]
    sources = [
        _TimedTicks(reader.batches(decoder=decoder), new_ids)
        for reader, decoder, new_ids in zip(readers, decoders, maps, strict=True)
    ]
    heap = [(source.ts, rank) for rank, source in enumerate(sources) if source.more()]
    heapq.heapify(heap)
    while heap:
        _, rank = heapq.heappop(heap)
        source = sources[rank]
        part = source.take(heap[0] if heap else None, rank)
        yield part
        if source.more():
            heapq.heappush(heap, (source.ts, rank))


def merge_logs(paths: Sequence[str | Path], out: str | Path, *, overwrite: bool = False) -> int:
    """Write the merged log; return its number of ticks.

    Raises:
        InputFileError: a log is missing.
        LogError: a file is not a tick log, or ``out`` exists and may not be overwritten.
    """
    readers = [LogReader(path) for path in paths]
    table, _ = merged_instruments(readers)
    epochs = readers[0].epochs
    with LogWriter(
        out, table, gateway=_MERGED_GATEWAY, epoch=epochs[0] if epochs else 0, overwrite=overwrite
    ) as writer:
        return sum(_write(writer, ticks) for ticks in merged_ticks(readers))


def _write(writer: LogWriter, ticks: Ticks) -> int:
    """Write ticks, leaving out numbers for each GAP; return how many were written."""
    gaps = np.flatnonzero(ticks["kind"] == TickKind.GAP).tolist()
    at = 0
    for gap in gaps:
        writer.write_ticks(ticks[at:gap])
        writer.next_seq += max(1, int(ticks["size"][gap]))
        at = gap + 1
    writer.write_ticks(ticks[at:])
    return len(ticks) - len(gaps)


class _TimedTicks:
    """One log's ticks, taken from the front up to a time."""

    def __init__(self, batches: Iterator[TickBatch], new_ids: npt.NDArray[np.uint32]) -> None:
        self._batches = batches
        self._new_ids = new_ids
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
            self._load(batch.ticks)
        return True

    def take(self, other: tuple[int, int] | None, rank: int) -> Ticks:
        """Take the ticks of this batch that come before the next one of another log."""
        end = len(self._ticks)
        if other is not None:
            side: Final = "right" if rank < other[1] else "left"
            end = self._at + int(np.searchsorted(self._times[self._at :], other[0], side=side))
        part = self._ticks[self._at : end]
        self._at = end
        return part

    def _load(self, batch: Ticks) -> None:
        self._ticks = batch.copy()
        self._at = 0
        own = self._ticks["instrument"] != ALL_INSTRUMENTS
        self._ticks["instrument"][own] = self._new_ids[self._ticks["instrument"][own]]
        self._times = np.maximum(np.maximum.accumulate(self._ticks["ts_recv"]), self._latest)
        if len(self._times):
            self._latest = int(self._times[-1])
