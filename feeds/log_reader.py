"""Reads tick logs through memory maps: an index of frames, seeking, and the bytes as they are.

A torn tail is left out and counted; damage in the middle is stepped over. What a frame holds is
checked when it is decoded (``feeds.burst``).
"""

from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from engine.core.errors import LogError
from engine.core.records import INSTRUMENT, SEQUENCED, Instruments, Schema, TickKind, Ticks
from feeds.burst import BurstDecoder
from feeds.log_counts import count_ticks_nb
from feeds.log_files import map_bytes, read_instruments, segments_of
from feeds.log_index import (
    COLUMNS,
    COUNT,
    EPOCH,
    FIRST_SEQ,
    LENGTH,
    OFFSET,
    SCHEMA,
    TS,
    Damage,
    FileIndex,
    check_numbers,
    index_file,
    numbered_frames,
)

__all__ = ["LogReader", "LogSegment", "TickBatch"]


class LogSegment(NamedTuple):
    """Frames of one file, ready for ``BurstDecoder.decode``."""

    wire: npt.NDArray[np.uint8]
    """The file's bytes, read-only."""
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    file: Path


class TickBatch(NamedTuple):
    """Decoded ticks with their origins; both are used again for the next batch."""

    ticks: Ticks
    origins: npt.NDArray[np.void]


