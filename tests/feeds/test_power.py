"""Steps against a silent engine are carried out, journaled, and never leave the power off."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import ConfigError, DeviceError
from feeds.config import GatewayConfig
from feeds.gateway import Gateway
from feeds.power import PowerControl
from feeds.power_config import PowerConfig
from feeds.power_line import DryLine, GpioLine, open_line

MS = 1_000_000
FAST = {
    "line": 17, "silent": MS, "ask_wait": MS, "command_wait": 5_000 * MS, "off_time": 20 * MS,
    "boot": MS,
}  # fmt: skip


class Line:
    """A line in memory that may fail, with what was done to it and when."""

    def __init__(self, *, broken: bool = False) -> None:
        self.levels: list[tuple[bool, int]] = []
        self.closed = False
        self._broken = broken

    def assert_line(self, asserted: bool) -> None:
        if self._broken:
            raise DeviceError("the power line cannot be set: it burnt")
        self.levels.append((asserted, time.monotonic_ns()))

    def close(self) -> None:
        self.closed = True


class Bench:
    """A power control with its line, and all that it told."""

    def __init__(self, command: list[str], *, broken: bool = False, **changes: Any) -> None:
        values = {**FAST, "dry_run": False, "command": command, **changes}
        self.line = Line(broken=broken)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.asked = 0
        self.on_disk: list[tuple[int, int]] = []
        """For every step what was told, and asked, when it began."""
        self.config = PowerConfig.model_validate(values)
        self.control = PowerControl(
            self.config,
            ask=self._ask,
            tell=self._tell,
            now_ns=0,
            settle=self._settle,
            line=self.line,
        )

    def _ask(self) -> int:
        self.asked += 1
        return 2

    async def _settle(self) -> None:
        self.on_disk.append((len(self.told), self.asked))

    def _tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.told.append((kind, dict(fields)))

    async def until(self, step: str) -> dict[str, Any]:
        """Look with a clock of our own, until a step is done; return what was told of it."""
        now = time.monotonic_ns()
        async with asyncio.timeout(20):
            while True:
                now += 10_000 * MS
                self.control.look(now, alive=False, parted=False)
                await asyncio.sleep(0.001)
                for kind, fields in self.told:
                    if kind == "power_step_done" and fields["step"] == step:
                        return fields


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    asyncio.run(main())


def test_steps_are_taken_in_their_order_and_told_before_and_after(tmp_path: Path) -> None:
    mark = tmp_path / "restarted"
    bench = Bench([sys.executable, "-c", f"open({str(mark)!r}, 'w'); print('done')"])

    async def scene() -> None:
        assert await bench.until("cycle")
        await bench.control.close()

    run(scene)
    steps = [(kind, f["step"]) for kind, f in bench.told if "step" in f]
    assert steps[:6] == [
        ("power_step", "ask"), ("power_step_done", "ask"),
        ("power_step", "command"), ("power_step_done", "command"),
        ("power_step", "cycle"), ("power_step_done", "cycle"),
    ]  # fmt: skip
    command = next(f for k, f in bench.told if k == "power_step_done" and f["step"] == "command")
    assert (command["status"], command["said"]) == (0, "done\n")
    assert mark.exists()
    assert bench.asked >= 1
    told = [at for at, (kind, _) in enumerate(bench.told, 1) if kind == "power_step"]
    assert [at for at, _ in bench.on_disk] == told
    assert bench.on_disk[0][1] == 0, "it waits for the disk before it asks"
    (off, at), (on, later) = bench.line.levels[:2]
    assert (off, on) == (True, False)
    assert later - at >= bench.config.off_time
    assert bench.line.closed


def test_a_dry_run_tells_all_and_does_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "restarted"
    bench = Bench([sys.executable, "-c", f"open({str(mark)!r}, 'w')"], dry_run=True)
    dry = DryLine()
    bench.control = PowerControl(bench.config, ask=bench._ask, tell=bench._tell, now_ns=0, line=dry)

    async def scene() -> None:
        assert (await bench.until("ask"))["would_ask"]
        assert (await bench.until("command"))["would_run"][0] == sys.executable
        assert await bench.until("cycle")
        await bench.control.close()

    run(scene)
    assert bench.asked == 0
    assert not mark.exists()
    assert dry.levels[:2] == [True, False]
    assert all(fields["dry_run"] for kind, fields in bench.told if kind == "power_step")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["/no/such/program"], {"problem": "No such file or directory"}),
        ([sys.executable, "-c", "import sys; print('denied'); sys.exit(255)"], {"status": 255}),
    ],
)
def test_a_command_that_fails_is_told_and_the_ladder_goes_on(
    command: list[str], told: dict[str, Any]
) -> None:
    bench = Bench(command)

    async def scene() -> None:
        result = await bench.until("command")
        assert told.items() <= result.items()
        assert await bench.until("cycle")
        await bench.control.close()

    run(scene)


def test_a_command_that_hangs_is_ended_in_its_time() -> None:
    bench = Bench([sys.executable, "-c", "import time; time.sleep(600)"], command_wait=200 * MS)

    async def scene() -> None:
        result = await bench.until("command")
        assert result["problem"] == "it did not end in time"
        assert result["took_ns"] < 10_000 * MS
        await bench.control.close()

    run(scene)


def test_closing_in_the_middle_of_a_cycle_gives_the_power_back() -> None:
    bench = Bench([sys.executable, "-c", ""], off_time=600_000 * MS)

    async def scene() -> None:
        now = time.monotonic_ns()
        async with asyncio.timeout(20):
            while not bench.line.levels:
                now += 10_000 * MS
                bench.control.look(now, alive=False, parted=False)
                await asyncio.sleep(0.001)
        await bench.control.close()

    run(scene)
    assert [level for level, _ in bench.line.levels] == [True, False]
    assert bench.line.closed


def test_a_line_that_fails_is_told() -> None:
    bench = Bench([sys.executable, "-c", ""], broken=True)

    async def scene() -> None:
        assert "it burnt" in (await bench.until("cycle"))["problem"]
        await bench.control.close()

    run(scene)


def test_a_dry_run_needs_no_chip_and_no_library() -> None:
    config = PowerConfig.model_validate({"line": 1, "command": ["true"], "chip": "/dev/nothing"})
    assert config.dry_run
    assert isinstance(open_line(config), DryLine)


def test_a_chip_that_is_not_there_is_refused_at_the_start() -> None:
    pytest.importorskip("gpiod", reason="the gpiod package is not installed")
    config = PowerConfig.model_validate(
        {"line": 1, "command": ["true"], "chip": "/dev/gpiochip99", "dry_run": False}
    )
    with pytest.raises(ConfigError, match=r"gateway\.power\.chip: found '/dev/gpiochip99'"):
        open_line(config)
    with pytest.raises(ConfigError):
        GpioLine(config.model_copy(update={"chip": "/dev/null"}))


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    config = PowerConfig.model_validate({"line": 1, "command": ["true"], "dry_run": False})
    with pytest.raises(ConfigError, match=r"heqis\[gpio\]"):
        open_line(config)


def test_power_without_a_journal_is_refused() -> None:
    config = GatewayConfig.model_validate({"power": {"line": 1, "command": ["true"]}})
    with pytest.raises(ConfigError, match=r"gateway\.events"):
        Gateway(config)


@pytest.mark.parametrize("values", [{"line": 1}, {"line": 1, "command": []}, {"command": ["x"]}])
def test_power_needs_a_line_and_a_softer_step(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"line|command"):
        PowerConfig.model_validate(values)
