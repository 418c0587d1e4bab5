"""``heqis run`` really starts both processes, and leaves none behind."""

import asyncio
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from engine.client import SignalClient, Status
from engine.core.signals import Signal
from engine.exit_status import ExitStatus

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
START_S = 90.0
STOP_S = 10.0
CONFIG = """
[[bars]]
name = "10t"
kind = "tick"
size = 10

[[strategies]]
name = "breakout"
rule = "donchian_breakout"
on = "10t"
params = { length = 5 }

[gateway.source]
kind = "simulator"
instruments = 3
rate = 1000.0
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Run:
    """One ``heqis run`` in a directory of its own, on free ports."""

    def __init__(self, directory: Path, config: str = CONFIG) -> None:
        data, control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.logs = directory / "logs"
        self.errors = directory / "stderr.txt"
        file = directory / "run.toml"
        file.write_text(config, encoding="utf-8")
        self.command = [
            sys.executable, "-m", "engine.cli", "run", "-c", str(file), "--logs", str(self.logs),
        ]  # fmt: skip
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HEQIS__LINK__DATA": data,
            "HEQIS__LINK__CONTROL": control,
            "HEQIS__GATEWAY__OUTPUTS": f'["{data}"]',
            "HEQIS__GATEWAY__CONTROL": control,
            "HEQIS__STREAM__PORT": str(self.port),
            "HEQIS__JOURNAL__PATH": str(directory / "journal.db"),
            "HEQIS__ENGINE__HLOG": str(directory / "latency.hlog"),
        }
        self.directory = directory

    @contextmanager
    def started(self, *options: str, stdout: int = subprocess.PIPE) -> Iterator[psutil.Popen]:
        with self.errors.open("wb") as errors:
            process = psutil.Popen(
                [*self.command, *options],
                env=self.environment,
                cwd=self.directory,
                stdout=stdout,
                stderr=errors,
            )
        family: list[psutil.Process] = [process]
        try:
            yield process
        finally:
            family += process.children(recursive=True) if process.is_running() else []
            for member in family:
                if member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
                    member.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def said(self) -> str:
        return self.errors.read_text(encoding="utf-8")


def wait_until(condition: Callable[[], object], within_s: float = START_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


def children_of(process: psutil.Popen) -> dict[str, psutil.Process]:
    """The children by what they run."""
    found = {}
    for child in process.children():
        words = child.cmdline()
        if "engine.cli" in words:
            found[words[words.index("engine.cli") + 1]] = child
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def first_signal(url: str) -> Signal:
    async def receive() -> Signal:
        async with asyncio.timeout(START_S), SignalClient(url) as client:
            async for item in client:
                if isinstance(item, Signal):
                    return item
        raise AssertionError("the stream ended")

    return asyncio.run(receive())


def healthy_status(url: str) -> Status:
    async def receive() -> Status:
        async with asyncio.timeout(START_S), SignalClient(url, topics=("status",)) as client:
            async for item in client:
                if isinstance(item, Status) and item.status["healthy"]:
                    return item
        raise AssertionError("the stream ended")

    return asyncio.run(receive())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_arrives_and_a_stop_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = Run(tmp_path)
    with run.started("--no-view") as process:
        assert first_signal(run.url).strategy == "breakout"
        assert healthy_status(run.url).status["problems"] == []
        wait_until(lambda: "ready after" in run.said())
        children = children_of(process)
        assert set(children) == {"gateway", "engine"}
        began_s = time.monotonic()
        process.send_signal(number)
        assert process.wait(STOP_S) == 0
        assert time.monotonic() - began_s < STOP_S
        assert gone(list(children.values()))
    assert run.url in run.said()
    assert {file.name for file in run.logs.iterdir()} == {"gateway.log", "engine.log"}


def test_without_a_terminal_signals_and_status_come_as_lines(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.started() as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode()]
        while not (lines[-1].startswith("status:") and "BUY" in "".join(lines)):
            assert len(lines) < 20_000
            lines.append(process.stdout.readline().decode())
        process.terminate()
        rest = process.communicate(timeout=STOP_S)[0].decode()
        assert process.returncode == 0
    assert lines[0] == f"waiting for the engine at {run.url}\n"
    assert rest.splitlines()[-1].startswith("at the end, status: ")
    assert "\x1b" not in "".join(lines) + rest


def test_on_a_terminal_the_view_is_drawn_and_taken_away_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    ours, theirs = pty.openpty()
    drawn = b""
    with run.started(stdout=theirs) as process:
        os.close(theirs)
        while b"ticks/s" not in drawn:
            drawn += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        while b"at the end, " not in drawn:
            drawn += os.read(ours, 65_536)
        assert process.wait(STOP_S) == 0
    os.close(ours)
    assert drawn.index(b"\x1b[?1049h") < drawn.index(b"\x1b[?1049l") < drawn.index(b"at the end, ")


@pytest.mark.parametrize(("victim", "other"), [("gateway", "engine"), ("engine", "gateway")])
def test_a_child_that_dies_is_started_again_and_the_other_left_alone(
    tmp_path: Path, victim: str, other: str
) -> None:
    run = Run(tmp_path)
    with run.started("--no-view") as process:
        healthy_status(run.url)
        before = children_of(process)
        before[victim].kill()
        wait_until(lambda: "starting it again" in run.said())
        wait_until(lambda: children_of(process).get(victim, before[victim]) != before[victim])
        assert first_signal(run.url)
        assert healthy_status(run.url)
        after = children_of(process)
        assert after[other] == before[other]
        process.terminate()
        assert process.wait(STOP_S) == 0
        assert gone([*before.values(), *after.values()])
    assert f"{victim} was killed by signal 9; starting it again in 0.25 s" in run.said()


@pytest.mark.parametrize(("victim", "other"), [("gateway", "engine"), ("engine", "gateway")])
def test_a_child_that_dies_too_often_ends_the_run_and_its_last_words_are_shown(
    tmp_path: Path, victim: str, other: str
) -> None:
    run = Run(tmp_path)
    run.environment["HEQIS__SUPERVISION__MAX_RESTARTS"] = "0"
    with run.started("--no-view") as process:
        healthy_status(run.url)
        children = children_of(process)
        children[victim].kill()
        assert process.wait(STOP_S) == 1
        assert gone([children[other]])
    assert f"{victim} was killed by signal 9; the end of {run.logs / victim}.log:" in run.said()


def test_a_killed_supervisor_takes_its_children_with_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.started("--no-view") as process:
        healthy_status(run.url)
        children = list(children_of(process).values())
        process.kill()
        process.wait()
        wait_until(lambda: gone(children), STOP_S)


def test_a_child_that_refuses_its_configuration_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG.replace("donchian_breakout", "donchian_outbreak"))
    with run.started("--no-view") as process:
        assert process.wait(START_S) == 2
    assert "found 'donchian_outbreak'; " in run.said()
    assert "rules are: " in run.said()
    assert "Traceback" not in run.said()


def test_a_spent_budget_ends_the_run_with_the_engines_own_status(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.environment |= {
        "HEQIS__BUDGETS__MEMORY_FRAC": "[1e-9, 2e-9, 3e-9]",
        "HEQIS__BUDGETS__HOLD": '"1s"',
    }
    with run.started("--no-view") as process:
        assert process.wait(START_S) == ExitStatus.BUDGET
    assert "engine ended (3)" in run.said()
    assert "Traceback" not in run.said()


def test_a_source_that_ends_ends_the_run_well(tmp_path: Path) -> None:
    run = Run(tmp_path, CONFIG + "limit_ticks = 2000\n")
    with run.started("--no-view") as process:
        assert process.wait(START_S) == 0
    assert "gateway came to its end" in run.said()


def test_a_stream_without_a_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.environment["HEQIS__STREAM__PORT"] = "0"
    with run.started() as process:
        assert process.wait(START_S) == 2
    assert "stream.port: found 0" in run.said()
    assert not run.logs.exists()
