"""Whoever reads logs and latencies may hang, go or fill up: ticks, signals and ends go on."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from live_cases import read_health
from process_rig import RULES, Rig, eventually, source_toml

from engine.operating import read_status

pytestmark = pytest.mark.slow
SMALL_PIPE_BYTES = 4096
QUESTIONS = 200
"""Each is two lines in the log; the small pipe is full after twenty."""
MOST_STALL_NS = 1_000_000_000


class Sink:
    """A place for a process's stderr."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._open: list[int] = []
        self.target = self._make()

    def _make(self) -> int | None:
        if self.kind == "full":
            return self._keep(os.open("/dev/full", os.O_WRONLY))
        if self.kind == "closed":
            return None
        reader, writer = os.pipe()
        self._keep(writer)
        if self.kind == "gone":
            os.close(reader)
        else:
            self._keep(reader)
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL_PIPE_BYTES)
        return writer

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


def start(rig: Rig, role: str, sink: Sink) -> psutil.Popen:
    words = [sys.executable, "-m", "engine.cli", role, "-c", str(rig.file), "--verbose"]
    if sink.target is None:
        words = ["/bin/sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *words]
    process = psutil.Popen(
        words,
        env=rig.environ,
        cwd=rig.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if sink.target is None else sink.target,
    )
    rig.processes.append(process)
    return process


@pytest.fixture(params=["full", "closed", "gone", "hangs"])
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    made = Sink(request.param)
    yield made
    made.close()


def ask_often(rig: Rig) -> None:
    async def ask() -> None:
        for _ in range(QUESTIONS):
            await read_health(rig.port)

    asyncio.run(ask())


def status_of(rig: Rig) -> dict[str, Any]:
    return asyncio.run(read_status(rig.url))


def test_a_dead_log_costs_no_tick_no_signal_and_no_time(tmp_path: Path, sink: Sink) -> None:
    with Rig(tmp_path, RULES + source_toml()) as rig:
        gateway, engine = start(rig, "gateway", sink), start(rig, "engine", sink)
        rig.until_live()
        before = status_of(rig)
        ask_often(rig)
        signals = rig.signals()
        eventually(lambda: rig.signals() > signals + 5, "signals go on", 10)
        after = status_of(rig)
        assert after["ticks"] > before["ticks"] + 2_000
        assert after["input"].get("gaps", 0) == 0
        assert after["healthy"], after["problems"]
        assert after["loop"]["worst_ns"] < MOST_STALL_NS
        assert rig.end(engine) < 5
        assert rig.end(gateway) < 5
        assert (engine.returncode, gateway.returncode) == (0, 0)
        assert rig.ask("journal", "verify", str(rig.journal)).returncode == 0
    worst_ms = after["loop"]["worst_ns"] / 1e6
    print(f"stderr {sink.kind}: worst loop stall {worst_ms:.1f} ms, both ended with 0")  # noqa: T201


def test_a_latency_log_on_a_full_disk_ends_and_nothing_else_does(tmp_path: Path) -> None:
    environ = {"HEQIS__ENGINE__HLOG": "/dev/full", "HEQIS__ENGINE__HLOG_INTERVAL": "50ms"}
    with Rig(tmp_path, RULES + source_toml(), environ) as rig:
        rig.start("gateway")
        engine = rig.start("engine")
        rig.until_live()
        told = eventually(
            lambda: [p for p in status_of(rig)["problems"] if "latency log ended" in p],
            "health",
            20,
        )
        assert "No space left on device" in told[0]
        signals = rig.signals()
        eventually(lambda: rig.signals() > signals + 5, "signals go on", 10)
        after = status_of(rig)
        assert after["latency"]["wire"]["count"] > 0, "it is measured all the same"
        assert len(after["problems"]) == 1
        assert rig.end(engine) < 5
        assert engine.returncode == 0


def test_a_gateways_own_journal_on_a_full_disk_is_told_and_harms_nothing(tmp_path: Path) -> None:
    environ = {"HEQIS__GATEWAY__EVENTS": "/dev/full"}
    with Rig(tmp_path, RULES + source_toml(), environ) as rig:
        gateway, engine = rig.start("gateway"), rig.start("engine")
        rig.until_live()
        engine.suspend()
        eventually(lambda: "peer_lost" in rig.log("gateway"), "the loss", 5)
        engine.resume()
        signals = rig.signals()
        eventually(lambda: rig.signals() > signals + 5, "signals go on", 10)
        assert rig.end(engine) < 5
        assert rig.end(gateway) < 5
        assert gateway.returncode == 0
        assert "event log: No space left on device" in rig.log("gateway")
