"""One run of the lab: engine, injector, clients and a process that does nothing, started and read.

The lab's own process serves the gateway's control channel meanwhile, so that the injector has
nothing to do but send.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.child import Child
from engine.client import SignalClient, Status
from engine.config import Config
from engine.config_text import config_toml
from engine.core.errors import CheckFailedError
from engine.notify import NotifyListener
from engine.readiness import ask_health
from feeds.codec import encode_instruments
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_server import ControlServer
from latency.counts import StageCounts, merge_all
from latency.hlog_reader import Hlog, Interval, read_hlog
from latency.stages import STAGES
from latency.stall import LOOP
from latency.steady import steady_ns
from replay.lab.measured import Heard, Measured, Sent, measure
from replay.lab.schedule import HEARTBEAT_NS, Pace
from replay.lab.settings import HLOG_INTERVAL_NS, LabSettings, lab_config
from replay.lab.spawn import Worker, spawned
from replay.lab.window import Window

GATEWAY: Final = 1
START_S: Final = 300.0
"""Longest start of the engine: a small machine compiles the kernel for minutes, once."""
WORK_S: Final = 60.0
"""Longest wait for a worker that has little to do."""
DRAIN_S: Final = 60.0
STILL_S: Final = 2.0
"""The engine is done when it has taken nothing for so long."""
POLL_S: Final = 0.05
STATUS_S: Final = 10.0
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
        injector_nice: How nice the injector was to other processes, -20 to 19.
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
    injector_nice: int
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
            engine = await stack.enter_async_context(self._engine(control.endpoint))
            prepared = await injector.hear("prepared", WORK_S)
            options = [f"ws://127.0.0.1:{self._port}", str(self._settings.clients)]
            clients = await stack.enter_async_context(self._worker("clients", options))
            await clients.hear("listening", WORK_S)
            noise = await stack.enter_async_context(self._worker("noise"))
            await noise.hear("measuring", WORK_S)
            from_ns = self._begin(prepared["frames"], prepared["ticks"])
            await injector.tell({"start_ns": from_ns - self._settings.warm_up_ns})
            told = await self._hear_sent(injector, from_ns, wish["pace"]["length_ns"])
            taken = await self._drained(prepared["ticks"])
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

    @contextlib.asynccontextmanager
    async def _engine(self, control: str) -> AsyncIterator[Child]:
        """Run ``heqis engine``; inside, it is live."""
        config = lab_config(self._config, self._directory, self._data, control, self._port)
        file = self._directory / "engine.toml"
        file.write_text(config_toml(config), encoding="utf-8")
        command = [sys.executable, "-m", "engine.cli", "engine", "-c", str(file)]
        stop_s = config.engine.stop_timeout / NS_PER_S + 5.0
        engine = Child("engine", command, self._directory / "engine.log", stop_s)
        # A socket's path may have some hundred characters at most.
        with (
            tempfile.TemporaryDirectory(prefix="heqis-") as near,
            NotifyListener(Path(near) / "notify") as listener,
        ):
            engine.listener = listener
            await engine.start()
            try:
                await self._ready(engine)
                yield engine
            finally:
                await engine.stop()

    async def _ready(self, engine: Child) -> None:
        """Wait until the engine has said that it is ready, and has greeted its gateway."""
        deadline_s = time.monotonic() + START_S
        while not (engine.ready_ns and self._desk.peers):
            if not engine.running:
                raise engine.death()
            if time.monotonic() > deadline_s:
                raise CheckFailedError(f"the engine was not ready after {START_S:.0f} s")
            engine.look(time.monotonic_ns())
            await asyncio.sleep(POLL_S)

    def _begin(self, frames: int, ticks: int) -> int:
        """Return when the measured part begins: with an interval of the engine's latency log."""
        ends = _last_end_ns(self._directory / "stages.hlog")
        making_ns = frames * FRAME_NS + ticks * TICK_NS
        earliest = steady_ns() + LEAD_NS + making_ns + self._settings.warm_up_ns
        turns = max(0, -(-(earliest - GUARD_NS - ends) // HLOG_INTERVAL_NS))
        return ends + turns * HLOG_INTERVAL_NS + GUARD_NS

    async def _hear_sent(self, injector: Worker, from_ns: int, length_ns: int) -> dict[str, Any]:
        within_s = (from_ns - steady_ns() + length_ns) / NS_PER_S + DRAIN_S + WORK_S
        return await injector.hear("sent", within_s)

    async def _drained(self, ticks: int) -> int:
        """Wait until the engine has taken so many ticks, or takes no more; return how many."""
        taken, since_s, began_s = 0, time.monotonic(), time.monotonic()
        while time.monotonic() - began_s < DRAIN_S:
            health = await ask_health("127.0.0.1", self._port)
            now_taken = int(health["ticks"]) if health is not None else taken
            if now_taken >= ticks:
                return now_taken
            if now_taken != taken:
                taken, since_s = now_taken, time.monotonic()
            if time.monotonic() - since_s > STILL_S:
                break
            await asyncio.sleep(POLL_S)
        return taken

    async def _end(self, worker: Worker, kind: str) -> dict[str, Any]:
        await worker.tell({"out": str(self._directory / f"{worker.name}.npz")})
        return await worker.hear(kind, WORK_S)

    def _read(
        self, from_ns: int, taken: int, status: Mapping[str, Any], told: Mapping[str, Any]
    ) -> Outcome:
        sent = Sent.load(self._directory / "injector.npz")
        if not sent.ticks_from(from_ns):
            raise CheckFailedError("nothing was sent after the warm-up")
        heard = Heard.load(self._directory / "clients.npz", self._epoch)
        with np.load(self._directory / "noise.npz") as kept:
            noise = {name: kept[name] for name in kept.files}
        intervals = _since(read_hlog(self._directory / "stages.hlog"), from_ns - 2 * GUARD_NS)
        return Outcome(
            measure(sent, heard, noise, from_ns),
            _by_stage(intervals),
            intervals,
            from_ns,
            sent.ticks_from(from_ns),
            taken,
            sent.ticks,
            told["nice"],
            status,
            tuple(_problems(told)),
        )


def free_port() -> int:
    """Return a TCP port on loopback that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def read_status(url: str) -> Mapping[str, Any]:
    """Return an engine's counters, as the topic ``status`` tells them.

    Raises:
        CheckFailedError: it tells none.
    """
    try:
        async with asyncio.timeout(STATUS_S), SignalClient(url, topics=("status",)) as client:
            while True:
                item = await client.next_item()
                if isinstance(item, Status):
                    return item.status
    except TimeoutError:
        raise CheckFailedError(f"the engine told no status within {STATUS_S:.0f} s") from None


def _last_end_ns(path: Path) -> int:
    """Return the end of the last interval of a latency log, its start if there is none."""
    lines = path.read_text(encoding="ascii").splitlines()
    start = next(line for line in lines if line.startswith("#[StartTime:"))
    start_s = float(start.split()[1])
    spans = [line.split(",")[1:3] for line in lines if line.startswith("Tag=")]
    return int((start_s + max((float(a) + float(b) for a, b in spans), default=0.0)) * 1e9)


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
