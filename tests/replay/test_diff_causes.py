"""A divergence of each kind is planted between live and replay: the comparison names it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diff_rig import TICKS, Live, blueprint_of, compare, live_session, rule_tree, segment

from engine.core.records import HEADER_BYTES, TICK, Schema
from engine.core.signals import Signal
from engine.journal_schema import OPERATOR_STATE
from engine.risk.rules import RiskState
from feeds.codec import decode_frame, encode_frame
from feeds.log_index import LENGTH, OFFSET, index_file
from replay.analysis.diff_causes import Causes, made_by
from replay.analysis.diff_commands import GateStates
from replay.analysis.diff_journal import Event
from replay.analysis.diff_result import Cause, Difference, DiffReport, Kind
from replay.analysis.diff_twin import Twin
from replay.digest import Collector
from replay.player import Options, play

BARS = [{"name": "20t", "kind": "tick", "size": 20}]
ON_BARS = {
    "bars": BARS,
    "strategies": [{
        "name": "macd", "rule": "macd_cross", "on": "20t",
        "params": {"fast": 2, "slow": 3, "signal": 2},
    }],
}  # fmt: skip
PEEKING = """
from strategies.python_strategy import Strategy


class Every(Strategy):
    name = "every"
    version = "1"
    wants_trades = True
    seen = 0

    def on_trade_tick(self, tick):
        self.seen += 1
        if self.seen % STEP == 0:
            self.buy(tick.instrument, 0.5, 0.6)
"""
INDICATOR = """
from numba import njit

from strategies.spec import IndicatorSpec, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    s["value"] = x["close"] * FACTOR
    s["ready"] = 1


LEVEL = IndicatorSpec(
    name="level", title="The close, scaled", params={}, outputs=("value",), update=update_nb,
    warm_up=lambda _p: 1, formula="close times a factor", reference="made up for this test",
)


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, level):
    s["calls"] += 1
    out["side"] = 1
    out["strength"] = 0.5
    out["confidence"] = min(1.0, level["value"] / 1000.0)
    out["edge_bps"] = 5.0
    return s["calls"] % 7 == 0


SEVENTH = RuleSpec(
    name="seventh", version="1", title="Every seventh", params={},
    uses=lambda _p: (Use("level"),), decide=decide_nb,
)
"""


def assert_first(report: DiffReport, cause: Cause) -> None:
    assert report.first is not None, report.counts
    assert report.first.cause == cause, report.first
    assert report.failed()
    assert not report.failed(frozenset(Cause))


def rewrite(file: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the frames of a file, the good ones, in order."""
    data = np.fromfile(file, np.uint8)
    frames = index_file(file, data).frames
    places = zip(frames[:, OFFSET].tolist(), frames[:, LENGTH].tolist(), strict=True)
    kept = edit([data[at : at + length].tobytes() for at, length in places])
    file.write_bytes(b"".join(kept))


def ticks_of(frames: list[bytes]) -> list[int]:
    return [at for at, frame in enumerate(frames) if decode_frame(frame).schema == Schema.TICK]


def with_another_price(frames: list[bytes]) -> list[bytes]:
    at = ticks_of(frames)[10]
    head = decode_frame(frames[at])
    ticks = np.frombuffer(frames[at], TICK, offset=HEADER_BYTES).copy()
    ticks["price"] *= 1.001
    frames[at] = encode_frame(
        Schema.TICK, ticks, gateway=head.gateway, epoch=head.epoch, first_seq=head.first_seq,
        ts_send=head.ts_send,
    )  # fmt: skip
    return frames


def without_a_frame(frames: list[bytes]) -> list[bytes]:
    del frames[ticks_of(frames)[10]]
    return frames


def with_a_flipped_bit(frames: list[bytes]) -> list[bytes]:
    at = ticks_of(frames)[10]
    frames[at] = frames[at][:100] + bytes([frames[at][100] ^ 1]) + frames[at][101:]
    return frames


