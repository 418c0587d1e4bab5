"""Real gateways and engines in processes of their own, to be killed, stopped and cut off."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import orjson

from engine.composition import Blueprint, resolve
from engine.config import load_config

FULL = os.environ.get("HEQIS_FAULTS") == "full"
"""The long forms were asked for."""
POLL_S = 0.02
DEADLINE_S = 60.0

CONFIG = """
[link]
data = "{data}"
control = "{control}"

[gateway]
outputs = ["{data}"]
control = "{control}"
await_output = true
[gateway.spool]
directory = "{directory}/spool"
[gateway.source]
kind = "simulator"
seed = 11
instruments = 20
rate = {rate}

[engine]
record = "{directory}/recordings"
hlog = "{directory}/stages.hlog"
snapshot_interval = "2s"

[journal]
path = "{directory}/journal.db"

[stream]
port = {port}

[risk.data]
max_late = "10m"
gap_hold = 0
[risk.limits]
max_position = 0

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
params = {{ fast = 2, slow = 4, signal = 2 }}
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
params = {{ length = 100, entry = 0.3, rearm = 0.1, move_bps = 50.0 }}
valid_for = "10m"
"""


class Process:
    """One command of the program, as a child; ends with its context.

    Args:
        role: ``engine`` or ``gateway``.
        config: Its configuration.
    """

    def __init__(self, role: str, config: Path) -> None:
        self.role = role
        self.config = config
        self.log = config.parent / f"{role}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._child is not None and self._child.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it (again)."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", self.role, "-c", str(self.config)],
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash would: ``kill -9``."""
        assert self._child is not None
        self._child.kill()
        self._child.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it by SIGTERM; it must exit with 0."""
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        assert self._child.wait(DEADLINE_S) == 0, self.log.read_text()[-2_000:]

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child is not None and self._child.poll() is None


class Journaled:
    """Reads the journal of an engine that may be running, or be dead."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query; none while there is no journal yet."""
        if not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as journal:
                return journal.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the fields of all events of a kind, in order."""
        query = "SELECT fields FROM events WHERE kind = ? ORDER BY row"
        return [orjson.loads(fields) for (fields,) in self.rows(query, kind)]


def write_config(directory: Path, more: str = "", *, rate: float = 5_000.0) -> Path:
    """Write the configuration of a session in a directory of its own, on free ports."""
    from live_cases import free_endpoints

    data, control, stream = free_endpoints(3)
    path = directory / "session.toml"
    port = stream.rpartition(":")[2]
    text = CONFIG.format(data=data, control=control, port=port, directory=directory, rate=rate)
    path.write_text(text + more)
    return path


def blueprint_of(config: Path) -> Blueprint:
    """Resolve a configuration, without regard to the environment."""
    return resolve(load_config([config], {}))


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Wait until something holds; return how long that took, in seconds."""
    began = time.monotonic()
    while not condition():
        took = time.monotonic() - began
        assert took < deadline_s, f"{what}: not within {deadline_s} s"
        time.sleep(POLL_S)
    return time.monotonic() - began