class LogReader:
    """One log, a file or a directory of segments, opened for reading.

    Args:
        path: The log.

    Raises:
        InputFileError: there is no such file, or it cannot be opened.
        LogError: it is not a tick log, or holds no frame.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = segments_of(self.path)
        self._wires = [map_bytes(file) for file in self.files]
        self._indexes: list[FileIndex] = []
        self._starts = [0]
        self.instruments: Instruments = np.zeros(0, INSTRUMENT)
        """Every definition in the log; a later one replaces an earlier."""
        for file, wire in zip(self.files, self._wires, strict=True):
            index = index_file(file, wire)
            self._indexes.append(index)
            self._starts.append(self._starts[-1] + len(index.frames))
            self.instruments = read_instruments(file, wire, index.frames, self.instruments)
        self.frames: npt.NDArray[np.int64] = np.concatenate(
            [np.zeros((0, COLUMNS), np.int64), *(index.frames for index in self._indexes)]
        )
        """The frame table of all files, shape (N, COLUMNS); offsets are within their file."""
        if not len(self.frames):
            raise LogError(self.path, "holds no whole frame")
        self._latest_ts = np.maximum.accumulate(self.frames[:, TS])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; each is unmapped when the last view of it is gone."""
        self._wires = []

    @property
    def cut_bytes(self) -> int:
        """Bytes of torn tails left out, over all files."""
        return sum(index.torn_bytes for index in self._indexes)

    @property
    def damage(self) -> list[tuple[Path, Damage]]:
        """Stretches without a frame in the middle of files."""
        return [
            (file, damage)
            for file, index in zip(self.files, self._indexes, strict=True)
            for damage in index.damage
        ]

    @property
    def epochs(self) -> list[int]:
        """Epochs of the numbered frames, in the order they first appear."""
        return list(dict.fromkeys(numbered_frames(self.frames)[:, EPOCH].tolist()))

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(index.good_bytes + index.torn_bytes for index in self._indexes)

    def seek_seq(self, seq: int, epoch: int | None = None) -> int:
        """Return the first frame that holds ``seq`` or a later number.

        Args:
            seq: A sequence number.
            epoch: Of this epoch; the log's first by default.

        Returns:
            A place in ``frames``, ``len(frames)`` if there is none.
        """
        epochs = self.epochs
        if epoch is None and epochs:
            epoch = epochs[0]
        frames = self.frames
        found = np.flatnonzero(
            np.isin(frames[:, SCHEMA], list(SEQUENCED))
            & (frames[:, EPOCH] == (-1 if epoch is None else epoch))
            & (frames[:, FIRST_SEQ] + frames[:, COUNT] > seq)
        )
        return int(found[0]) if len(found) else len(frames)

    def seek_time(self, ts_recv: int) -> int:
        """Return the first frame with a record received at ``ts_recv`` ns or later.

        Returns:
            A place in ``frames``, ``len(frames)`` if there is none.
        """
        return int(np.searchsorted(self._latest_ts, ts_recv, side="left"))

    def segments(self, start: int = 0, stop: int | None = None) -> Iterator[LogSegment]:
        """Yield the frames from place ``start`` up to ``stop``, a segment for each file."""
        stop = len(self.frames) if stop is None else stop
        for k, (file, wire) in enumerate(zip(self.files, self._wires, strict=True)):
            first, last = self._starts[k], self._starts[k + 1]
            rows = self.frames[max(first, start) : min(last, stop)]
            if len(rows):
                yield LogSegment(
                    wire,
                    np.ascontiguousarray(rows[:, OFFSET]),
                    np.ascontiguousarray(rows[:, LENGTH]),
                    file,
                )

    def batches(
        self, start: int = 0, stop: int | None = None, decoder: BurstDecoder | None = None
    ) -> Iterator[TickBatch]:
        """Decode the ticks from place ``start`` up to ``stop``, GAP ticks where numbers miss.

        Args:
            start: First frame.
            stop: One past the last frame.
            decoder: Its counters tell what was refused; one is made by default.
        """
        decoder = decoder or BurstDecoder(len(self.instruments))
        for segment in self.segments(start, stop):
            at, end = 0, len(segment.offsets)
            while at < end:
                part = decoder.decode(segment.wire, segment.offsets, segment.lengths, at, end)
                at += part.consumed
                if part.schema == Schema.TICK:
                    yield TickBatch(decoder.ticks[: part.count], decoder.origins[: part.count])

    def summary(self) -> dict[str, Any]:
        """Say what is in the log, without decoding it: for people, and as JSON.

        Returns:
            ``files``, ``bytes``, ``torn_bytes``, ``damaged_bytes``, ``frames``, ``records`` by
            schema, ``ticks`` by kind, ``first_ts_recv`` and ``last_ts_recv`` (ns, None without
            records), ``first_seq``, ``last_seq``, ``epochs``, ``gaps``, ``missing_records``,
            ``duplicate_records`` and ``instruments`` (id, symbol, ticks).
        """
        frames = self.frames
        numbered = numbered_frames(self.frames)
        records: Tally[str] = Tally()
        for schema in np.unique(frames[:, SCHEMA]).tolist():
            of_schema = frames[frames[:, SCHEMA] == schema]
            raw = schema == Schema.RAW
            records[Schema(schema).name] = len(of_schema) if raw else int(of_schema[:, COUNT].sum())
        kinds, by_instrument = self._count_ticks()
        gaps, duplicates = check_numbers(numbered)
        return {
            "path": str(self.path),
            "files": len(self.files),
            "bytes": self.size_bytes,
            "torn_bytes": self.cut_bytes,
            "damaged_bytes": sum(damage.length for _, damage in self.damage),
            "frames": len(frames),
            "records": dict(records),
            "ticks": {TickKind(i).name: n for i, n in enumerate(kinds[: len(TickKind)]) if n},
            "first_ts_recv": self._first_ts(),
            "last_ts_recv": int(numbered[:, TS].max()) if len(numbered) else None,
            "first_seq": int(numbered[0, FIRST_SEQ]) if len(numbered) else None,
            "last_seq": int(numbered[-1, FIRST_SEQ] + numbered[-1, COUNT] - 1)
            if len(numbered)
            else None,
            "epochs": self.epochs,
            "gaps": len(gaps),
            "missing_records": sum(gap.missing for gap in gaps),
            "duplicate_records": duplicates,
            "instruments": [
                {"id": i, "symbol": symbol.decode(), "ticks": by_instrument[i]}
                for i, symbol in enumerate(self.instruments["symbol"].tolist())
            ],
        }

    def _first_ts(self) -> int | None:
        numbered = np.flatnonzero(np.isin(self.frames[:, SCHEMA], list(SEQUENCED)))
        if not len(numbered):
            return None
        place = int(numbered[0])
        segment = next(self.segments(place, place + 1))
        schema = int(self.frames[place, SCHEMA])
        at = int(segment.offsets[0]) + 64 + (16 if schema == Schema.BAR else 8)
        return int(segment.wire[at : at + 8].view(np.int64)[0])

    def _count_ticks(self) -> tuple[list[int], list[int]]:
        kinds = np.zeros(256, np.int64)
        instruments = np.zeros(len(self.instruments), np.int64)
        for wire, index in zip(self._wires, self._indexes, strict=True):
            rows = index.frames[index.frames[:, SCHEMA] == Schema.TICK]
            offsets = np.ascontiguousarray(rows[:, OFFSET])
            count_ticks_nb(kinds, instruments, wire, offsets, np.ascontiguousarray(rows[:, COUNT]))
        return kinds.tolist(), instruments.tolist()
