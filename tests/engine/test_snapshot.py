"""What takes up a snapshot goes on as if nothing had happened; what does not fit is told."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from bundle_cases import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_cases import RULES, market_ticks, origins_of

from engine.clock import TickClock
from engine.composition import build_pipeline, resolve
from engine.config import Config
from engine.core.errors import SnapshotError
from engine.core.records import Board, Instruments, TickKind, instrument_row
from engine.core.signals import Refusal, Signal
from engine.pipeline import Pipeline
from engine.python_host import HostedState
from engine.snapshot import (
    JournalPlace,
    Snapshot,
    StreamPlace,
    check_fit,
    decode_snapshot,
    encode_snapshot,
    identity_of,
)
from latency.histogram import StageHistograms
from replay.digest import Collector
from runtime.asking import Answer, Ask

COUNT = 15_000
INSTRUMENTS = 5
PLUGIN = """
import threading

from strategies.python_strategy import Strategy
from strategies.spec import Use

class Noisy(Strategy):
    name = "noisy"
    defaults = {"every": 7}
    wants_trades = True
    wants_quotes = True

    def on_start(self):
        self.seen = 0
        self.last = {}

    def indicators(self):
        return {"mean": Use("sma", {"length": 5})}

    def on_bar(self, bar):
        mean = bar.indicators.get("mean")
        if mean is not None and bar.close > mean and bar.close != self.last.get(bar.instrument):
            self.buy(bar.instrument, 0.5, 0.5)
        self.last[bar.instrument] = bar.close

    def on_trade_tick(self, tick):
        self.seen += 1
        if self.seen % self.params["every"] == 0:
            self.sell(tick.instrument, 0.25, 0.75, 30.0)

    def on_quote_tick(self, tick):
        self.seen += tick.bid > 100

class Echo(Strategy):
    name = "echo"

    def on_signal(self, signal):
        self.buy(signal.instrument, signal.strength, signal.confidence)

class Failing(Strategy):
    name = "failing"

    def on_bar(self, bar):
        raise KeyError("oh")

class Locked(Strategy):
    name = "locked"

    def on_start(self):
        self.lock = threading.Lock()

class Kept(Locked):
    name = "kept"

    def snapshot(self):
        return b"mine"

    def restore(self, kept):
        assert kept == b"mine"
"""
KINDS: dict[str, Any] = {
    **RULES,
    "bars": [
        {"name": "1s", "kind": "time", "interval": "1s"},
        {"name": "10t", "kind": "tick", "size": 10},
        {"name": "200v", "kind": "volume", "size": 200},
        {"name": "9kn", "kind": "turnover", "size": 9_000},
    ],
    "strategies": [
        {"name": "macd", "rule": "macd_cross", "on": "1s", "params": {"fast": 3, "slow": 6}},
        {"name": "tick", "rule": "macd_cross", "on": "trade"},
        {"name": "kdj", "rule": "kdj_macd", "on": "10t"},
        {"name": "rsi", "rule": "macd_rsi", "on": "200v"},
        {"name": "donchian", "rule": "donchian_breakout", "on": "9kn"},
        {
            "name": "flow",
            "rule": "flow_momentum",
            "on": "tick",
            "params": {"length": 100, "entry": 0.1, "rearm": 0.05, "move_bps": 50.0},
        },
    ],
    "risk": {
        "limits": {
            "cool_down": "500ms",
            "rate_window": "4s",
            "max_signals_per_instrument": 3,
            "max_signals_per_strategy": 5,
            "max_signals": 9,
            "max_position": 3,
            "max_gross": 8,
        },
        "data": {"gap_hold": "20s"},
        "market": {"sessions": "off"},
    },
}


def instruments() -> Instruments:
    """Crypto, and one of a board with T+1, price limits and a day of its own."""
    rows = [
        instrument_row(f"S{i}.X", id=i, board=Board.CRYPTO, tick_size=0.01)
        for i in range(INSTRUMENTS - 1)
    ]
    china = instrument_row(
        "600000.SSE", id=INSTRUMENTS - 1, board=Board.CN_MAIN, tick_size=0.01,
        pre_close=100.0, day_offset_s=28_800,
    )  # fmt: skip
    return np.concatenate([*rows, china])


def market() -> Any:
    """Ticks over a change of the trading day, with gaps and a quiet stretch."""
    ticks = market_ticks(COUNT, INSTRUMENTS, seed=5)
    midnight = (int(ticks["ts_event"][0]) // 86_400_000_000_000 + 1) * 86_400_000_000_000
    shift = midnight - int(ticks["ts_event"][COUNT // 2])
    for name in ("ts_event", "ts_recv"):
        ticks[name] += shift
        ticks[name][9_000:] += 120_000_000_000
    gaps = [200, 1_100]
    ticks["kind"][gaps], ticks["instrument"][gaps] = TickKind.GAP, 0xFFFF_FFFF
    return ticks


TICKS = market()
ORIGINS = origins_of(COUNT)


class Kept(Collector):
    """Keeps everything that was decided, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[Signal | Refusal] = []

    def on_signal(self, signal: Signal) -> bool:
        self.decided.append(signal)
        return super().on_signal(signal)

    def on_refusal(self, refusal: Refusal) -> None:
        self.decided.append(refusal)
        super().on_refusal(refusal)


