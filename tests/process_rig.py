"""Real gateway and engine processes on free ports, for tests that do them harm."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import psutil
from live_cases import free_endpoints

from engine.composition import Blueprint, resolve
from engine.config import load_config

ROOT = Path(__file__).parents[1]
START_S = 100.0
STOP_S = 15.0
FULL = os.environ.get("HEQIS_FAULTS") == "full"
"""The longest forms were asked for."""
RULES = """
[[bars]]
name = "20t"
kind = "tick"
size = 20

[[strategies]]
name = "macd"
rule = "macd_cross"
on = "20t"
params = { fast = 2, slow = 3, signal = 2 }

[risk.limits]
max_position = 0
cool_down = 0
max_signals_per_instrument = 0
max_signals_per_strategy = 0
max_signals = 0

[risk.data]
gap_hold = 0
max_late = "20s"
"""
"""A strategy that signals several times a second at 5,000 ticks/s, and few limits."""

THREE_RULES = """
[[bars]]
name = "1s"
interval = "1s"
[[bars]]
name = "200t"
kind = "tick"
size = 200

[[strategies]]
name = "macd"
rule = "macd_cross"
on = "1s"
params = { fast = 2, slow = 4, signal = 2 }
valid_for = "10m"
[[strategies]]
name = "rsi"
rule = "macd_rsi"
on = "200t"
valid_for = "10m"
[[strategies]]
name = "flow"
rule = "flow_momentum"
on = "tick"
params = { length = 100, entry = 0.3, rearm = 0.1, move_bps = 50.0 }
valid_for = "10m"
"""
"""Strategies on bars of time, on bars of ticks and on ticks."""


def source_toml(rate: float = 5_000.0, instruments: int = 10, **more: object) -> str:
    """Return the table of a simulated source."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    head = f'[gateway.source]\nkind = "simulator"\nrate = {rate}\ninstruments = {instruments}\n'
    return f"\n{head}seed = 7\n" + "".join(f"{line}\n" for line in lines)


def eventually(
    condition: Callable[[], Any], what: str, within_s: float = START_S, every_s: float = 0.02
) -> Any:
    """Return the condition's first true value.

    Raises:
        AssertionError: there was none in time.
    """
    ends = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < ends, f"not within {within_s:.0f} s: {what}"
        time.sleep(every_s)
    return value


class Rig:
    """Processes in a directory of their own; a context that leaves none behind.

    Args:
        directory: Where everything is kept.
        config: The configuration file's text.
        environ: More of the environment.
    """

    def __init__(
        self, directory: Path, config: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        data, control = free_endpoints(2)
        port = free_endpoints(1)[0].rpartition(":")[2]
        self.port = int(port)
        self.url = f"ws://127.0.0.1:{port}"
        self.journal = directory / "journal.db"
        self.file = directory / "heqis.toml"
        self.file.write_text(config, encoding="utf-8")
        self.processes: list[psutil.Popen] = []
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HEQIS__LINK__DATA": data,
            "HEQIS__LINK__CONTROL": control,
            "HEQIS__GATEWAY__OUTPUTS": f'["{data}"]',
            "HEQIS__GATEWAY__CONTROL": control,
            "HEQIS__GATEWAY__EVENTS": str(directory / "gateway.jsonl"),
            "HEQIS__STREAM__PORT": port,
            "HEQIS__JOURNAL__PATH": str(self.journal),
            "HEQIS__ENGINE__HLOG": str(directory / "latency.hlog"),
            **(environ or {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        family: list[psutil.Process] = list(self.processes)
        for process in self.processes:
            if process.is_running() and process.poll() is None:
                family += process.children(recursive=True)
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        for process in self.processes:
            process.wait()

    def start(
        self, role: str, *options: str, environ: Mapping[str, str] | None = None
    ) -> psutil.Popen:
        """Start ``heqis ROLE`` with the configuration; its output goes to ``ROLE.log``."""
        with (self.directory / f"{role}.log").open("ab") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "engine.cli", role, "-c", str(self.file), *options],
                env={**self.environ, **(environ or {})},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def log(self, role: str) -> str:
        """Return what a process has said."""
        file = self.directory / f"{role}.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a ``heqis`` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "engine.cli", *words],
            env=self.environ, cwd=self.directory, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def blueprint(self) -> Blueprint:
        """Return what the configuration makes of an engine, without regard to the environment."""
        return resolve(load_config([self.file], {}))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what the journal has; nothing while it is not there."""
        if not self.journal.exists():
            return []
        uri = f"file:{self.journal}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=5)) as journal:
                return journal.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's events of a kind, oldest first."""
        kept = self.rows(f"SELECT fields FROM events WHERE kind = '{kind}' ORDER BY rowid")
        return [json.loads(fields) for (fields,) in kept]

    def gateway_events(self) -> list[dict[str, Any]]:
        """Return the gateway's own journal, oldest first."""
        file = self.directory / "gateway.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def signals(self) -> int:
        """Return how many signals the journal has."""
        rows = self.rows("SELECT COUNT(*) FROM signals")
        return int(rows[0][0]) if rows else 0

    def until_live(self) -> None:
        """Wait until signals are journaled."""
        before = self.signals()
        eventually(lambda: self.signals() > before + 3, "signals in the journal")

    def end(self, process: psutil.Popen, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait; return how long the process took, seconds."""
        began = time.monotonic()
        process.send_signal(number)
        process.wait(STOP_S)
        return time.monotonic() - began

    def stop(self, process: psutil.Popen) -> None:
        """End a process by SIGTERM; it must exit with 0."""
        self.end(process)
        assert process.returncode == 0, self.log("engine")[-2_000:] + self.log("gateway")[-2_000:]

    def play_live(self, seconds: float) -> None:
        """Run an engine, and a gateway for so long; both must end well."""
        engine = self.start("engine")
        eventually(lambda: "ready" in self.log("engine"), "ready")
        gateway = self.start("gateway")
        time.sleep(seconds)
        self.stop(engine)
        self.stop(gateway)
