"""The pipeline: same answers however the stream is cut, honest about gaps and failures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_cases import (
    RULES,
    make_pipeline,
    market_instruments,
    market_ticks,
    origins_of,
    run_in_bursts,
)

from engine.core.records import TickKind
from engine.core.signals import Signal
from replay.digest import Collector

TICKS = market_ticks(6_000)

PLUGIN = """
from strategies.python_strategy import Strategy
from strategies.spec import Use

class Noisy(Strategy):
    name = "noisy"
    version = "3"
    defaults = {"every": 7}
    wants_trades = True
    wants_quotes = True

    def on_start(self):
        self.seen = 0

    def indicators(self):
        return {"mean": Use("sma", {"length": 5})}

    def on_bar(self, bar):
        mean = bar.indicators.get("mean")
        if mean is not None and bar.close > mean:
            self.buy(bar.instrument, 0.5, 0.5)

    def on_trade_tick(self, tick):
        self.seen += 1
        if self.seen % self.params["every"] == 0:
            self.sell(tick.instrument, 0.25, 0.75, 3.0)

    def on_quote_tick(self, tick):
        self.seen += tick.bid > 100

class Watchful(Strategy):
    name = "watchful"
    wants_trades = True

    def on_start(self):
        self.told, self.trades, self.after = [], 0, False

    def on_trade_tick(self, tick):
        self.trades += 1
        if self.after:
            self.buy(tick.instrument, 0.5, 0.5)
        self.after = False

    def on_gap(self, gap):
        self.told.append((self.trades, gap.ts_recv, gap.missing))
        self.after = True

class Rash(Strategy):
    name = "rash"
    def on_gap(self, gap):
        self.buy("S0.X", 0.5, 0.5)

class Echo(Strategy):
    name = "echo"

    def on_signal(self, signal):
        if signal.strategy != "echo":
            self.buy(signal.instrument, signal.strength, signal.confidence)

class PingA(Strategy):
    name = "ping_a"
    def on_signal(self, signal):
        self.buy(signal.instrument, 1.0, 1.0)

class PingB(Strategy):
    name = "ping_b"
    def on_signal(self, signal):
        self.sell(signal.instrument, 1.0, 1.0)

class Broken(Strategy):
    name = "broken"
    def on_bar(self, bar):
        self.buy(bar.instrument, 1.0, 1.0)
        raise KeyError("oh")

class Both(Strategy):
    name = "both"
    def on_bar(self, bar):
        self.buy(bar.instrument, 1.0, 1.0)
        self.sell(bar.instrument, 1.0, 1.0)

class Lost(Strategy):
    name = "lost"
    def on_bar(self, bar):
        self.buy("NO.SUCH", 1.0, 1.0)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "pipeline_plugin.py"
    path.write_text(PLUGIN)
    return path


def with_python(plugin: Path, *names: str) -> dict[str, Any]:
    python = [{"name": n, "strategy": n, "on": "1s"} for n in names]
    return {**RULES, "plugins": [plugin], "strategies": [*RULES["strategies"], *python]}


def digest_of(tree: dict[str, Any], cuts: list[int]) -> tuple[str, int, dict[str, int]]:
    pipeline, sink = make_pipeline(tree)
    run_in_bursts(pipeline, TICKS, cuts)
    return sink.digest(), sink.signals, dict(sink.refusals)


CUTS = [
    [],
    list(range(1, len(TICKS))),
    list(range(7, len(TICKS), 7)),
    list(range(64, len(TICKS), 64)),
    sorted(np.random.default_rng(3).integers(0, len(TICKS), 300).tolist()),
]


def test_compiled_rules_answer_alike_however_the_stream_is_cut() -> None:
    whole, *others = [digest_of(RULES, cuts) for cuts in CUTS]
    assert whole[1] > 50
    assert others == [whole] * len(others)


def test_rehearsals_change_no_answer() -> None:
    pipeline, sink = make_pipeline(RULES)
    origins, rehearsed = origins_of(len(TICKS)), 0
    assert pipeline.rehearse() is None
    for at in range(0, len(TICKS), 7):
        pipeline.run_ticks(TICKS, origins, at, min(at + 7, len(TICKS)))
        rehearsed += pipeline.rehearse() is not None
    assert rehearsed > 500
    assert (sink.digest(), sink.signals, dict(sink.refusals)) == digest_of(RULES, [])
    refused = {reason.value: n for reason, n in pipeline.gate.refusals.items() if n}
    assert refused == dict(sink.refusals)


def test_python_strategies_answer_alike_however_the_stream_is_cut(plugin: Path) -> None:
    tree = with_python(plugin, "noisy", "echo")
    whole, *others = [digest_of(tree, cuts) for cuts in CUTS]
    assert whole[1] > 200
    assert others == [whole] * len(others)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5_999), max_size=40))
def test_no_choice_of_cuts_changes_the_digest(cuts: list[int]) -> None:
    assert digest_of(RULES, cuts) == digest_of(RULES, [])


def test_signals_are_numbered_without_a_hole_and_carry_their_tick() -> None:
    kept: list[Signal] = []
    pipeline, sink = make_pipeline()
    sink._keep = kept.append
    run_in_bursts(pipeline, TICKS, [])
    assert [s.seq for s in kept] == list(range(1, len(kept) + 1))
    for signal in kept:
        tick = TICKS[signal.tick_seq - 1]
        assert signal.ts_recv == tick["ts_recv"]
        assert signal.valid_until == signal.ts_recv + 30_000_000_000
    assert len({s.id for s in kept}) == len(kept)


