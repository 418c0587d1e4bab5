"""Replays with a model: the committed demo bundle on the demo's market, always the same digest."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.composition import Blueprint, resolve
from engine.config import load_config
from engine.core.signals import Signal
from feeds.config import SimulatorConfig
from feeds.simulator.to_log import write_simulated_log
from replay.player import RANDOM_BURSTS, Options, Result, play

pytest.importorskip("onnxruntime", reason="replays ask models through ONNX Runtime")

BUNDLE = Path(__file__).parents[2] / "models" / "demo-tcn"
MARKET = SimulatorConfig(
    instruments=6, seed=7, rate=450.0, effect_bps_per_s=4.0, duration=100 * 10**9
)
BY_MODEL = {"tcn", "confirmed"}
CONFIG = f"""
[[bars]]
name = "1s"
interval = "1s"

[[models]]
name = "tcn"
bundle = "{BUNDLE}"
on = "1s"

[[strategies]]
name = "tcn"
model = "tcn"

[[strategies]]
name = "confirmed"
rule = "macd_cross"
on = "1s"
params = {{ fast = 3, slow = 6, signal = 2 }}
confirm = "tcn"
confirm_min = 0.35

[[strategies]]
name = "rule"
rule = "macd_cross"
on = "1s"
params = {{ fast = 3, slow = 6, signal = 2 }}

[risk.limits]
max_position = 0
cool_down = 0
[risk.cost]
check_edge = false
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "demo.hql"
    write_simulated_log(MARKET, path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "models.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def blueprint(config: Path) -> Blueprint:
    return resolve(load_config([config], {}))


@pytest.fixture(scope="module")
def whole(log: Path, blueprint: Blueprint) -> Result:
    return play([log], blueprint)


def facts(result: Result | dict[str, Any]) -> dict[str, Any]:
    told = result.as_dict() if isinstance(result, Result) else dict(result)
    for name in ("wall_s", "ticks_per_s", "latency"):
        told.pop(name)
    return told


def test_the_demo_market_gives_signals_of_rules_and_of_models(whole: Result) -> None:
    assert whole.signals_by_strategy.keys() == {"tcn", "confirmed", "rule"}
    assert min(whole.signals_by_strategy.values()) > 5
    assert whole.refusals["MODEL_DISAGREES"] > 5
    assert whole.refusals["MODEL_NOT_READY"] > 0
    assert not {"MODEL_FAILED", "MODEL_INVALID", "MODEL_LATE"} & whole.refusals.keys()


@pytest.mark.parametrize("burst", [1, 7, 64, 4096, RANDOM_BURSTS])
def test_burst_size_changes_no_score_and_no_signal(
    log: Path, blueprint: Blueprint, whole: Result, burst: int
) -> None:
    assert facts(play([log], blueprint, Options(burst=burst))) == facts(whole)


def test_every_seed_of_random_bursts_gives_the_same_signals_to_the_last_bit(
    log: Path, blueprint: Blueprint
) -> None:
    runs: list[list[Signal]] = []
    for seed in (1, 2):
        kept: list[Signal] = []
        play([log], blueprint, Options(burst=RANDOM_BURSTS, seed=seed, keep=kept.append))
        runs.append(kept)
    assert runs[0] == runs[1]
    scored = [signal for signal in runs[0] if signal.strategy in BY_MODEL]
    assert scored
    assert all((signal.model or "").startswith("demo-tcn@1-") for signal in scored)
    assert {(signal.backend, signal.device) for signal in scored} == {("onnxruntime", "cpu")}


def test_other_processes_give_the_same_digest(log: Path, config: Path, whole: Result) -> None:
    command = [sys.executable, "-m", "engine.cli", "replay", str(log), "-c", str(config)]
    processes = [
        subprocess.Popen(
            [*command, "--pace", "max", "--json", *more], stdout=subprocess.PIPE, text=True
        )
        for more in ([], ["--burst", "random"])
    ]
    for process in processes:
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert facts(orjson.loads(told)) == orjson.loads(orjson.dumps(facts(whole)))


def test_another_threshold_is_another_digest(
    log: Path, config: Path, whole: Result, tmp_path: Path
) -> None:
    text = config.read_text(encoding="utf-8").replace("confirm_min = 0.35", "confirm_min = 0.36")
    (tmp_path / "other.toml").write_text(text, encoding="utf-8")
    other = play([log], resolve(load_config([tmp_path / "other.toml"], {})))
    assert other.digest != whole.digest
    assert other.signals_by_strategy["rule"] == whole.signals_by_strategy["rule"]
