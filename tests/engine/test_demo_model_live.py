"""The committed demo bundle in processes of their own: a session live replays to the same signals.

Real gateway, real engine, real time: windows of the demo's clock fill within half a minute.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_cases import free_endpoints
from live_models import events, signals
from score_books import book_of, room

from engine.composition import resolve
from engine.config import load_config
from engine.core.models import Precision
from engine.core.signals import Signal
from feeds.log_reader import LogReader
from feeds.log_verify import verify
from replay.player import RANDOM_BURSTS, Options, play

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

BUNDLE = Path(__file__).parents[2] / "models" / "demo-tcn"
LIVE_S = 42.0
CONFIG = """
[link]
data = "{data}"
control = "{control}"

[gateway]
outputs = ["{data}"]
control = "{control}"
[gateway.source]
kind = "simulator"
seed = 7
rate = 1500
effect_bps_per_s = 4.0

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
cool_down = 0
max_signals_per_instrument = 0
max_signals_per_strategy = 0
max_signals = 0
[risk.cost]
check_edge = false

[[bars]]
name = "1s"
interval = "1s"

[[models]]
name = "tcn"
bundle = "{bundle}"
on = "1s"
deadline = "10s"
placement = {placement}

[[strategies]]
name = "tcn"
model = "tcn"
params = {{ min_probability = 0.45 }}
valid_for = "10s"
[[strategies]]
name = "confirmed"
rule = "macd_cross"
on = "1s"
params = {{ fast = 2, slow = 4, signal = 2 }}
confirm = "tcn"
confirm_min = 0.35
valid_for = "10s"
[[strategies]]
name = "rule"
rule = "macd_cross"
on = "1s"
params = {{ fast = 2, slow = 4, signal = 2 }}
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


def run_session(directory: Path, placement: str) -> Path:
    data, control = free_endpoints(2)
    config = directory / "session.toml"
    text = CONFIG.format(
        data=data, control=control, directory=directory, bundle=BUNDLE, placement=placement
    )
    config.write_text(text, encoding="utf-8")
    engine = start("engine", config)
    assert engine.stderr is not None
    while "ready" not in (line := engine.stderr.readline()):
        assert line, "the engine ended before it was ready"
    gateway = start("gateway", config)
    time.sleep(LIVE_S)
    stop(engine)
    stop(gateway)
    return config


Place = tuple[str, str, int]
"""Strategy, instrument and receive time of what a signal came of."""


def place_of(one: Signal) -> Place:
    return one.strategy, one.instrument, one.ts_recv


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_demo_model_says_live_what_it_says_in_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    pytest.importorskip(backend, reason="what the model is run by")
    config = run_session(tmp_path, f'["{backend}@cpu"]')
    (log,) = (tmp_path / "recordings").iterdir()
    assert verify(log).ok
    blueprint = resolve(load_config([config], {}))
    live, replayed = signals(tmp_path / "journal.db"), list[Signal]()
    with book_of(monkeypatch) as book:
        result = play([log], blueprint, Options(keep=replayed.append))
    assert (result.gaps, result.missing, result.bad_input) == (0, 0, {})
    tolerance = blueprint.models[0].bundle.tolerance(Precision.FP32)
    with LogReader(log) as reader:
        symbols = [row["symbol"].decode() for row in reader.instruments]
    close = {
        (blueprint.rules[read.candidate.strategy].name, symbols[read.candidate.instrument],
         read.candidate.ts_recv)
        for read in book.values()
        if read.answer.score is not None and room(read) <= tolerance
    }  # fmt: skip
    ids = {one.id: place_of(one) for one in [*live, *replayed]}
    apart = {one.id for one in live} ^ {one.id for one in replayed}
    assert {ids[one] for one in apart} <= close
    assert [one.id for one in live if one.model is None] == [
        one.id for one in replayed if one.model is None
    ]
    by_model = [one for one in live if one.model is not None]
    assert {one.backend for one in by_model} == {backend}
    assert {one.strategy for one in by_model} == {"tcn", "confirmed"}
    assert len(by_model) > 20
    assert [one["cause"] for one in events(tmp_path / "journal.db", "model_device")] == [
        "DEVICE_STARTED"
    ]
    assert play([log], blueprint, Options(burst=RANDOM_BURSTS)).digest == result.digest