def cut_in_the_middle(frames: list[bytes]) -> list[bytes]:
    return frames[: len(frames) // 2]


@pytest.mark.parametrize(
    "edit", [with_another_price, without_a_frame, with_a_flipped_bit, cut_in_the_middle]
)
@pytest.mark.parametrize("checkpoints", [True, False], ids=["checked", "unchecked"])
def test_another_recording_is_input(
    tmp_path: Path, edit: Callable[[list[bytes]], list[bytes]], checkpoints: bool
) -> None:
    tree = rule_tree(tmp_path, engine={"snapshot_interval": "30s" if checkpoints else 0})
    live_session(tree)
    rewrite(segment(tmp_path), edit)
    report = compare(tmp_path, tree)
    if edit is with_another_price and not checkpoints:
        assert report.differences > 0, "nobody can know that it was another tick"
        return
    assert_first(report, Cause.INPUT)
    assert report.first is not None
    assert report.first.place <= TICKS // 2 if edit is cut_in_the_middle else 400
    assert set(report.causes) == {Cause.INPUT.value}


def test_bars_of_another_size_are_a_feature(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path) | ON_BARS
    live_session(tree)
    report = compare(tmp_path, tree | {"bars": [{**BARS[0], "size": 21}]})
    assert_first(report, Cause.FEATURE)
    assert report.first is not None
    assert "bars.20t.size: 20.0 live, 21.0 here" in report.first.evidence


def test_another_indicator_of_the_same_name_is_a_feature(tmp_path: Path) -> None:
    file = tmp_path / "level_plugin.py"
    tree = rule_tree(tmp_path) | {
        "plugins": [file],
        "strategies": [{"name": "seventh", "rule": "seventh", "on": "trade"}],
    }
    file.write_text(INDICATOR.replace("FACTOR", "1.0"), encoding="utf-8")
    live_session(tree)
    assert compare(tmp_path, tree).differences == 0
    file.write_text(INDICATOR.replace("FACTOR", "1.5"), encoding="utf-8")
    report = compare(tmp_path, tree)
    assert_first(report, Cause.FEATURE)
    assert report.first is not None
    assert report.first.kind is Kind.CONTENT
    assert "another confidence" in report.first.why
    assert any(one.startswith("indicators.level() on trade") for one in report.first.evidence)


async def flip(live: Live) -> None:
    """Let a cosmic ray hit the state of an indicator half way."""
    await live.send(TICKS // 2)
    keeper, kernel = live.engine.keeper, live.engine.ingest.pipeline.kernel
    assert keeper is not None
    assert await keeper.keep()
    kernel.state[kernel.plan.indicators[0].field]["slow_ema"] *= 1.01
    await live.send(40)
    assert await keeper.keep()
    await live.send(TICKS // 2)


def test_an_indicator_that_went_wrong_in_memory_is_a_feature(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree, flip)
    report = compare(tmp_path, tree)
    assert_first(report, Cause.FEATURE)
    assert report.first is not None
    assert report.first.place >= TICKS // 2
    assert any("indicator macd(" in one for one in [*report.first.evidence, report.first.why])


def test_other_parameters_are_the_strategy(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    other = {**tree["strategies"][0], "params": {"fast": 2, "slow": 4, "signal": 2}}
    report = compare(tmp_path, tree | {"strategies": [other]})
    assert_first(report, Cause.STRATEGY)
    assert report.first is not None
    assert "strategies.macd.parameters.params.slow: 3 live, 4 here" in report.first.evidence


def test_a_strategy_that_is_not_there_is_the_strategy(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    other = {**tree["strategies"][0], "name": "renamed"}
    report = compare(tmp_path, tree | {"strategies": [other]})
    assert_first(report, Cause.STRATEGY)


def test_other_code_of_a_python_strategy_is_the_strategy(tmp_path: Path) -> None:
    file = tmp_path / "every_plugin.py"
    tree = rule_tree(tmp_path) | {
        "plugins": [file],
        "strategies": [{"name": "every", "strategy": "every", "on": "trade"}],
    }
    file.write_text(PEEKING.replace("STEP", "5"), encoding="utf-8")
    live_session(tree)
    assert compare(tmp_path, tree).differences == 0
    file.write_text(PEEKING.replace("STEP", "6"), encoding="utf-8")
    report = compare(tmp_path, tree)
    assert_first(report, Cause.STRATEGY)
    assert report.first is not None
    assert any("strategies.every.source" in one for one in report.first.evidence)


def with_limits(tree: dict[str, Any], **limits: Any) -> dict[str, Any]:
    return tree | {"risk": {**tree["risk"], "limits": {**tree["risk"]["limits"], **limits}}}


@pytest.mark.parametrize("stricter", ["live", "here"])
def test_other_limits_are_risk(tmp_path: Path, stricter: str) -> None:
    loose = rule_tree(tmp_path)
    strict = with_limits(loose, cool_down="2s")
    first, second = (strict, loose) if stricter == "live" else (loose, strict)
    live_session(first)
    assert compare(tmp_path, first).differences == 0
    report = compare(tmp_path, second)
    assert_first(report, Cause.RISK)
    assert report.first is not None
    assert report.first.kind is Kind.VERDICT
    assert any("risk.limits.cool_down" in one for one in report.first.evidence)
    assert set(report.causes) == {Cause.RISK.value}


async def halt_and_go_on(live: Live) -> None:
    await live.send(TICKS // 3)
    live.engine.desk.set_state(RiskState.HALTED, "a test")
    await live.send(TICKS // 3)
    live.engine.desk.set_state(RiskState.ACTIVE, "a test")
    await live.send(TICKS // 3)


@pytest.mark.parametrize("first", [100, 2])
def test_what_an_operator_halted_is_no_divergence(tmp_path: Path, first: int) -> None:
    tree = rule_tree(tmp_path, journal={"refusals_first": first, "refusals_every": 7})
    live_session(tree, halt_and_go_on)
    report = compare(tmp_path, tree)
    assert report.differences == 0, report.first
    assert report.counts["commanded"] > 10


def test_a_signal_made_here_is_commanded_only_near_a_halt(tmp_path: Path) -> None:
    second = 10**9
    states = [(100, "halted"), (200, "active")]
    causes = Causes(
        blueprint_of(rule_tree(tmp_path)), (), parts={}, live_parts=lambda _: None, broken_at=None,
        state=None, unsampled=lambda _, __: ["RISK_HALTED"], reordered=lambda _: False,
        gate=GateStates([Event(at * second, OPERATOR_STATE, {"to": to}) for at, to in states]),
    )  # fmt: skip

    def extra(at_s: int) -> Difference:
        return Difference(
            kind=Kind.EXTRA, place=1, tick_epoch=7, tick_seq=1, ts_event=at_s * second
        )

    assert causes.commanded(extra(150))
    assert causes.commanded(extra(203)), "clocks and ages: some seconds are as good as then"
    assert not causes.commanded(extra(300)), "open again, and still live did not make it"


async def fall_behind(live: Live) -> None:
    """Let a third of the ticks have waited for 100 s somewhere."""
    await live.send(TICKS // 3)
    feed, late_ns = live.feed, 100 * 10**9
    for _ in range(TICKS // 3 // 40):
        ticks = feed.take(40)
        before = live.engine.ingest.pipeline.ticks
        await feed.send(feed.frame(ticks, ts_send=feed.epoch - late_ns))
        feed.note(ticks)
        await live.until_taken(before + 40)
    await live.send(TICKS // 3)


@pytest.mark.parametrize("first", [100, 2])
def test_what_came_too_late_is_time(tmp_path: Path, first: int) -> None:
    tree = rule_tree(tmp_path, journal={"refusals_first": first, "refusals_every": 7})
    tree["risk"]["data"]["max_late"] = "20s"
    live_session(tree, fall_behind)
    report = compare(tmp_path, tree)
    assert_first(report, Cause.TIME)
    assert set(report.causes) == {Cause.TIME.value}
    assert report.first is not None
    assert report.first.live["reason"] == "DATA_LATE"
    assert not report.failed(frozenset({Cause.TIME}))


def test_an_id_is_made_again_by_the_strategy_that_made_it(tmp_path: Path) -> None:
    tree = rule_tree(tmp_path)
    live_session(tree)
    kept: list[Signal] = []
    play([segment(tmp_path).parent], blueprint_of(tree), Options(keep=kept.append))
    (facts,) = Twin(blueprint_of(tree), Collector(), lambda _: False).judge.strategies
    assert kept
    assert all(made_by(facts, one) for one in kept)
    other = replace(facts, version="2")
    assert not any(made_by(other, one) for one in kept)
