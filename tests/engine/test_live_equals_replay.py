"""A session live at 20,000 ticks/s, in processes of its own, replays to the same signals."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_cases import free_endpoints

from engine.composition import resolve
from engine.config import load_config
from engine.core.signals import Signal
from feeds.log_verify import verify
from replay.player import RANDOM_BURSTS, Options, play

RATE = 20_000
LIVE_S = 12.0

CONFIG = """
[link]
data = "{data}"
control = "{control}"

[gateway]
outputs = ["{data}"]
control = "{control}"
[gateway.source]
kind = "simulator"
seed = 11
rate = {rate}

[engine]
record = "{directory}/recordings"
hlog = "{directory}/stages.hlog"

[journal]
path = "{directory}/journal.db"

[stream]
port = 0

[risk.data]
max_late = "60s"
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
[[strategies]]
name = "rsi"
rule = "macd_rsi"
on = "200t"
[[strategies]]
name = "flow"
rule = "flow_momentum"
on = "tick"
params = {{ length = 100, entry = 0.3, rearm = 0.1, move_bps = 50.0 }}
"""


def start(role: str, config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", role, "-c", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0, told


def run_session(directory: Path) -> Path:
    data, control = free_endpoints(2)
    config = directory / "session.toml"
    config.write_text(CONFIG.format(data=data, control=control, directory=directory, rate=RATE))
    engine = start("engine", config)
    assert engine.stderr is not None
    while "ready" not in (line := engine.stderr.readline()):
        assert line, "the engine ended before it was ready"
    gateway = start("gateway", config)
    time.sleep(LIVE_S)
    stop(engine)
    stop(gateway)
    return config


@pytest.mark.slow
def test_a_session_recorded_live_replays_to_the_same_digest(tmp_path: Path) -> None:
    config = run_session(tmp_path)
    (log,) = (tmp_path / "recordings").iterdir()
    assert verify(log).ok
    blueprint = resolve(load_config([config], {}))
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        rows = journal.execute("SELECT id FROM signals ORDER BY seq").fetchall()
    live = [identity for (identity,) in rows]
    digests = set()
    for burst in (None, 1, RANDOM_BURSTS):
        signals: list[Signal] = []
        replayed = play([log], blueprint, Options(burst=burst, keep=signals.append))
        assert [one.id for one in signals] == live
        assert (replayed.gaps, replayed.missing, replayed.bad_input) == (0, 0, {})
        digests.add(replayed.digest)
    assert len(digests) == 1
    assert len(live) > 100
    assert replayed.ticks > 0.6 * RATE * (LIVE_S - 5)
