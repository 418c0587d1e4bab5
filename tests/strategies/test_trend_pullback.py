"""The Python example, called as the engine calls it."""

import math
from collections.abc import Mapping

import pytest

from engine.core.signals import Signal
from strategies.bar_spec import BarKind, BarSpec
from strategies.examples.trend_pullback import TrendPullback
from strategies.plan import Watch, make_plan
from strategies.python_strategy import Bar, DataGap, Proposal, QuoteTick, TradeTick
from strategies.registry import load_registry


@pytest.fixture
def strategy() -> TrendPullback:
    made = TrendPullback({"oversold": 40.0, "quiet_bars": 2})
    made.on_start()
    return made


def bar(close: float, indicators: Mapping[str, float], instrument: str = "A.X") -> Bar:
    return Bar(
        instrument, "1m", 0, 60, close, close, close, close, 1.0, close, 1.0, 0.0, math.nan,
        math.nan, indicators,
    )  # fmt: skip


def closes(
    strategy: TrendPullback, *rsis: float, close: float = 101.0, instrument: str = "A.X"
) -> list[Proposal]:
    for rsi in rsis:
        strategy.on_bar(bar(close, {"trend": 100.0, "rsi": rsi}, instrument))
    return strategy.take_proposals()


def trade(size: float, side: int) -> TradeTick:
    return TradeTick("A.X", 0, 0, 101.0, size, side)


def quote(bid: float, ask: float) -> QuoteTick:
    return QuoteTick("A.X", 0, 0, bid, ask, 1.0, 1.0)


def signal() -> Signal:
    return Signal(
        "id", 1, 1, "A.X", "BUY", 0.5, 0.5, 101.0, None, "other", "1", 1, 1, 0, 0, 0, 0, 0, ()
    )


def test_dip_that_ends_in_a_rising_market_is_bought(strategy: TrendPullback) -> None:
    (one,) = closes(strategy, 50.0, 30.0, 45.0, 50.0)
    assert one[:4] == ("A.X", 1, 0.25, 0.5)
    assert math.isnan(one.edge_bps)


def test_rally_that_ends_in_a_falling_market_is_sold(strategy: TrendPullback) -> None:
    (one,) = closes(strategy, 72.0, 60.0, close=99.0)
    assert one.side == -1
    assert one.strength == pytest.approx(0.2)


def test_dip_in_a_falling_market_is_left_alone(strategy: TrendPullback) -> None:
    assert closes(strategy, 30.0, 45.0, close=99.0) == []


def test_indicators_that_are_not_ready_are_waited_for(strategy: TrendPullback) -> None:
    closes(strategy, 30.0)
    strategy.on_bar(bar(101.0, {"trend": 100.0}))
    assert closes(strategy, 45.0) == []


def test_what_was_before_a_gap_is_forgotten(strategy: TrendPullback) -> None:
    closes(strategy, 30.0)
    strategy.on_trade_tick(trade(5.0, 1))
    strategy.on_gap(DataGap(0, 0, 7))
    assert closes(strategy, 45.0) == []
    assert closes(strategy, 30.0, 45.0)[0].confidence == 0.5


def test_largest_trade_on_the_same_side_adds_confidence(strategy: TrendPullback) -> None:
    closes(strategy, 30.0)
    for size, side in ((1.0, -1), (5.0, 1), (2.0, -1)):
        strategy.on_trade_tick(trade(size, side))
    assert closes(strategy, 45.0)[0].confidence == 0.75


def test_trades_before_the_last_bar_do_not_count(strategy: TrendPullback) -> None:
    strategy.on_trade_tick(trade(5.0, 1))
    assert closes(strategy, 30.0, 45.0)[0].confidence == 0.5


@pytest.mark.parametrize(("ask", "count"), [(100.05, 1), (101.0, 0), (math.nan, 0)])
def test_wide_or_one_sided_book_is_waited_out(
    strategy: TrendPullback, ask: float, count: int
) -> None:
    strategy.on_quote_tick(quote(100.0, ask))
    assert len(closes(strategy, 30.0, 45.0)) == count


def test_another_strategys_signal_is_respected_for_some_bars(strategy: TrendPullback) -> None:
    strategy.on_signal(signal())
    assert closes(strategy, 30.0, 45.0) == []
    assert len(closes(strategy, 30.0, 45.0)) == 1


def test_instruments_are_kept_apart(strategy: TrendPullback) -> None:
    closes(strategy, 30.0)
    assert closes(strategy, 45.0, instrument="B.X") == []
    assert len(closes(strategy, 45.0)) == 1


def test_its_indicators_can_be_planned() -> None:
    registry = load_registry()
    made = registry.strategies["trend_pullback"]({})
    watches = [Watch("1m", name, use) for name, use in made.indicators().items()]
    bars = [BarSpec("1m", BarKind.TIME, interval_ns=60 * 10**9)]
    plan = make_plan(registry, bars, [], watches)
    assert [name for name, _, _ in plan.columns("1m")] == ["trend", "rsi"]


def test_it_says_how_often_it_proposed(
    strategy: TrendPullback, caplog: pytest.LogCaptureFixture
) -> None:
    closes(strategy, 30.0, 45.0)
    with caplog.at_level("INFO"):
        strategy.on_stop()
    assert "trend_pullback proposed 1 times" in caplog.text
