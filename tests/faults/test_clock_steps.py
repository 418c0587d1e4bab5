"""Either machine's clock is set by an hour, either way: no latency is negative, nothing stale."""

import asyncio
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process_rig import ROOT, RULES, Rig, eventually, source_toml

from engine.operating import read_status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the clock"),
]
HOUR_NS = 3_600_000_000_000
TIME_REASONS = ("DATA_LATE", "DATA_EXPIRED", "DATA_STALE")
WATCHED_S = 3.0
MOST_LATENCY_NS = 60_000_000_000
"""A busy machine is not a wrong clock, which is out by an hour."""


class Clock:
    """The wall clock of one process, a file that its C library reads."""

    def __init__(self, directory: Path, name: str, library: Path) -> None:
        self.file = directory / f"{name}.clock"
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(self.file)}
        self.set(0)

    def set(self, step_ns: int) -> None:
        if not self.file.exists():
            self.file.write_bytes(struct.pack("=q", step_ns))
            return
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", step_ns))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock_step.so"
    source = ROOT / "tests" / "standin" / "clock_step.c"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(made), str(source)],
        check=True,
    )
    return made


def status_of(rig: Rig) -> dict[str, Any]:
    return asyncio.run(read_status(rig.url))


def refused_for_time(status: dict[str, Any]) -> int:
    return sum(count for reason, count in status["refusals"].items() if reason in TIME_REASONS)


@pytest.fixture
def machines(tmp_path: Path, library: Path) -> Iterator[tuple[Rig, dict[str, Clock]]]:
    clocks = {name: Clock(tmp_path, name, library) for name in ("gateway", "engine")}
    with Rig(tmp_path, RULES + source_toml()) as rig:
        for name, clock in clocks.items():
            rig.start(name, environ=clock.environ)
        rig.until_live()
        yield rig, clocks


def test_the_stand_in_really_sets_the_clock(tmp_path: Path, library: Path) -> None:
    clock = Clock(tmp_path, "python", library)
    clock.set(HOUR_NS)
    told = subprocess.run(
        ["python3", "-c", "import time; print(time.time_ns(), time.monotonic_ns())"],
        env=clock.environ, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert abs(int(told[0]) - time.time_ns() - HOUR_NS) < 30_000_000_000
    assert abs(int(told[1]) - time.monotonic_ns()) < 30_000_000_000


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_steps_of_an_hour_either_way_change_no_latency_and_refuse_nothing(
    machines: tuple[Rig, dict[str, Clock]], name: str
) -> None:
    rig, clocks = machines
    figures = []
    for step_ns in (HOUR_NS, 0, -HOUR_NS, 0):
        before = status_of(rig)
        clocks[name].set(step_ns)
        signals = rig.signals()
        time.sleep(WATCHED_S)  # the load goes on, and whatever is wrong has its chance
        eventually(lambda since=signals: rig.signals() > since + 3, "signals after the step", 5)  # type: ignore[misc] # bound now
        after = status_of(rig)
        assert after["ticks"] > before["ticks"] + 5_000
        assert refused_for_time(after) == refused_for_time(before)
        assert after["input"].get("gaps", 0) == 0
        assert after["healthy"], after["problems"]
        stages = after["latency"]
        assert sum(stage["clock_faults"] for stage in stages.values()) == 0, "none is negative"
        assert stages["wire"]["max"] < MOST_LATENCY_NS
        assert stages["total"]["max"] < MOST_LATENCY_NS
        figures.append((stages["wire"]["p50"], stages["wire"]["max"]))
    if name == "engine":
        told = eventually(lambda: rig.events("clock_stepped"), "the step in the journal", 5)
        assert abs(abs(told[0]["step_ns"]) - HOUR_NS) < 1_000_000_000
    else:
        kept = [e for e in rig.gateway_events() if e["kind"] == "clock_stepped"]
        assert abs(abs(kept[0]["step_ns"]) - HOUR_NS) < 1_000_000_000
    assert not rig.events("peer_lost")
    p50_us, worst_ms = figures[-1][0] / 1e3, max(worst for _, worst in figures) / 1e6
    print(f"{name}: 4 steps, wire p50 {p50_us:.0f} us, max {worst_ms:.1f} ms, no clock fault")  # noqa: T201
