"""Each reading alone takes the engine down the ladder, step by step, and back up.

What is read from files is read from files here too: those of another machine. The time is virtual,
so that limits and waits are those of the defaults.
"""

import asyncio
import math
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from pipeline_cases import make_pipeline
from simulation.virtual_loop import START_NS, VirtualLoop, virtual_time

from engine import budget_readings, budgets
from engine.budgets import Budgets
from engine.supervision_config import BudgetsConfig
from runtime.latency_model import LatencyModel
from runtime.planner import Planner
from runtime.request_queue import Request

S: Final = 1_000_000_000
LEAST: Final = "S2.X"
LIMIT: Final = 1 << 30
"""Bytes of the process's control group."""
TOTAL: Final = 8 << 30
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
BUCKETS: Final = (1, 2, 4, 8, 16, 32)
WAITING: Final = 1000
"""Requests that may wait for the device."""
CONFIG: Final = BudgetsConfig(least_important=(LEAST,))
LOOK_S: Final = 3 * CONFIG.check_interval / S
"""Later than its time a step cannot be taken."""


class Machine:
    """What a process reads of the machine it is on: files, and a disk that tells its room.

    Attributes:
        disk_free: Bytes free on the journal's file system.
    """

    def __init__(self, root: Path) -> None:
        self.disk_free = 1 << 40
        self._root = root
        self._own = root / "proc" / str(os.getpid())
        self._own.mkdir(parents=True)
        for file in ("stat", f"{os.getpid()}/stat"):  # what a process is told apart by
            shutil.copy(f"/proc/{file}", root / "proc" / file)
        for file, text in {
            "cgroup": "0::/engine\n",
            "groups/engine/memory.max": f"{LIMIT}\n",
        }.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        for zone in range(2):
            (root / "thermal" / f"thermal_zone{zone}").mkdir(parents=True)
        self.heat(40.0)
        self.hold(LIMIT // 4)
        self.leave(TOTAL // 2)

    def read_by(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process read it in place of its own."""
        root, limit = self._root, budget_readings.memory_limit_bytes
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(root / "proc"))
        monkeypatch.setattr(
            budgets, "memory_limit_bytes", partial(limit, root / "groups", root / "cgroup")
        )
        hottest = partial(budget_readings.hottest_c, root / "thermal")
        monkeypatch.setattr(budgets, "hottest_c", hottest)
        monkeypatch.setattr(budgets, "disk_free_bytes", lambda path: float(self.disk_free))

    def heat(self, degrees: float) -> None:
        """Let the hottest zone be so hot."""
        for zone, one in enumerate((35.0, degrees)):
            file = self._root / "thermal" / f"thermal_zone{zone}" / "temp"
            file.write_text(f"{round(one * 1000)}\n")

    def hold(self, resident: float) -> None:
        """Let the process have so many bytes resident."""
        (self._own / "statm").write_text(f"9999999 {math.ceil(resident / PAGE)} 0 0 0 0 0\n")

    def leave(self, available: float) -> None:
        """Let the machine have so many bytes to give."""
        told = {"MemTotal": TOTAL, "MemAvailable": math.floor(available)}
        lines = Path("/proc/meminfo").read_text().splitlines()
        rest = [line for line in lines if line.partition(":")[0] not in told]
        first = [f"{name}: {size // 1024} kB" for name, size in told.items()]
        (self._root / "proc" / "meminfo").write_text("\n".join([*first, *rest, ""]))

    def fill_disk(self, free: float) -> None:
        """Leave so many bytes on the journal's file system."""
        self.disk_free = math.floor(free)


class Device:
    """The ``Batches`` of one device with a real queue."""

    def __init__(self) -> None:
        self.planner = Planner(WAITING)
        latency = LatencyModel(BUCKETS)
        for bucket in BUCKETS:
            latency.observe(bucket, 1_000_000 + bucket)
        self.queue = self.planner.attach(0, latency)

    @property
    def fullness(self) -> float:
        return self.planner.fullness

    @property
    def largest(self) -> int:
        """The batch it runs when enough waits."""
        return self.queue.size_of(self.queue.full)

    def limit_batches(self, share: float) -> None:
        self.planner.limit(share)

    def pile_up(self, part: float) -> None:
        """Let so many requests wait, as a part of those that may."""
        self.planner.take_all()
        for _ in range(math.ceil(part * WAITING)):
            assert self.planner.admit(0, Request(0, 10**18, 0)) is None


class Rig:
    """Budgets over a pipeline and a device on a machine, and what became of them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = VirtualLoop()
        self.machine = Machine(root)
        self.machine.read_by(monkeypatch)
        self.device = Device()
        self.journal_queue = 0.0
        self.told: list[tuple[float, str, Mapping[str, Any]]] = []
        self.halts: list[str] = []
        self.pipeline, _ = make_pipeline()
        self.budgets = Budgets(
            CONFIG,
            pipeline=self.pipeline,
            journal=root / "journal.db",
            queue_frac=lambda: self.journal_queue,
            batches=self.device,
            tell=lambda kind, fields: self.told.append((self.now_s, kind, fields)),
            halt=self.halts.append,
        )

    @property
    def now_s(self) -> float:
        return (self.loop.now_ns - START_NS) / S

    @property
    def asked(self) -> list[bool]:
        """Of which instruments every rule is asked."""
        enabled = self.pipeline.kernel.enabled[: len(self.pipeline.kernel.plan.rules)]
        return [bool(column.all()) for column in enabled.T]

    def steps(self) -> list[tuple[str, str]]:
        return [(one["from"], one["to"]) for _, kind, one in self.told if kind == "budget"]

    async def goes(self, expected: str, after_s: float) -> Mapping[str, Any]:
        """Wait for the next step; return what was told of it.

        It is taken after ``after_s`` and as soon as it can be.
        """
        began_s, count = self.now_s, len(self.steps())
        while len(self.steps()) == count:
            assert self.now_s <= began_s + after_s + LOOK_S, f"no step to {expected}"
            await asyncio.sleep(0.1)
        at_s, _, fields = [one for one in self.told if one[1] == "budget"][-1]
        assert fields["to"] == expected
        assert self.budgets.status()["level"] == expected
        assert at_s - began_s >= after_s
        return fields

    async def rests(self, for_s: float = 100.0) -> None:
        """See that nothing is told for so long."""
        before = len(self.told)
        await asyncio.sleep(for_s)
        assert self.told[before:] == []

    def assert_normal(self) -> None:
        assert self.budgets.problems() == []
        assert self.device.largest == BUCKETS[-1]
        assert self.asked == [True, True, True, True]

    def assert_smaller(self) -> None:
        assert self.device.largest == CONFIG.batch_frac * BUCKETS[-1]
        assert self.asked == [True, True, True, True]

    def assert_fewer(self) -> None:
        assert self.device.largest == CONFIG.batch_frac * BUCKETS[-1]
        assert self.asked == [True, True, False, True]


Plant = Callable[[Rig, float], None]
PLANTS: Final[Mapping[str, tuple[str, Plant, float]]] = {
    "memory": ("memory_frac", lambda rig, part: rig.machine.hold(part * LIMIT), 0.1),
    "available": ("memory_available_bytes", lambda rig, size: rig.machine.leave(size), 4 << 30),
    "disk": ("disk_free_bytes", lambda rig, size: rig.machine.fill_disk(size), 1 << 40),
    "heat": ("temperature_c", lambda rig, degrees: rig.machine.heat(degrees), 40.0),
    "journal": ("queue_frac", lambda rig, part: setattr(rig, "journal_queue", part), 0.0),
    "device": ("queue_frac", lambda rig, part: rig.device.pile_up(part), 0.0),
}
"""Name of the reading, what brings it about, and a value that nobody minds."""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def run(rig: Rig, scene: Callable[[], Awaitable[None]]) -> None:
    """Play a scene while the budgets are watched."""

    async def main() -> None:
        watching = asyncio.create_task(rig.budgets.run())
        await asyncio.sleep(0.01)
        try:
            await scene()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    with virtual_time(rig.loop):
        try:
            rig.loop.run_until_complete(main())
        finally:
            rig.loop.bury()


@pytest.mark.parametrize("what", PLANTS)
def test_each_reading_alone_leads_through_all_steps_and_back(rig: Rig, what: str) -> None:
    name, put, harmless = PLANTS[what]
    falling = name.endswith("_bytes")
    first, second, third = getattr(CONFIG, name)
    hold_s, release_s = CONFIG.hold / S, CONFIG.release / S

    def plant(limit: float, by: float = 0.01) -> None:
        """Pass a limit by a part of itself; stay short of it where that is negative."""
        put(rig, limit * (1 - by if falling else 1 + by))

    async def scene() -> None:
        plant(first, -0.01)
        await rig.rests()
        rig.assert_normal()

        plant(first)
        told = await rig.goes("smaller_batches", hold_s)
        assert told["because"].split()[0] == name
        assert "," not in told["because"]
        rig.assert_smaller()
        plant(second, -0.01)
        await rig.rests()

        plant(second)
        told = await rig.goes("fewer_instruments", hold_s)
        assert told["because"].split()[0] == name
        rig.assert_fewer()
        plant(third, -0.01)
        await rig.rests(10)
        plant(second, 0.01 - CONFIG.release_margin)
        await rig.rests()
        rig.assert_fewer()
        plant(second, -0.01 - CONFIG.release_margin)
        await rig.goes("smaller_batches", release_s)
        rig.assert_smaller()
        await rig.rests()
        put(rig, harmless)
        await rig.goes("normal", release_s)
        rig.assert_normal()

        plant(first)
        await rig.goes("smaller_batches", hold_s)
        plant(second)
        await rig.goes("fewer_instruments", hold_s)
        assert rig.halts == []
        plant(third)
        told = await rig.goes("halt", hold_s)
        assert rig.halts == [f"budget used up: {told['because']}"]
        assert told["because"].split()[0] == name
        rig.assert_fewer()
        put(rig, harmless)
        await rig.rests(10 * release_s)
        assert rig.budgets.problems() == ["budget: halt"]

    run(rig, scene)
    assert rig.steps() == [
        ("normal", "smaller_batches"),
        ("smaller_batches", "fewer_instruments"),
        ("fewer_instruments", "smaller_batches"),
        ("smaller_batches", "normal"),
        ("normal", "smaller_batches"),
        ("smaller_batches", "fewer_instruments"),
        ("fewer_instruments", "halt"),
    ]
    assert len(rig.halts) == 1
    kinds = [kind for _, kind, _ in rig.told if kind != "budget"]
    out, back = "instruments_left_out", "instruments_taken_back"
    assert kinds == [out, back, out]
    assert all(one["first"] == [LEAST] for _, kind, one in rig.told if kind in {out, back})
