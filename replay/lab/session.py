"""One run of the lab: engine, injector, clients and a process that does nothing, started and read.

The lab's own process serves the gateway's control channel meanwhile, so that the injector has
nothing to do but send.
"""

import contextlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.config import Config
from engine.core.errors import CheckFailedError
from feeds.codec import encode_instruments
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer
from latency.counts import StageCounts, merge_all
from latency.hlog_reader import Hlog, Interval, read_hlog
from latency.stages import STAGES
from latency.stall import LOOP
from latency.steady import steady_ns
from replay.lab.engine_side import (
    DRAIN_S,
    drained,
    free_port,
    last_end_ns,
    read_status,
    running_engine,
)
from replay.lab.measured import Heard, Measured, Sent, measure
from replay.lab.schedule import HEARTBEAT_NS, Pace
from replay.lab.settings import HLOG_INTERVAL_NS, LabSettings, lab_config
from replay.lab.spawn import Worker, spawned
from replay.lab.window import Window

GATEWAY: Final = 1
WORK_S: Final = 60.0
"""Longest wait for a worker that has little to do."""
GUARD_NS: Final = 30_000_000
"""From the begin of an interval of the engine's latency log to the first tick measured."""
LEAD_NS: Final = 100_000_000
FRAME_NS: Final = 40_000
"""What making a frame takes at most, before the start; and what each of its ticks adds."""
TICK_NS: Final = 500
NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one run left.

    Attributes:
        measured: What lab and clients saw.
        stages: The engine's own stages over the measured part; wire, ingest, … and the loop.
        intervals: The same, as its latency log has them.
        ticks: Ticks sent in the measured part, heartbeats among them.
        taken: Ticks that the engine took, of ``sent``, over the whole run.
        sent: Ticks sent over the whole run.
        injector_priority: What the scheduler granted the injector: real-time, or its niceness.
        status: The engine's counters at the end.
        problems: What else went wrong, each a sentence.
    """

    measured: Measured
    stages: dict[str, StageCounts]
    intervals: tuple[Interval, ...]
    from_wall_ns: int
    ticks: int
    taken: int
    sent: int
    injector_priority: str
    status: Mapping[str, Any]
    problems: tuple[str, ...]


class Session:
    """Runs a log at given speeds through engines with one configuration.

    Args:
        config: The user's configuration.
        settings: What was asked for.
        window: The log's ticks; the processes read them again.
        scratch: Where logs of the processes go, and what they write.
    """

    def __init__(
        self, config: Config, settings: LabSettings, window: Window, scratch: Path
    ) -> None:
        self._config = config
        self._settings = settings
        self._window = window
        self._scratch = scratch

    async def run(self, speed: float, length_ns: int) -> Outcome:
        """Do one run with processes of its own.

        Args:
            speed: Recorded seconds a second.
            length_ns: What is measured of it, at most.

        Raises:
            UserError: a process ended because of something the user can mend.
            CheckFailedError: a process ended otherwise, or did not do its part in time.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch) as name:
            return await _Run(self._config, self._settings, self._window, Path(name)).go(
                speed, length_ns
            )


