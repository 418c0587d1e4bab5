"""The units that come with the program, and real processes under a service manager's socket."""

import asyncio
import configparser
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_feed import HandFeed, feed_tree
from process_rig import RULES, Rig, eventually, source_toml

from engine.config import CONFIGS, Config
from engine.config_text import config_toml
from engine.exit_status import ExitStatus

UNITS = sorted((CONFIGS / "systemd").glob("*.service"))
SECOND = 1_000_000_000


class Manager:
    """A service manager's end of the notify socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    @property
    def environ(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": "2000000"}

    def take(self) -> list[str]:
        """Return every line so far, with what came just now."""
        while True:
            try:
                datagram = self._socket.recv(4096)
            except BlockingIOError:
                return [line for _, line in self.said]
            self.said += [(time.monotonic(), line) for line in datagram.decode().splitlines()]

    def quiet_s(self) -> float:
        """Return how long ago the last sign of life came."""
        self.take()
        return time.monotonic() - max(at for at, line in self.said if line == "WATCHDOG=1")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def unit(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they stand
    parser.read(file, encoding="utf-8")
    return parser


def test_there_is_a_unit_for_each_role_and_one_for_both() -> None:
    assert [file.name for file in UNITS] == [
        "heqis-engine.service", "heqis-gateway.service", "heqis.service",
    ]  # fmt: skip


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_units_and_program_agree(file: Path) -> None:
    service, config = unit(file)["Service"], Config()
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"].removesuffix("s")) * SECOND > config.engine.stop_timeout
    assert service["ExecReload"].endswith("-HUP $MAINPID")
    if file.name != "heqis-gateway.service":
        assert service["RestartPreventExitStatus"] == str(int(ExitStatus.BUDGET))
    if file.name == "heqis-engine.service":
        assert service["SuccessExitStatus"] == str(int(ExitStatus.RESTART))
    if file.name != "heqis.service":
        assert service["Restart"] == "always"
        assert service["WatchdogSec"] == "2s"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for file in UNITS:
        text = file.read_text(encoding="utf-8").replace("/opt/heqis/bin/heqis", "/bin/true")
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.glob("*.service")))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("role", ["engine", "gateway"])
def test_a_process_is_ready_lives_and_says_goodbye(
    tmp_path: Path, manager: Manager, role: str
) -> None:
    other = "gateway" if role == "engine" else "engine"
    with Rig(tmp_path, RULES + source_toml(rate=1000.0)) as rig:
        rig.start(other)
        process = rig.start(role, environ=manager.environ)
        eventually(lambda: "READY=1" in manager.take(), "ready")
        fed = manager.take().count("WATCHDOG=1")
        eventually(lambda: manager.take().count("WATCHDOG=1") >= fed + 5, "signs of life", 5)
        times = [at for at, line in manager.said if line == "WATCHDOG=1"][fed:]
        assert (times[-1] - times[0]) / (len(times) - 1) < 1.0, "twice as often as owed, or more"
        if role == "engine":
            rig.file.write_text(rig.file.read_text() + "\n# the same\n")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: "RELOADING=1" in manager.take(), "the reload", 10)
            since = manager.take().index("RELOADING=1")
            eventually(lambda: "READY=1" in manager.take()[since:], "ready again", 10)
        assert rig.end(process) < 5
        assert "STOPPING=1" in manager.take()
        assert process.returncode == 0


@pytest.mark.slow
def test_signs_of_life_end_when_the_gateway_is_heard_and_no_data_come(
    tmp_path: Path, manager: Manager
) -> None:
    tree: dict[str, Any] = feed_tree(tmp_path)
    tree["supervision"] = {"data_timeout": "1s"}
    config = Config.model_validate(tree)
    with Rig(tmp_path, config_toml(config)) as rig:
        for name in list(rig.environ):
            if name.startswith("HEQIS__LINK"):
                del rig.environ[name]

        async def scene() -> None:
            async with HandFeed(config.link) as feed:
                rig.start("engine", environ=manager.environ)
                for _ in range(100_000):
                    if "READY=1" in manager.take():
                        break
                    await asyncio.sleep(0.02)
                for _ in range(30):
                    await feed.send_good(40)
                    await asyncio.sleep(0.1)
                assert manager.quiet_s() < 1, "data flow"
                async with asyncio.timeout(10):
                    while manager.quiet_s() < 2:  # noqa: ASYNC110 - the engine tells nobody else
                        await asyncio.sleep(0.05)
                told = [line for line in manager.take() if "no frame came" in line]
                assert told, "it said why"
                await feed.send_good(40)
                async with asyncio.timeout(10):
                    while manager.quiet_s() > 0.6:  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0.05)

        asyncio.run(scene())
        assert "no frame came" in rig.events("no_sign_of_life")[0]["because"]


@pytest.mark.slow
def test_a_gateway_that_dies_does_not_take_the_engine_with_it(
    tmp_path: Path, manager: Manager
) -> None:
    with Rig(tmp_path, RULES + source_toml(rate=1000.0)) as rig:
        gateway = rig.start("gateway")
        engine = rig.start("engine", environ=manager.environ)
        rig.until_live()
        gateway.kill()
        eventually(lambda: rig.events("peer_lost"), "the loss", 5)
        fed = manager.take().count("WATCHDOG=1")
        eventually(lambda: manager.take().count("WATCHDOG=1") >= fed + 5, "signs of life", 5)
        rig.start("gateway")
        eventually(lambda: rig.events("peer_back"), "the return", 30)
        rig.until_live()
        assert engine.poll() is None


@pytest.mark.slow
def test_a_spent_budget_ends_the_engine_with_its_own_status(tmp_path: Path) -> None:
    environ = {
        "HEQIS__BUDGETS__MEMORY_FRAC": "[1e-9, 2e-9, 3e-9]",
        "HEQIS__BUDGETS__HOLD": '"1s"',
    }
    with Rig(tmp_path, RULES + source_toml(rate=1000.0), environ) as rig:
        rig.start("gateway")
        engine = rig.start("engine")
        assert engine.wait(60) == ExitStatus.BUDGET
        assert [step["to"] for step in rig.events("budget")][-1] == "halt"
        assert "budget used up: memory_frac" in rig.events("halted")[0]["reason"]
        assert rig.ask("journal", "verify", str(rig.journal)).returncode == 0
