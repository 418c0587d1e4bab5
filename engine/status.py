"""What the engine tells of itself: health, rates, stage percentiles, every counter."""

import os
import time
from collections.abc import Mapping
from typing import Any, Final

import psutil

from engine.guard import Guard
from engine.ingest import Ingest
from engine.journal import Journal
from engine.latency_log import LatencyLog
from engine.link_recovery import LinkRecovery
from engine.model_control import ModelControl
from engine.recording_retention import RecordingRetention
from engine.restart import Restart
from engine.risk.rules import RiskState
from engine.sinks import LiveSink
from engine.snapshot_keeper import SnapshotKeeper
from engine.stream import Health, SignalStream
from feeds.control_client import ControlClient
from feeds.link import TickReceiver
from latency.counts import StageSummary
from latency.histogram import StageHistograms
from latency.stall import LoopWatch

DATA_SILENCE_NS: Final = 5_000_000_000
"""Without a frame, heartbeats included, for so long the engine is not healthy."""


class StatusBoard:
    """Reads everybody's counters; owned by the loop thread. Changes nothing of theirs.

    Args:
        ingest: The duty cycle.
        sink: Takes signals, refusals and events.
        journal: Keeps them.
        stream: Sends signals to clients.
        histograms: The stages.
        watch: How late the loop's turns are.
        latency_log: Writes the stages down.
        models: Models at work; None without models.
        failures: Gets a text for each background task that ends by itself.
    """

    def __init__(
        self,
        *,
        ingest: Ingest,
        sink: LiveSink,
        journal: Journal,
        stream: SignalStream,
        histograms: StageHistograms,
        watch: LoopWatch,
        latency_log: LatencyLog,
        models: ModelControl | None = None,
        failures: list[str] | None = None,
    ) -> None:
        self._ingest = ingest
        self._sink = sink
        self._journal = journal
        self._stream = stream
        self._histograms = histograms
        self._watch = watch
        self._latency_log = latency_log
        self._models = models
        self.failures = [] if failures is None else failures
        """Background tasks that ended by themselves, each with its error."""
        self._process = psutil.Process(os.getpid())
        self._started_ns = time.perf_counter_ns()
        self._before = (self._started_ns, 0, 0)
        self.control: ControlClient | None = None
        self.receiver: TickReceiver | None = None
        self.guard: Guard | None = None
        self.recovery: LinkRecovery | None = None
        self.restart: Restart | None = None
        self.keeper: SnapshotKeeper | None = None
        self.retention: RecordingRetention | None = None

    def problems(self) -> list[str]:
        """Return what keeps the engine from being healthy, most urgent first."""
        found = []
        gate = self._ingest.pipeline.gate
        if self._ingest.faults:
            found.append(f"the duty cycle failed {self._ingest.faults} times")
        found += filter(None, [self._ingest.refused_definitions])
        if self._journal.alarm:
            found.append(f"journal: {self._journal.alarm}")
        if self.control is None or not self.control.peer_alive:
            found.append("the gateway is not heard")
        found += self._behind()
        found += [] if self.recovery is None else self.recovery.problems(time.monotonic_ns())
        if gate.state is not RiskState.ACTIVE:
            found.append(f"the risk gate is {gate.state.value}")
        found += [*gate.problems, *self._unmatched(), *self._silent()]
        recorder = self._ingest.recorder
        if recorder is not None and recorder.failed:
            found.append(f"recording ended: {recorder.failed}")
        found += self._at_the_door()
        if self._latency_log.failed:
            found.append(f"latency log ended: {self._latency_log.failed}")
        found += [] if self.guard is None else self.guard.problems()
        found += [f"a background task failed: {failure}" for failure in self.failures]
        return found

    def _behind(self) -> list[str]:
        found, last = [], self._ingest.last_data_ns
        if self.restart is not None and not self.restart.live:
            found.append("it has not caught up yet")
        if not last:
            found.append("no data yet")
        elif time.perf_counter_ns() - last > DATA_SILENCE_NS:
            found.append("no data lately")
        return found

    def _at_the_door(self) -> list[str]:
        keys = self.receiver.problem if self.receiver is not None else ""
        return [*self._stream.problems, *([f"keys: {keys}"] if keys else [])]

    def _unmatched(self) -> list[str]:
        pipeline = self._ingest.pipeline
        names = pipeline.unmatched() if pipeline.symbols else []
        return [f"strategy {name}: its patterns match no instrument" for name in names]

    def _silent(self) -> list[str]:
        return [] if self._models is None else self._models.problems()

    def health(self) -> Health:
        """Answer ``GET /health``."""
        problems = self.problems()
        pipeline = self._ingest.pipeline
        facts = {
            "healthy": not problems,
            "problems": problems,
            "uptime_s": (time.perf_counter_ns() - self._started_ns) / 1e9,
            "ticks": pipeline.ticks,
            "signals": pipeline.signals,
            "state": pipeline.gate.state.value,
        }
        return Health(not problems, facts)

    def status(self) -> dict[str, Any]:
        """Return the facts of the moment; rates are since the last call."""
        pipeline, now = self._ingest.pipeline, time.perf_counter_ns()
        then, ticks, bursts = self._before
        self._before = (now, pipeline.ticks, self._ingest.bursts)
        seconds = max((now - then) / 1e9, 1e-9)
        problems = self.problems()
        return {
            "healthy": not problems,
            "problems": problems,
            "state": pipeline.gate.state.value,
            "uptime_s": (now - self._started_ns) / 1e9,
            "instruments": len(pipeline.symbols),
            "ticks": pipeline.ticks,
            "ticks_per_s": (pipeline.ticks - ticks) / seconds,
            "bursts_per_s": (self._ingest.bursts - bursts) / seconds,
            "bars": pipeline.kernel.bars_closed(),
            "signals": pipeline.signals,
            "refused": pipeline.judge.refused,
            "void": pipeline.judge.void,
            "refusals": dict(self._sink.refusals),
            "input": self._ingest.decoder.count_by_name(),
            "recovery": {} if self.recovery is None else self.recovery.counters,
            "snapshots": {} if self.keeper is None else self.keeper.status(),
            "recording": {} if self.retention is None else self.retention.counters,
            "strategy_failures": pipeline.host.failures(),
            "models": self._told_models(),
            "latency": _told(self._histograms.summary()),
            "latency_recent": _told(self._latency_log.recent),
            "loop": {"stalls": self._watch.meter.stalls, "worst_ns": self._watch.meter.worst_ns},
            "clock": self._clock(),
            "clients": self._stream.clients,
            "stream": self._stream.counters,
            "peers": {} if self.receiver is None else self.receiver.counters,
            "journal": {**self._journal.counters, "queued": self._journal.queued},
            "guard": {} if self.guard is None else self.guard.status(),
            "rss_bytes": self._process.memory_info().rss,
        }

    def _told_models(self) -> Mapping[str, Any]:
        desk = self._ingest.pipeline.desk
        if self._models is None or desk is None:
            return {}
        times = {
            f"{model}/{device}": _told(histograms.summary())
            for (model, device), histograms in self._models.histograms().items()
        }
        return {
            "asked": desk.asked,
            "waiting": desk.waiting,
            "silent": desk.silent,
            "failures": dict(desk.failures),
            "latency": times,
            "serving": self._models.status(),
        }

    def _clock(self) -> Mapping[str, int] | None:
        offset = self.control.offset if self.control is not None else None
        if offset is None:
            return None
        return {"offset_ns": offset.offset_ns, "error_bound_ns": offset.error_bound_ns}


def _told(summaries: Mapping[str, StageSummary]) -> Mapping[str, Any]:
    return {
        name: {
            "count": one.count,
            "p50": one.p50,
            "p99": one.p99,
            "p99_9": one.p99_9,
            "max": one.max,
            "clock_faults": one.clock_faults,
        }
        for name, one in summaries.items()
    }