def test_a_gap_makes_everything_warm_up_again() -> None:
    ticks = TICKS.copy()
    ticks[3_000]["kind"] = TickKind.GAP
    ticks[3_000]["instrument"] = 0xFFFF_FFFF
    kept: list[Signal] = []
    pipeline, sink = make_pipeline()
    sink._keep = kept.append
    run_in_bursts(pipeline, ticks, [])
    after = [s.tick_seq for s in kept if s.tick_seq > 3_000 and s.strategy == "tick"]
    trades = np.flatnonzero((ticks["kind"] == TickKind.TRADE) & (np.arange(len(ticks)) > 3_000))
    per_instrument = np.array([np.sum(ticks["instrument"][trades] == i) for i in range(4)])
    assert per_instrument.min() > 34
    assert min(after) > trades[34]
    assert sink.refusals["DATA_GAP"] == 0 or min(after) > 3_000


@pytest.mark.parametrize("cuts", [[], [3_000], [3_001], [2_999, 3_000, 3_001, 3_002]])
def test_a_python_strategy_is_told_of_a_gap_at_its_place(plugin: Path, cuts: list[int]) -> None:
    ticks = TICKS.copy()
    for row, missing in ((3_000, 17), (3_500, 0)):
        ticks[row]["kind"], ticks[row]["instrument"] = TickKind.GAP, 0xFFFF_FFFF
        ticks[row]["size"] = missing
    kept: list[Signal] = []
    pipeline, sink = make_pipeline(with_python(plugin, "watchful", "rash"))
    sink._keep = kept.append
    run_in_bursts(pipeline, ticks, cuts)
    traded = np.isin(ticks["kind"], (TickKind.TRADE, TickKind.SNAPSHOT)) & (ticks["price"] > 0)
    watchful: Any = pipeline.host.hosted[0].strategy
    assert watchful.told == [
        (int(traded[:3_000].sum()), int(ticks["ts_recv"][3_000]), 17),
        (int(traded[:3_500].sum()), int(ticks["ts_recv"][3_500]), 0),
    ]
    assert pipeline.host.failures() == {"rash": 2}
    assert not any(signal.strategy == "rash" for signal in kept)


def test_a_failing_strategy_is_silenced_and_harms_nobody(plugin: Path) -> None:
    alone = digest_of(RULES, [])
    pipeline, sink = make_pipeline(with_python(plugin, "broken", "lost"))
    run_in_bursts(pipeline, TICKS, [])
    assert pipeline.host.failures() == {"broken": 10, "lost": 10}
    assert sink.events["strategy_silenced"] == 2
    assert (sink.digest(), sink.signals) == alone[:2]


def test_every_proposal_of_one_tick_has_an_id_of_its_own(plugin: Path) -> None:
    made: list[list[str]] = []
    for cuts in CUTS[:3]:
        signals: list[Signal] = []
        pipeline, _ = make_pipeline(with_python(plugin, "both"))
        pipeline.judge.sink = sink = Collector(signals.append)
        run_in_bursts(pipeline, TICKS, cuts)
        ids = [signal.id for signal in signals]
        assert len(ids) == len(set(ids))
        assert sink.signals_by_strategy["both"] > 100
        made.append(ids)
    assert made[0] == made[1] == made[2]


def test_strategies_that_answer_each_other_without_end_are_cut(plugin: Path) -> None:
    rates = ("max_signals_per_instrument", "max_signals_per_strategy", "max_signals")
    limits = {**RULES["risk"]["limits"], **dict.fromkeys(rates, 0)}
    tree = {**with_python(plugin, "ping_a", "ping_b"), "risk": {"limits": limits}}
    pipeline, _ = make_pipeline(tree)
    run_in_bursts(pipeline, TICKS, [])
    assert pipeline.cascades_cut > 0


def test_definitions_beyond_the_capacity_are_told_and_left_out() -> None:
    pipeline, sink = make_pipeline(instruments=2)
    pipeline.define(market_instruments(5))
    assert sink.events["instruments_over_capacity"] == 1
    assert pipeline.symbols == ["S0.X", "S1.X"]


def test_a_strategy_looks_only_at_its_instruments() -> None:
    only = [{**s, "instruments": ["S1.*"]} for s in RULES["strategies"]]
    kept: list[Signal] = []
    pipeline, sink = make_pipeline({**RULES, "strategies": only})
    sink._keep = kept.append
    run_in_bursts(pipeline, TICKS, [])
    assert {s.instrument for s in kept} == {"S1.X"}


def test_a_signal_the_sink_cannot_take_is_void_and_takes_no_number() -> None:
    pipeline, sink = make_pipeline()
    refused = 3

    class Full:
        left = refused

        def on_signal(self, signal: Signal) -> bool:
            if self.left:
                self.left -= 1
                return False
            return sink.on_signal(signal)

        on_refusal = staticmethod(sink.on_refusal)
        on_event = staticmethod(sink.on_event)

    pipeline.judge.sink = Full()
    pipeline.run_ticks(TICKS, origins_of(len(TICKS)), 0, len(TICKS))
    assert pipeline.judge.void == refused
    assert pipeline.judge.next_seq == sink.signals + 1


def test_every_stage_of_a_decision_is_measured() -> None:
    pipeline, sink = make_pipeline()
    run_in_bursts(pipeline, TICKS, [])
    counts = {name: s.count for name, s in pipeline.judge.histograms.summary().items()}
    assert counts["gate"] == sink.signals + sum(sink.refusals.values())
    assert counts["publish"] == counts["total"] == sink.signals
