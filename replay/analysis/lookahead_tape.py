"""A log decoded once and kept in memory.

Many runs can be made of it, and of what it might have been from some record on.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import BAR, TICK, Bars, Instruments, Schema, Ticks
from feeds.burst import ORIGIN
from feeds.log_reader import LogReader
from replay.bursts import Burst, LogBursts, MergedBursts, count_instruments, count_records

MAX_RECORDS: Final = 20_000_000
"""Most records that are kept; each takes 120 to 200 bytes."""

Origins = npt.NDArray[np.void]
"""ORIGIN records, shape (N,)."""


class Span(NamedTuple):
    """A burst of the log: records ``start`` to ``stop - 1`` of its schema; or definitions."""

    schema: Schema
    start: int
    stop: int
    defined: Instruments


@dataclass(frozen=True)
class Tape:
    """Everything that the decoder made of a log, in order.

    Attributes:
        ticks: TICK, shape (T,).
        bars: BAR, shape (B,).
        tick_origins: Of the ticks, shape (T,).
        bar_origins: Of the bars, shape (B,).
        spans: The order they came in, with definitions between them.
        capacity: One more than the highest instrument id.
        symbols: By instrument id.
        bad_input: What is wrong with the log, by reason.
    """

    ticks: Ticks
    bars: Bars
    tick_origins: Origins
    bar_origins: Origins
    spans: tuple[Span, ...]
    capacity: int
    symbols: tuple[str, ...]
    bad_input: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self.ticks) + len(self.bars)

    def of(self, schema: Schema) -> npt.NDArray[np.void]:
        """Return the records of TICK or BAR."""
        return self.bars if schema == Schema.BAR else self.ticks

    def origins_of(self, schema: Schema) -> Origins:
        """Return the origins of TICK or BAR."""
        return self.bar_origins if schema == Schema.BAR else self.tick_origins

    def split(self, cut: int) -> tuple[int, int]:
        """Return how many ticks and bars are among the first ``cut`` records."""
        ticks = bars = 0
        for span in self.spans:
            left = cut - ticks - bars
            if span.schema == Schema.INSTRUMENTS or left <= 0:
                continue
            count = min(left, span.stop - span.start)
            if span.schema == Schema.BAR:
                bars += count
            else:
                ticks += count
        return ticks, bars

    def with_records(self, ticks: Ticks, bars: Bars) -> "Tape":
        """Return the same tape with other records, of the same number and in the same places."""
        return replace(self, ticks=ticks, bars=bars)

    def order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the place in the log of each tick and of each bar, shapes (T,) and (B,)."""
        ticks = np.zeros(len(self.ticks), np.int64)
        bars = np.zeros(len(self.bars), np.int64)
        at = 0
        for span in self.spans:
            if span.schema == Schema.INSTRUMENTS:
                continue
            places = bars if span.schema == Schema.BAR else ticks
            count = span.stop - span.start
            places[span.start : span.stop] = np.arange(at, at + count)
            at += count
        return ticks, bars


def load_tape(paths: Sequence[Path], burst: int, limit: int | None = None) -> Tape:
    """Decode a log, or several in time order, as a replay would.

    Args:
        paths: Tick logs, at least one.
        burst: Most records of a burst.
        limit: Stop after so many records, gaps among them; None for all.

    Raises:
        InputFileError: a log that is missing, holds no record or what another one holds too, or is
            too long to be kept.
        LogError: a log that is damaged beyond a torn tail.
    """
    readers = [LogReader(path) for path in paths]
    try:
        total = sum(count_records(reader, Schema.TICK, Schema.BAR) for reader in readers)
        wanted = sys.maxsize if limit is None else limit
        if min(total, wanted) > MAX_RECORDS:
            problem = f"its {total} records are more than {MAX_RECORDS}; take a part with --limit"
            raise InputFileError(paths[0], problem)
        made = _Loader(readers, burst, wanted).run()
    finally:
        for reader in readers:
            reader.close()
    if not len(made):
        raise InputFileError(paths[0], "it holds no tick and no bar")
    return made


class _Loader:
    """Copies bursts and definitions out of a log, up to a number of records."""

    def __init__(self, readers: Sequence[LogReader], burst: int, limit: int) -> None:
        self._spans: list[Span] = []
        self._parts: dict[Schema, list[npt.NDArray[np.void]]] = {Schema.TICK: [], Schema.BAR: []}
        self._origins: dict[Schema, list[Origins]] = {Schema.TICK: [], Schema.BAR: []}
        self._counts = {Schema.TICK: 0, Schema.BAR: 0}
        self._limit = limit
        self._symbols: dict[int, str] = {}
        self._capacity = max(1, count_instruments(readers))
        self._bursts: LogBursts | MergedBursts
        if len(readers) == 1:
            self._bursts = LogBursts(readers[0], burst, self._define)
        else:
            self._bursts = MergedBursts(readers, self._define)

    def run(self) -> Tape:
        for burst in self._bursts:
            left = self._limit - sum(self._counts.values())
            if left <= 0:
                break
            self._take(burst, min(left, burst.size))
        return Tape(
            ticks=self._joined(self._parts[Schema.TICK], TICK),
            bars=self._joined(self._parts[Schema.BAR], BAR),
            tick_origins=self._joined(self._origins[Schema.TICK], ORIGIN),
            bar_origins=self._joined(self._origins[Schema.BAR], ORIGIN),
            spans=tuple(self._spans),
            capacity=self._capacity,
            symbols=tuple(self._symbols.get(i, "") for i in range(self._capacity)),
            bad_input=self._bursts.faults(),
        )

    def _define(self, instruments: Instruments) -> None:
        rows = instruments.copy()
        self._symbols |= {int(row["id"]): row["symbol"].decode() for row in rows}
        self._spans.append(Span(Schema.INSTRUMENTS, 0, 0, rows))

    def _take(self, burst: Burst, count: int) -> None:
        start = self._counts[burst.schema]
        self._counts[burst.schema] = start + count
        self._parts[burst.schema].append(burst.records[:count].copy())
        self._origins[burst.schema].append(burst.origins[:count].copy())
        self._spans.append(Span(burst.schema, start, start + count, burst.records[:0]))

    @staticmethod
    def _joined(
        parts: Sequence[npt.NDArray[np.void]], dtype: np.dtype[np.void]
    ) -> npt.NDArray[np.void]:
        return np.concatenate([np.zeros(0, dtype), *parts])
