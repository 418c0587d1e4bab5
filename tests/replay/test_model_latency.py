"""A replay tells how long models really ran, though its clock stood still meanwhile."""

from pathlib import Path

from bundle_cases import make_bundle
from pipeline_cases import RULES, market_instruments, market_ticks

from engine.composition import resolve
from engine.config import Config
from feeds.log_writer import LogWriter
from replay.player import play


def test_a_models_runs_are_among_the_latencies_and_no_queue_is(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny").path
    log = tmp_path / "market.hql"
    with LogWriter(log, market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(6_000))
    tree = {
        **RULES,
        "models": [{"name": "tiny", "bundle": str(bundle), "on": "1s"}],
        "strategies": [{"name": "scored", "model": "tiny"}],
    }
    result = play([log], resolve(Config.model_validate(tree)))
    told = result.as_dict()["latency"]
    assert [stage for stage in told if "tiny" in stage] == ["inference:tiny@cpu"]
    assert told["inference:tiny@cpu"]["count"] > 20
    assert told["inference:tiny@cpu"]["p50"] > 1_000


def test_without_models_the_latencies_are_the_engines_own(tmp_path: Path) -> None:
    log = tmp_path / "market.hql"
    with LogWriter(log, market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(500))
    result = play([log], resolve(Config.model_validate(RULES)))
    assert not [stage for stage in result.latency if "@" in stage]
