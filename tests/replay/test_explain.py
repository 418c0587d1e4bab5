"""Everything behind one signal, against what is known of it from elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diff_rig import blueprint_of, live_session, rule_tree, settled
from live_feed import HandFeed
from live_models import INLINE, model_tree, signals, trade_bundle
from reference.indicator_twins import macd
from tiny_models import reference_outputs
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.core.errors import ConfigError, InputFileError, JournalError
from engine.core.records import TickKind, empty_bars
from engine.core.signals import Signal
from engine.risk.gate import GATES
from replay.analysis.explain import Explanation, explain
from replay.analysis.explain_gates import SAW
from replay.analysis.explain_text import explanation_lines

ON_BARS = {
    "bars": [{"name": "20t", "kind": "tick", "size": 20}],
    "strategies": [{
        "name": "macd", "rule": "macd_cross", "on": "20t",
        "params": {"fast": 2, "slow": 3, "signal": 2},
    }],
}  # fmt: skip


def told(tmp_path: Path, tree: dict[str, Any], identity: str, ticks: int = 10) -> Explanation:
    recordings, journal = tmp_path / "recordings", tmp_path / "journal.db"
    return explain(identity, recordings, journal, blueprint_of(tree), ticks=ticks)


def trades_before(feed: HandFeed, signal: Signal) -> list[float]:
    """Return the prices of the instrument's trades up to the signal's tick."""
    number = feed.instruments["symbol"].tolist().index(signal.instrument.encode())
    return [
        float(tick["price"][0])
        for tick, seq in feed.sent
        if seq <= signal.tick_seq
        and int(tick["kind"][0]) == TickKind.TRADE
        and int(tick["instrument"][0]) == number
    ]


def test_a_rules_signal_is_explained(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    feed = live_session(tree)
    signal = signals(tmp_path / "journal.db")[20]
    found = told(tmp_path, tree, signal.id[:12], ticks=5)
    assert found.made
    assert found.live is not None
    assert found.live["id"] == found.wanted.id == signal.id
    scene = found.scene
    assert len(scene.ticks) == 5
    assert scene.ticks[-1]["seq"] == signal.tick_seq
    assert scene.ticks[-1]["kind"] == "trade"
    prices = trades_before(feed, signal)
    assert scene.ticks[-1]["price"] == prices[-1] == signal.price == scene.market["last"]
    (indicator,) = scene.indicators
    assert indicator["indicator"] == "macd(fast=2, slow=3, signal=2) on trade"
    bars = empty_bars(len(prices))
    bars["close"] = prices
    expected = macd(bars, 2, 3, 2)
    assert indicator["outputs"].keys() == expected.keys()
    for name, value in indicator["outputs"].items():
        assert value == pytest.approx(float(expected[name][-1]), abs=1e-9), name
    assert scene.candidate is not None
    assert scene.candidate["strength"] == signal.strength
    assert scene.decided is not None
    assert scene.decided["id"] == signal.id


def test_the_gates_tell_what_each_rule_saw(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    signal = signals(tmp_path / "journal.db")[5]
    gates = told(tmp_path, tree, signal.id).scene.gates
    assert len(gates) == sum(len(rules) for rules in GATES.values())
    assert {one["verdict"] for one in gates} <= {"passed", "off", "not asked"}
    by_reason = {one["reason"]: one for one in gates}
    late_ms = (signal.ts_emit - signal.ts_recv) / 1e6
    assert by_reason["DATA_LATE"]["saw"].startswith(f"{late_ms:g} ms after receipt")
    assert by_reason["COST_EDGE"]["verdict"] == "off"
    assert "at most 100 bps" in by_reason["LIQUIDITY_SPREAD"]["saw"]


def test_the_times_are_those_of_the_way(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    signal = signals(tmp_path / "journal.db")[5]
    times = {step["what"]: step for step in told(tmp_path, tree, signal.id).times}
    assert times["venue's event"]["ts"] == signal.ts_event
    assert times["received by the gateway"]["since_ns"] == signal.ts_recv - signal.ts_event
    assert times["signal left the engine"]["ts"] == signal.ts_emit
    assert times["valid until"]["since_ns"] == signal.valid_until - signal.ts_emit


def test_the_bar_that_the_tick_closed_is_shown(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path) | ON_BARS
    feed = live_session(tree)
    signal = signals(tmp_path / "journal.db")[-1]
    found = told(tmp_path, tree, signal.id)
    (bar,) = found.scene.bars
    assert bar["bar"] == "20t"
    assert bar["count"] == 20
    assert bar["close"] == trades_before(feed, signal)[-1]
    assert found.scene.indicators[0]["clock"] == "20t"


def test_a_models_window_and_score_are_shown(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")
    trade_bundle(tmp_path / "bundle")
    tree = model_tree(tmp_path, tmp_path / "bundle", inference=INLINE)
    live_session(tree, settled)
    signal = [one for one in signals(tmp_path / "journal.db") if one.strategy == "scored"][-1]
    found = told(tmp_path, tree, signal.id)
    assert found.made
    window, score = found.scene.window, found.scene.score
    assert window is not None
    assert score is not None
    rows = np.array(window["rows"], np.float32)
    assert rows.shape[1] == len(window["columns"])
    assert window["whole"]
    (outputs,) = reference_outputs(tmp_path / "bundle" / "model.onnx", rows[None])
    assert list(score["values"].values()) == pytest.approx(outputs.tolist(), abs=1e-5)
    side = "up" if signal.side == "BUY" else "down"
    assert score["values"][side] == pytest.approx(signal.confidence, abs=1e-5)
    assert score["proposes"] == signal.side
    by_name = {one["indicator"].partition("(")[0]: one["outputs"] for one in found.scene.indicators}
    assert rows[-1][0] == pytest.approx(next(iter(by_name["roc"].values())), rel=1e-6)
    assert any("its score waited" in note for note in found.notes)
    text = "\n".join(explanation_lines(found))
    assert "feature window:" in text
    assert "from another decision" in text


def test_every_rule_of_the_gate_can_say_what_it_saw() -> None:
    makers = {rule.make.__name__ for rules in GATES.values() for rule in rules}
    assert makers == set(SAW)


def test_a_signal_that_is_not_made_here_is_explained_all_the_same(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    signal = signals(tmp_path / "journal.db")[5]
    other = {**tree["strategies"][0], "params": {"fast": 2, "slow": 9, "signal": 4}}
    found = told(tmp_path, tree | {"strategies": [other]}, signal.id)
    assert not found.made or found.scene.decided != found.live
    assert found.scene.ticks[-1]["seq"] == signal.tick_seq
    assert found.scene.indicators[0]["indicator"].startswith("macd(fast=2, slow=9")


def test_what_cannot_be_explained_is_told(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    with pytest.raises(JournalError, match="there is no signal ffff"):
        told(tmp_path, tree, "ffff")
    with pytest.raises(JournalError, match="several signals begin with"):
        told(tmp_path, tree, "")
    signal = signals(tmp_path / "journal.db")[5]
    with pytest.raises(InputFileError, match="no such log"):
        explain(signal.id, tmp_path / "none", tmp_path / "journal.db", blueprint_of(tree))
    with pytest.raises(JournalError, match="no such journal"):
        explain(signal.id, tmp_path / "recordings", tmp_path / "no.db", blueprint_of(tree))


def test_the_command_prints_text_and_json(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path) | ON_BARS
    live_session(tree)
    signal = signals(tmp_path / "journal.db")[-1]
    config = tmp_path / "heqis.toml"
    config.write_text(
        f"""
[engine]
record = "{tmp_path}/recordings"
[journal]
path = "{tmp_path}/journal.db"
[[bars]]
name = "20t"
kind = "tick"
size = 20
[[strategies]]
name = "macd"
rule = "macd_cross"
on = "20t"
params = {{ fast = 2, slow = 3, signal = 2 }}
[risk.cost]
check_edge = false
[risk.limits]
max_position = 0
cool_down = 0
""",
        encoding="utf-8",
    )
    run = CliRunner().invoke
    done = run(make_app(), ["explain", signal.id, "-c", str(config), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scene"]["ticks"][-1]["seq"] == signal.tick_seq
    done = run(make_app(), ["explain", signal.id[:10], "-c", str(config)])
    assert done.exit_code == 0, done.output
    for title in ("times:", "ticks of the instrument", "indicators:", "gates:", "bars closed"):
        assert title in done.stdout
    done = run(make_app(), ["explain", "*", "-c", str(config)])
    assert isinstance(done.exception, ConfigError)