class _Run:
    """The processes of one run, in the order they start."""

    def __init__(
        self, config: Config, settings: LabSettings, window: Window, directory: Path
    ) -> None:
        self._settings = settings
        self._window = window
        self._directory = directory
        self._epoch = time.time_ns()
        self._data = f"tcp://127.0.0.1:{free_port()}"
        self._port = free_port()
        self._config = config
        self._desk = self._make_desk()

    async def go(self, speed: float, length_ns: int) -> Outcome:
        wish = self._wish(speed, length_ns)
        async with contextlib.AsyncExitStack() as stack:
            server = ControlServer("tcp://127.0.0.1:*", self._desk)
            control = await stack.enter_async_context(server)
            injector = await stack.enter_async_context(self._worker("injector"))
            await injector.tell(wish)
            engine = await stack.enter_async_context(
                running_engine(self._lab_config(control.endpoint), self._directory, self._desk)
            )
            prepared = await injector.hear("prepared", WORK_S)
            options = [f"ws://127.0.0.1:{self._port}", str(self._settings.clients)]
            clients = await stack.enter_async_context(self._worker("clients", options))
            await clients.hear("listening", WORK_S)
            noise = await stack.enter_async_context(self._worker("noise"))
            await noise.hear("measuring", WORK_S)
            from_ns = self._begin(prepared["frames"], prepared["ticks"])
            await injector.tell({"start_ns": from_ns - self._settings.warm_up_ns})
            told = await self._hear_sent(injector, from_ns, wish["pace"]["length_ns"])
            taken = await drained(self._port, prepared["ticks"])
            if not engine.running:
                raise engine.death()
            status = await read_status(f"ws://127.0.0.1:{self._port}")
            heard = await self._end(clients, "heard")
            await self._end(noise, "measured")
        return self._read(from_ns, taken, status, {**prepared, **told, **heard})

    def _wish(self, speed: float, length_ns: int) -> dict[str, Any]:
        settings = self._settings
        pace = Pace(
            speed, settings.warm_up_ns + length_ns, settings.slot_ns, settings.longest_gap_ns
        )
        stream = {
            "endpoint": self._data,
            "gateway": GATEWAY,
            "epoch": self._epoch,
            "market_times": settings.market_times,
        }
        return {
            "log": str(settings.log),
            "skip_ns": settings.skip_ns,
            "pace": asdict(pace),
            "stream": stream,
            "out": str(self._directory / "injector.npz"),
        }

    def _make_desk(self) -> ControlDesk:
        definitions = encode_instruments(
            self._window.instruments,
            gateway=GATEWAY, epoch=self._epoch, next_seq=1, ts_send=steady_ns(),
        )  # fmt: skip
        facts = StreamFacts(GATEWAY, self._epoch, 1, HEARTBEAT_NS, b"".join(definitions))
        return ControlDesk(lambda: facts, dict, 8)

    def _worker(
        self, name: str, options: list[str] | None = None
    ) -> contextlib.AbstractAsyncContextManager[Worker]:
        log = self._directory / f"{name}.log"
        return spawned(name, f"replay.lab.{name}", log, options or [])

    def _lab_config(self, control: str) -> Config:
        return lab_config(self._config, self._directory, self._data, control, self._port)

    def _begin(self, frames: int, ticks: int) -> int:
        """Return when the measured part begins: with an interval of the engine's latency log."""
        ends = last_end_ns(self._directory / "stages.hlog")
        making_ns = frames * FRAME_NS + ticks * TICK_NS
        earliest = steady_ns() + LEAD_NS + making_ns + self._settings.warm_up_ns
        turns = max(0, -(-(earliest - GUARD_NS - ends) // HLOG_INTERVAL_NS))
        return ends + turns * HLOG_INTERVAL_NS + GUARD_NS

    async def _hear_sent(self, injector: Worker, from_ns: int, length_ns: int) -> dict[str, Any]:
        within_s = (from_ns - steady_ns() + length_ns) / NS_PER_S + DRAIN_S + WORK_S
        return await injector.hear("sent", within_s)

    async def _end(self, worker: Worker, kind: str) -> dict[str, Any]:
        await worker.tell({"out": str(self._directory / f"{worker.name}.npz")})
        return await worker.hear(kind, WORK_S)

    def _read(
        self, from_ns: int, taken: int, status: Mapping[str, Any], told: Mapping[str, Any]
    ) -> Outcome:
        sent = Sent.load(self._directory / "injector.npz")
        intervals = _since(read_hlog(self._directory / "stages.hlog"), from_ns - 2 * GUARD_NS)
        if not sent.ticks_from(from_ns):
            raise CheckFailedError("nothing was sent after the warm-up")
        problems = _problems(told)
        # On a busy machine the engine's interval begins late; all figures begin with it.
        begun_ns = max([from_ns, *(interval.start_wall_ns for interval in intervals[:1])])
        if sent.ticks_from(begun_ns):
            from_ns = begun_ns
        else:
            problems.append("the engine was too busy to begin an interval of its latency log")
        heard = Heard.load(self._directory / "clients.npz", self._epoch)
        with np.load(self._directory / "noise.npz") as kept:
            noise = {name: kept[name] for name in kept.files}
        return Outcome(
            measure(sent, heard, noise, from_ns),
            _by_stage(intervals),
            intervals,
            from_ns,
            sent.ticks_from(from_ns),
            taken,
            sent.ticks,
            told["priority"],
            status,
            tuple(problems),
        )


def _since(log: Hlog, from_ns: int) -> tuple[Interval, ...]:
    return tuple(interval for interval in log.intervals if interval.start_wall_ns >= from_ns)


def _by_stage(intervals: tuple[Interval, ...]) -> dict[str, StageCounts]:
    parts: dict[str, list[StageCounts]] = {}
    for interval in intervals:
        parts.setdefault(interval.stage, []).append(interval.counts)
    own = [*STAGES, LOOP]
    order = [*own, *sorted(set(parts) - set(own))]
    return {stage: merge_all(parts[stage]) for stage in order if stage in parts}


def _problems(told: Mapping[str, Any]) -> list[str]:
    texts = {
        "unsent": "{} frames could not be sent: the engine was not connected",
        "gaps": "the stream told clients of {} gaps",
        "untold": "{} signals are beyond what the clients' process keeps",
        "lost": "{} clients lost their connection",
    }
    return [text.format(f"{told[key]:,}") for key, text in texts.items() if told.get(key)]