def begin(tree: dict[str, Any], sink: Kept) -> Pipeline:
    """Build a pipeline that knows no instrument yet."""
    pipeline = build_pipeline(
        resolve(Config.model_validate(tree)),
        capacity=INSTRUMENTS,
        sink=sink,
        clock=TickClock(),
        histograms=StageHistograms(),
    )
    pipeline.host.start()
    return pipeline


def taken(pipeline: Pipeline, identity: str = "") -> Snapshot:
    return Snapshot(
        taken_ns=1,
        kernel_key=pipeline.kernel.key,
        identity=identity,
        streams=[StreamPlace(1, 7, 8)],
        recording=None,
        journal=JournalPlace(1, pipeline.judge.next_seq),
        pipeline=pipeline.export_state(),
    )


def whole(tree: dict[str, Any]) -> list[Signal | Refusal]:
    sink = Kept()
    pipeline = begin(tree, sink)
    pipeline.define(instruments())
    pipeline.run_ticks(TICKS, ORIGINS, 0, COUNT)
    return sink.decided


def in_lives(tree: dict[str, Any], cuts: list[int]) -> list[Signal | Refusal]:
    """Decide the same ticks, in a pipeline of its own between any two cuts."""
    sink = Kept()
    pipeline = begin(tree, sink)
    pipeline.define(instruments())
    for start, stop in itertools.pairwise([0, *sorted(cuts), COUNT]):
        if stop > start:
            pipeline.run_ticks(TICKS, ORIGINS, start, stop)
        kept = decode_snapshot(encode_snapshot(taken(pipeline)))
        pipeline = begin(tree, sink)
        pipeline.import_state(kept.pipeline)
        pipeline.judge.next_seq = kept.journal.next_seq
        pipeline.ask_again(kept.pipeline.waiting)
    return sink.decided


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "snapshot_plugin.py"
    path.write_text(PLUGIN)
    return path


def with_python(plugin: Path, *names: str) -> dict[str, Any]:
    python = [{"name": n, "strategy": n, "on": "1s"} for n in names]
    return {**KINDS, "plugins": [plugin], "strategies": [*KINDS["strategies"], *python]}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, COUNT - 1), min_size=1, max_size=5))
def test_rules_of_every_bar_go_on_from_any_tick(cuts: list[int]) -> None:
    assert in_lives(KINDS, cuts) == whole(KINDS)


def test_the_market_of_these_tests_asks_for_everything() -> None:
    decided = whole(KINDS)
    reasons = {one.reason for one in decided if isinstance(one, Refusal)}
    signals = [one for one in decided if isinstance(one, Signal)]
    wanted = {"RISK_COOL_DOWN", "RISK_RATE", "RISK_EXPOSURE", "DATA_GAP", "MARKET_T_PLUS_1"}
    assert wanted <= reasons
    assert len({one.strategy for one in signals}) >= 4
    assert len({one.instrument for one in signals}) == INSTRUMENTS


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(1, COUNT - 1), min_size=1, max_size=4))
def test_python_strategies_go_on_from_any_tick(plugin: Path, cuts: list[int]) -> None:
    tree = with_python(plugin, "noisy", "echo", "failing", "kept")
    assert in_lives(tree, cuts) == whole(tree)


class Silent:
    """Answers nothing, ever."""

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        return [None] * len(asks)

    def histograms(self) -> dict[tuple[str, str], StageHistograms]:
        return {}


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bundle = make_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path
    scored = {"name": "scored", "model": "tiny", "params": {"min_probability": 0.0}}
    asks = {**RULES["strategies"][0], "name": "asks", "confirm": "tiny", "confirm_min": 0.3}
    return {
        **KINDS,
        "risk": {"limits": {"max_position": 0}, "cost": {"check_edge": False}},
        "models": [{"name": "tiny", "bundle": str(bundle), "on": "1s"}],
        "strategies": [*KINDS["strategies"], scored, asks],
    }


@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(1, COUNT - 1), min_size=1, max_size=3))
def test_windows_of_models_go_on_from_any_tick(with_model: dict[str, Any], cuts: list[int]) -> None:
    undisturbed = whole(with_model)
    assert in_lives(with_model, cuts) == undisturbed
    assert any(isinstance(one, Signal) and one.strategy == "scored" for one in undisturbed)


