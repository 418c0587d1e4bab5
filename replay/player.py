"""Plays recordings through the pipeline: as fast as it goes, or at recorded gaps, scaled."""

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.clock import TickClock
from engine.composition import Blueprint, build_pipeline
from engine.core.records import Schema, TickKind
from engine.core.signals import Signal
from feeds.log_reader import LogReader
from latency.counts import StageSummary
from latency.histogram import StageHistograms
from latency.stages import Stage, model_stage
from replay.bursts import Burst, LogBursts, MergedBursts, count_instruments, count_records
from replay.digest import Collector
from replay.pacing import Pacer

_HEARTBEAT: Final = int(TickKind.HEARTBEAT)
_GAP: Final = int(TickKind.GAP)
_COMPUTE: Final = int(Stage.COMPUTE)
_INGEST: Final = int(Stage.INGEST)
_WIRE: Final = int(Stage.WIRE)
RANDOM_BURSTS: Final = 0
"""Value of ``Options.burst`` for bursts of random sizes."""
Take = Callable[[npt.NDArray[np.void], npt.NDArray[np.void], int, int], int]


@dataclass(frozen=True, slots=True)
class Options:
    """How to play.

    Attributes:
        pace: Recorded seconds a second; infinity for as fast as it goes.
        burst: Ticks of one kernel call; None for what the log gives, RANDOM_BURSTS for random.
        seed: Of random bursts.
        keep: Called with every signal.
        progress: Called with records done, now and then.
    """

    pace: float = math.inf
    burst: int | None = None
    seed: int = 1
    keep: Callable[[Signal], None] | None = None
    progress: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Result:
    """What came of a replay; ``as_dict`` is what ``--json`` prints.

    ``depth_records`` were passed over: no indicator or rule reads them.
    Latencies are true times, on whatever clock the replay judges. A model's stage ``inference`` is
    how long its runs took, which the virtual clock does not see.
    """

    ticks: int
    heartbeats: int
    bar_records: int
    depth_records: int
    bars: int
    bars_by_spec: dict[str, int]
    signals: int
    signals_by_strategy: dict[str, int]
    refusals: dict[str, int]
    gaps: int
    missing: int
    bad_input: dict[str, int]
    strategy_failures: dict[str, int]
    unmatched_strategies: list[str]
    digest: str
    wall_s: float
    latency: dict[str, StageSummary] = field(default_factory=dict)

    @property
    def records_per_s(self) -> float:
        """Market ticks, heartbeats and recorded bars a second of wall time."""
        return (self.ticks + self.heartbeats + self.bar_records) / max(self.wall_s, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; latencies in nanoseconds."""
        return {**asdict(self), "ticks_per_s": self.records_per_s}


class PacedClock(TickClock):
    """Judges as a replay, measures against the schedule, which stands in ``ts_intended``."""

    def total_ns(self, ts_intended_ns: int, burst_started_ns: int) -> int:
        """Return how long ago the tick was due; monotonic."""
        return time.perf_counter_ns() - ts_intended_ns


def play(logs: Sequence[Path], blueprint: Blueprint, options: Options | None = None) -> Result:
    """Play logs through the pipeline that a configuration describes.

    Several logs are played in the time order of their records, as their merged log would be.

    Args:
        logs: Tick logs, at least one.
        blueprint: The configuration, resolved.
        options: How to play.

    Raises:
        InputFileError: a log that is missing, or several that cannot be merged, see
            ``MergedBursts``.
        LogError: a log that is damaged beyond a torn tail.
    """
    options = options or Options()
    readers = [LogReader(path) for path in logs]
    try:
        return _Player(readers, blueprint, options).run()
    finally:
        for reader in readers:
            reader.close()


class _Player:
    """One replay, from the first record to the result."""

    def __init__(
        self, readers: Sequence[LogReader], blueprint: Blueprint, options: Options
    ) -> None:
        self.options = options
        self.paced = math.isfinite(options.pace)
        self.pacer = Pacer(options.pace)
        self.collector = Collector(options.keep)
        self.histograms = StageHistograms()
        self.random = random.Random(options.seed)
        self.heartbeats = self.gap_rows = self.missing = self.bar_records = self.done = 0
        self.pipeline = build_pipeline(
            blueprint,
            capacity=max(1, count_instruments(readers)),
            sink=self.collector,
            clock=PacedClock() if self.paced else TickClock(),
            histograms=self.histograms,
            bars=any(count_records(reader, Schema.BAR) for reader in readers),
        )
        self.bursts: LogBursts | MergedBursts
        if len(readers) == 1:
            burst = blueprint.config.engine.burst
            self.bursts = LogBursts(readers[0], burst, self.pipeline.define)
        else:
            self.bursts = MergedBursts(readers, self.pipeline.define)

    def run(self) -> Result:
        """Play to the end.

        What happens once, whatever the length of the log, is not part of the time: the kernel, the
        definitions that open the log, which come with its first burst, and the first calendar.
        """
        host = self.pipeline.host
        host.start()
        bursts = iter(self.bursts)
        first = next(bursts, None)
        if first is not None:
            self.pipeline.gate.warm(int(first.records["ts_recv"][0]))
        started = mark = time.perf_counter_ns()
        for burst in itertools.chain([first] if first else [], bursts):
            self.histograms.record_repeat(_INGEST, time.perf_counter_ns() - mark, burst.size)
            self._count(burst)
            self._play(burst)
            self.done += burst.size
            if self.options.progress is not None:
                self.options.progress(self.done)
            mark = time.perf_counter_ns()
        wall_s = (time.perf_counter_ns() - started) / 1e9
        host.stop()
        return self._result(wall_s)

    def _count(self, burst: Burst) -> None:
        if burst.schema == Schema.BAR:
            self.bar_records += burst.size
            return
        kinds = burst.records["kind"][: burst.size].copy()
        self.heartbeats += int(np.count_nonzero(kinds == _HEARTBEAT))
        gaps = np.flatnonzero(kinds == _GAP)
        if len(gaps):
            self.gap_rows += len(gaps)
            self.missing += int(burst.records["size"][gaps].sum())

    def _play(self, burst: Burst) -> None:
        take = self.pipeline.run_bars if burst.schema == Schema.BAR else self.pipeline.run_ticks
        if self.paced:
            self._play_paced(burst, take)
            return
        at = 0
        while at < burst.size:
            stop = min(burst.size, at + self._size(burst.size))
            compute_ns = take(burst.records, burst.origins, at, stop)
            self.histograms.record_repeat(_COMPUTE, compute_ns, stop - at)
            at = stop

    def _size(self, count: int) -> int:
        if self.options.burst is None:
            return count
        return self.options.burst or self.random.randint(1, 5000)

    def _play_paced(self, burst: Burst, take: Take) -> None:
        """Hand over what is due, all of it at once if we are late, and never what is not."""
        due = [self.pacer.due_ns(ts) for ts in burst.records["ts_recv"][: burst.size].tolist()]
        schedule = np.array(due, np.int64)
        burst.origins["ts_intended"][: burst.size] = schedule
        at = 0
        while at < burst.size:
            now = self.pacer.wait_until(due[at])
            ready = int(np.searchsorted(schedule[at:], now, side="right")) + at
            stop = min(max(ready, at + 1), at + self._size(burst.size))
            self.histograms.record_spans(_WIRE, now, schedule[at:stop], stop - at)
            compute_ns = take(burst.records, burst.origins, at, stop)
            self.histograms.record_repeat(_COMPUTE, compute_ns, stop - at)
            at = stop

    def _result(self, wall_s: float) -> Result:
        pipeline, collector = self.pipeline, self.collector
        bars = pipeline.kernel.bars_closed()
        return Result(
            ticks=self.done - self.heartbeats - self.gap_rows - self.bar_records,
            heartbeats=self.heartbeats,
            bar_records=self.bar_records,
            depth_records=self.bursts.depth_records(),
            bars=sum(bars.values()),
            bars_by_spec=bars,
            signals=collector.signals,
            signals_by_strategy=dict(sorted(collector.signals_by_strategy.items())),
            refusals=dict(sorted(collector.refusals.items())),
            gaps=self.gap_rows,
            missing=self.missing,
            bad_input=self.bursts.faults(),
            strategy_failures=pipeline.host.failures(),
            unmatched_strategies=pipeline.unmatched() if pipeline.symbols else [],
            digest=collector.digest(),
            wall_s=wall_s,
            latency={**self.histograms.summary(), **self._model_latency()},
        )

    def _model_latency(self) -> dict[str, StageSummary]:
        """Return how long models ran, by ``inference:MODEL@DEVICE``; nothing queues in a replay."""
        desk = self.pipeline.desk
        if desk is None:
            return {}
        return {
            model_stage(stage, model, device): summary
            for (model, device), histograms in desk.inference.histograms().items()
            for stage, summary in histograms.summary().items()
            if summary.count
        }
