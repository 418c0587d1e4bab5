"""Logs decoded once, for any number of backtests over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import INSTRUMENT, RECORD_DTYPES, Instruments, Schema, id_bound
from feeds.burst import ORIGIN
from feeds.log_reader import LogReader
from replay.bursts import Burst, LogBursts, MergedBursts, count_records

MAX_BYTES: Final = 16 << 30
"""Most memory that decoded records may take."""

_BURST: Final = 1 << 16
_SCHEMAS: Final = (Schema.TICK, Schema.BAR)

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Segment:
    """Records between two changes of definitions or of schema.

    Attributes:
        definitions: INSTRUMENT that take effect before it.
        schema: TICK or BAR.
        records: Shape (N,), in order of arrival.
        origins: ORIGIN, shape (N,); ``ts_send`` holds the record's row.
    """

    definitions: Instruments
    schema: Schema
    records: npt.NDArray[np.void]
    origins: npt.NDArray[np.void]


@dataclass(frozen=True)
class Prepared:
    """Decoded logs, whole in memory: 120 bytes a tick, 200 a bar. Nobody writes to them.

    Attributes:
        segments: In order.
        instruments: The last definition of each, INSTRUMENT, shape (I,), by id.
        records: How many records there are.
        first_ns: Receive time of the first.
        last_ns: Of the last.
        bad_input: What was refused in the logs, by reason.
    """

    segments: tuple[Segment, ...]
    instruments: Instruments
    records: int
    first_ns: int
    last_ns: int
    bad_input: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, logs: Sequence[Path], progress: Progress | None = None) -> Self:
        """Read and decode logs; several tick logs are brought together by time.

        Args:
            logs: At least one.
            progress: Called with records done, now and then.

        Raises:
            InputFileError: a log that is missing, holds no record, is not in order of time, or
                holds what another one holds too; or together they are too large.
            LogError: a log that is damaged beyond a torn tail.
        """
        readers = [LogReader(path) for path in logs]
        try:
            return cls(**_Decoding(readers, progress).facts())
        finally:
            for reader in readers:
                reader.close()

    @property
    def has_bars(self) -> bool:
        """Whether recorded bars are among the records."""
        return any(segment.schema == Schema.BAR for segment in self.segments)


class _Room:
    """Room for all records of a schema, filled from the front and cut into segments.

    Args:
        schema: TICK or BAR.
        count: Records there are; gaps add a few, for which what is not cut yet moves elsewhere.
    """

    def __init__(self, schema: Schema, count: int) -> None:
        self._records = np.empty(count, RECORD_DTYPES[schema])
        self._origins = np.empty(count, ORIGIN)
        self._begin = self._end = 0

    def add(self, burst: Burst) -> None:
        """Take a burst's records."""
        begin, end = self._end, self._end + burst.size
        if end > len(self._records):
            begin, end = self._move(burst.size)
        self._records[begin:end] = burst.records[: burst.size]
        self._origins[begin:end] = burst.origins[: burst.size]
        self._end = end

    def _move(self, more: int) -> tuple[int, int]:
        """Go on in new room of half the size again; return where so many more records go."""
        size, (records, origins) = len(self._records), self.cut()
        self._records = np.empty(size // 2 + len(records) + more, records.dtype)
        self._origins = np.empty(len(self._records), ORIGIN)
        self._records[: len(records)], self._origins[: len(records)] = records, origins
        self._begin, self._end = 0, len(records) + more
        return len(records), self._end

    def cut(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return the records and origins taken since the last cut."""
        taken = slice(self._begin, self._end)
        self._begin = self._end
        return self._records[taken], self._origins[taken]


class _Decoding:
    """One pass over the logs."""

    def __init__(self, readers: Sequence[LogReader], progress: Progress | None) -> None:
        self.readers = readers
        self.path = readers[0].path
        self.progress = progress
        self.instruments: Instruments = np.zeros(0, INSTRUMENT)
        self.pending: list[Instruments] = []
        self.counts = {
            schema: sum(count_records(reader, schema) for reader in readers) for schema in _SCHEMAS
        }
        self.rooms: dict[Schema, _Room] = {}
        self.schema = Schema.TICK
        self.segments: list[Segment] = []
        self.done = 0

    def facts(self) -> dict[str, Any]:
        total = sum(self.counts.values())
        if not total:
            raise InputFileError(self.path, "it holds no tick and no bar")
        self._check_size()
        bursts = self._bursts()
        for burst in bursts:
            self._take(burst)
        self._finish()
        if not self.segments:
            raise InputFileError(self.path, f"none of its {total} records can be used")
        times = [segment.records["ts_recv"] for segment in self.segments]
        self._check_order(times)
        return {
            "segments": tuple(self.segments),
            "instruments": self.instruments,
            "records": self.done,
            "first_ns": int(times[0][0]),
            "last_ns": int(times[-1][-1]),
            "bad_input": bursts.faults(),
        }

    def _check_size(self) -> None:
        """Refuse logs that would take more memory than a backtest may."""
        needed = sum(
            count * (RECORD_DTYPES[schema].itemsize + ORIGIN.itemsize)
            for schema, count in self.counts.items()
        )
        if needed > MAX_BYTES:
            raise InputFileError(
                self.path,
                f"its records take {needed} bytes of memory and {MAX_BYTES} are allowed; "
                "backtest a part of it at a time",
            )

    def _bursts(self) -> LogBursts | MergedBursts:
        if len(self.readers) == 1:
            return LogBursts(self.readers[0], _BURST, self._define)
        return MergedBursts(self.readers, self._define)

    def _define(self, definitions: Instruments) -> None:
        self._finish()
        self.pending.append(definitions.copy())
        grown = np.zeros(max(len(self.instruments), id_bound(definitions)), INSTRUMENT)
        grown[: len(self.instruments)] = self.instruments
        grown[definitions["id"]] = definitions
        self.instruments = grown

    def _take(self, burst: Burst) -> None:
        if burst.schema != self.schema:
            self._finish()
            self.schema = burst.schema
        if self.schema not in self.rooms:
            self.rooms[self.schema] = _Room(self.schema, self.counts[self.schema])
        self.rooms[self.schema].add(burst)
        self.done += burst.size
        if self.progress is not None:
            self.progress(self.done)

    def _finish(self) -> None:
        """Make one segment of what has come since the last definitions or the last schema."""
        if self.schema not in self.rooms:
            return
        records, origins = self.rooms[self.schema].cut()
        if not len(records):
            return
        origins["ts_send"] = np.arange(len(origins))
        none = np.zeros(0, INSTRUMENT)
        definitions = np.concatenate([none, *self.pending])
        self.segments.append(Segment(definitions, self.schema, records, origins))
        self.pending = []

    def _check_order(self, times: Sequence[npt.NDArray[np.int64]]) -> None:
        """Refuse records that were received before those that stand before them."""
        row, latest = 0, times[0][0]
        for of_segment in times:
            back = np.flatnonzero(np.diff(of_segment, prepend=latest) < 0)
            if len(back):
                place = row + int(back[0]) + 1
                raise InputFileError(
                    self.path,
                    f"record {place} was received before the one before it; a backtest needs "
                    "records in order of time: import the data again",
                )
            row, latest = row + len(of_segment), of_segment[-1]