def test_a_score_that_was_waited_for_is_asked_for_again(with_model: dict[str, Any]) -> None:
    undisturbed = [one for one in whole(with_model) if isinstance(one, Signal) and one.model]
    stop = int(np.searchsorted(ORIGINS["seq"], undisturbed[-1].tick_seq, side="right"))
    sink = Kept()
    pipeline = begin(with_model, sink)
    assert pipeline.desk is not None
    pipeline.define(instruments())
    last = undisturbed[-1].tick_seq
    pipeline.run_ticks(TICKS, ORIGINS, 0, stop - 1)
    pipeline.desk.inference = Silent()
    pipeline.run_ticks(TICKS, ORIGINS, stop - 1, stop)
    kept = decode_snapshot(encode_snapshot(taken(pipeline)))
    assert pipeline.desk.waiting == len(kept.pipeline.waiting) > 0
    told = Kept()
    pipeline = begin(with_model, told)
    pipeline.import_state(kept.pipeline)
    pipeline.ask_again(kept.pipeline.waiting)
    expected = {one.id for one in undisturbed if one.tick_seq == last}
    assert {one.id for one in told.decided if isinstance(one, Signal)} == expected


def test_what_was_taken_up_can_be_forgotten_again() -> None:
    sink = Kept()
    pipeline = begin(KINDS, sink)
    pristine = pipeline.export_state()
    pipeline.define(instruments()[::-1][:1])
    for _ in range(2):
        pipeline.import_state(pristine)
        assert (pipeline.symbols, pipeline.unmatched()) == (
            [],
            [s["name"] for s in KINDS["strategies"]],
        )
        sink.decided.clear()
        pipeline.judge.next_seq = 1
        pipeline.define(instruments())
        pipeline.run_ticks(TICKS, ORIGINS, 0, COUNT)
        assert sink.decided == whole(KINDS)


def identity(tree: dict[str, Any]) -> str:
    return identity_of(resolve(Config.model_validate(tree)), begin(tree, Kept()))


def test_an_identity_changes_with_whatever_gives_the_state_its_meaning(plugin: Path) -> None:
    tree = with_python(plugin, "noisy")
    same = identity(tree)
    assert identity(tree) == same
    shorter = [{**tree["bars"][0], "interval": "2s"}, *tree["bars"][1:]]
    limits = {**tree["risk"], "limits": {**tree["risk"]["limits"], "max_gross": 9}}
    others = [{**tree, "bars": shorter}, {**tree, "risk": limits}, with_python(plugin, "echo")]
    assert len({same, *map(identity, others)}) == 4
    assert identity({**tree, "risk": {**tree["risk"], "state": "reducing"}}) == same
    plugin.write_text(PLUGIN + "# edited\n")
    assert identity(tree) != same


def test_a_snapshot_of_another_kernel_or_configuration_is_refused() -> None:
    pipeline = begin(KINDS, Kept())
    snapshot = taken(pipeline, "ours")
    check_fit(snapshot, pipeline.kernel.key, "ours")
    with pytest.raises(SnapshotError, match="another configuration"):
        check_fit(snapshot, pipeline.kernel.key, "theirs")
    with pytest.raises(SnapshotError, match=f"it is of kernel {pipeline.kernel.key}, this is k"):
        check_fit(snapshot, "k", "ours")
    fewer = begin({**KINDS, "strategies": KINDS["strategies"][:2]}, Kept())
    assert fewer.kernel.key != pipeline.kernel.key


def test_state_of_another_size_is_refused() -> None:
    pipeline = begin(KINDS, Kept())
    pipeline.define(instruments())
    state = pipeline.export_state()
    short = msgspec.structs.replace(state.kernel, ring=state.kernel.ring[8:])
    many = msgspec.structs.replace(state.kernel, instruments=INSTRUMENTS + 1)
    for kernel in (short, many):
        with pytest.raises(SnapshotError, match="does not fit"):
            pipeline.import_state(msgspec.structs.replace(state, kernel=kernel))


def test_bytes_that_are_no_snapshot_are_refused() -> None:
    body = encode_snapshot(taken(begin(KINDS, Kept())))
    for damaged in (b"", body[:-1], body[1:], b"\x80"):
        with pytest.raises(SnapshotError, match="cannot be read"):
            decode_snapshot(damaged)


def test_a_python_strategy_that_cannot_be_kept_is_named(plugin: Path) -> None:
    with pytest.raises(SnapshotError, match="strategy locked cannot be kept: TypeError"):
        begin(with_python(plugin, "locked"), Kept()).export_state()


def test_a_python_strategy_that_refuses_its_past_is_named(plugin: Path) -> None:
    pipeline = begin(with_python(plugin, "noisy", "kept"), Kept())
    state = pipeline.export_state()
    for states, problem in (
        ([state.strategies[0], HostedState("kept", 0, b"yours")], "strategy kept cannot take up"),
        (state.strategies[::-1], "Python strategies are"),
    ):
        with pytest.raises(SnapshotError, match=problem):
            pipeline.import_state(msgspec.structs.replace(state, strategies=states))
