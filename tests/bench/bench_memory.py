"""Resident memory and CPU of a real gateway and engine: at 20,000 ticks a second, and idle.

Under load: resident memory is read every second; after the warm-up, in which bounded buffers fill,
a line is fitted. Idle: a gateway that sends heartbeats and nothing else, and one client that
listens.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil
from bench.live_config import demo_tree
from bench.market import market_instruments, market_ticks
from bench.measuring import Figure, Outcome, report, say
from bench.processes import Child, write_config

from engine.config import Config
from engine.readiness import ask_health
from feeds.log_writer import LogWriter

RATE: Final = 20_000
IDLE_S: Final = 30.0
SETTLE_S: Final = 5.0
WARM_UP: Final = 0.5
"""Length of the warm-up, in lengths of the run that follows it."""
GROWTH_MB: Final = 1.0
IDLE_PCT: Final = 2.0
RING: Final = 256
MB: Final = 1e6
HOUR_NS: Final = 3_600_000_000_000


class Pair(NamedTuple):
    """A gateway and its engine, watched."""

    gateway: psutil.Process
    engine: psutil.Process
    port: int


@contextmanager
def running(tree: dict[str, Any], directory: Path) -> Iterator[Pair]:
    """Run both and a listening client."""
    path = str(write_config(Config.model_validate(tree), directory / "live.toml"))
    with Child("-m", "engine.cli", "engine", "-c", path) as engine:
        port = int(engine.wait_for(r"ready in .* port (\d+)")[1])
        with (
            Child("-m", "bench.signal_listener", f"ws://127.0.0.1:{port}") as client,
            Child("-m", "engine.cli", "gateway", "-c", path) as gateway,
        ):
            client.wait_for("listening")
            processes = [psutil.Process(child.process.pid) for child in (gateway, engine)]
            yield Pair(processes[0], processes[1], port)


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def read_health(port: int) -> dict[str, Any]:
    """Return what the engine says of itself."""
    import asyncio

    return asyncio.run(ask_health("127.0.0.1", port)) or {}


def load_outcome(minutes: float, outcome: Outcome) -> None:
    """Add the figures under load."""
    with tempfile.TemporaryDirectory() as name:
        tree = demo_tree(Path(name))
        tree["gateway"]["source"]["rate"] = float(RATE)
        tree["stream"] |= {"ring_signals": RING, "max_lag": RING}
        tree["risk"]["limits"] = {"cool_down": "100ms", "max_position": 10_000}
        with running(tree, Path(name)) as pair:
            samples, used, ticks = watch(pair, (1 + WARM_UP) * minutes * 60)
    seconds, engine_mb, gateway_mb = np.array(samples).T
    for process, resident in (("engine", engine_mb), ("gateway", gateway_mb)):
        after = seconds >= WARM_UP * minutes * 60
        slope = float(np.polyfit(seconds[after], resident[after], 1)[0])
        growth = slope * float(seconds[after][-1] - seconds[after][0])
        steady = resident[after].tolist()
        at_most = GROWTH_MB if process == "engine" else None
        outcome.figures += [
            Figure.of(f"{process}: resident memory after warm-up", steady, "MB"),
            Figure(f"{process}: growth after warm-up, fitted", growth, "MB", at_most=at_most),
            Figure(f"{process}: the same as a slope", slope * 3600, "MB/h"),
            Figure(f"{process}: CPU at {RATE:,} ticks/s", used[process], "% of a core"),
        ]
    outcome.figures.append(Figure("ticks/s that the engine took", ticks, "ticks/s"))


def watch(
    pair: Pair, duration_s: float
) -> tuple[list[tuple[float, float, float]], dict[str, float], float]:
    """Sample every second; return samples, CPU in percent, and ticks a second."""
    time.sleep(SETTLE_S)
    before, began = (cpu_s(pair.engine), cpu_s(pair.gateway)), time.monotonic()
    ticks = read_health(pair.port).get("ticks", 0)
    samples = []
    while (passed := time.monotonic() - began) < duration_s:
        sizes = [p.memory_info().rss / MB for p in (pair.engine, pair.gateway)]
        samples.append((passed, sizes[0], sizes[1]))
        if len(samples) % 60 == 0:
            say(f"{passed:.0f} s: engine {sizes[0]:.1f} MB, gateway {sizes[1]:.1f} MB")
        time.sleep(max(0.0, began + len(samples) - time.monotonic()))
    passed = time.monotonic() - began
    after = cpu_s(pair.engine), cpu_s(pair.gateway)
    used = [100 * (b - a) / passed for a, b in zip(before, after, strict=True)]
    rate = (read_health(pair.port).get("ticks", 0) - ticks) / passed
    return samples, {"engine": used[0], "gateway": used[1]}, rate


def idle_outcome(seconds: float, outcome: Outcome) -> None:
    """Add the figures without ticks: a log whose next tick is an hour away."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tree = demo_tree(directory)
        ticks = market_ticks(41, 20)
        ticks["ts_event"][-1] += HOUR_NS
        ticks["ts_recv"][-1] += HOUR_NS
        with LogWriter(directory / "quiet.hql", market_instruments(20), epoch=1) as writer:
            writer.write_ticks(ticks)
        tree["gateway"]["source"] = {
            "kind": "log", "path": str(directory / "quiet.hql"), "times": "now",
        }  # fmt: skip
        with running(tree, directory) as pair:
            _, used, rate = watch(pair, seconds)
            health = read_health(pair.port)
    outcome.figures += [
        Figure("engine: CPU when idle", used["engine"], "% of a core", at_most=IDLE_PCT),
        Figure("gateway: CPU when idle", used["gateway"], "% of a core"),
    ]
    outcome.notes.append(
        f"Idle: {seconds:.0f} s with one client and {rate:.0f} heartbeats a second; the engine "
        f"called itself {'healthy' if health.get('healthy') else 'not healthy'}."
    )


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure under load, then idle."""
    outcome = Outcome("Memory and CPU")
    minutes = 1.0 if arguments.quick else arguments.minutes
    load_outcome(minutes, outcome)
    idle_outcome(10.0 if arguments.quick else IDLE_S, outcome)
    outcome.notes.insert(
        0,
        f"Under load: configs/demo.toml at {RATE:,} ticks/s for {minutes:g} minutes after "
        f"{WARM_UP * minutes:g} minutes of warm-up, resident memory read every second. The range "
        "is that of the samples. Flat means that the fitted line rises by no more than the "
        "target. What is bounded but fills slowly is made to fill during the warm-up: the "
        f"stream's ring is {RING} signals long, and looser risk limits make more signals, which "
        "fill SQLite's page cache. Without strategies the line is flat from the first minute.",
    )
    return outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="length of the loaded run, after its warm-up"
    )


if __name__ == "__main__":
    report(measure, __doc__, _add_arguments)
