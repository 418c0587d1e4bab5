"""Metrics: cases counted by hand, twins written another way, and what has no answer."""

import math
import statistics
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_cases import CASH, a_result, a_walk, trade_rows

from replay.backtest.metrics import (
    LEAST_DAYS,
    account_metrics,
    daily_returns,
    daily_sharpe,
    measure,
    trade_metrics,
    underwater,
)
from replay.backtest.sharpe import moments

pytest.importorskip("empyrical")


def test_an_account_counted_by_hand() -> None:
    """Up a tenth, down a fifth, down to 0.77, back to 1.21 of what it began with."""
    equities = [1.1 * CASH, 0.88 * CASH, 0.77 * CASH, 1.21 * CASH]
    told = account_metrics(a_result(equities, exposures=[0.0, 440_000.0, 770_000.0, 0.0]), 252)
    assert told.days == 4
    assert (told.first_day, told.last_day) == (20211129, 20211202)
    assert told.final_equity == 1.21 * CASH
    assert told.cumulative_return == pytest.approx(0.21)
    assert told.max_drawdown == pytest.approx(0.3)
    assert told.drawdown_days == 2
    assert told.exposure_mean == pytest.approx((0 + 0.5 + 1.0 + 0) / 4)
    assert told.exposure_max == pytest.approx(1.0)
    assert told.time_in_market == 0.5


def test_a_year_is_projected_from_a_month_on() -> None:
    """Half of what there was is gone on the tenth of so many days, and made good at the end."""
    for days, known in ((LEAST_DAYS, True), (LEAST_DAYS - 1, False)):
        told = account_metrics(a_result([CASH] * 9 + [0.5 * CASH] * (days - 10) + [1.1 * CASH]))
        if known:
            assert told.annual_return == pytest.approx(1.1 ** (252 / 20) - 1)
            assert told.calmar == pytest.approx(told.annual_return / 0.5)
        else:
            assert math.isnan(told.annual_return)
            assert math.isnan(told.calmar)


def test_turnover_is_half_of_what_was_traded_in_a_year_over_the_mean_equity() -> None:
    result = a_result([CASH, CASH, CASH, CASH], traded=100_000.0)
    assert account_metrics(result, 252).turnover_yearly == pytest.approx(0.1 * 252)
    assert account_metrics(result, 365).turnover_yearly == pytest.approx(0.1 * 365)


def test_trades_counted_by_hand() -> None:
    trades = trade_rows([300.0, -100.0, -200.0, 0.0, 600.0, -300.0], put_in=10_000.0)
    trades["open"][5] = 1
    told = trade_metrics(trades)
    assert (told.num_trades, told.open_trades) == (6, 1)
    assert told.win_rate == pytest.approx(2 / 6)
    assert told.profit_loss_ratio == pytest.approx(450.0 / 200.0)
    assert told.profit_factor == pytest.approx(900.0 / 600.0)
    assert told.avg_return == pytest.approx(300.0 / 6 / 10_000.0)
    assert told.best_return == pytest.approx(0.06)
    assert told.worst_return == pytest.approx(-0.03)
    assert told.max_trade_drawdown == pytest.approx(0.03)
    assert told.losing_streak == 2
    assert told.mean_holding_s == pytest.approx(86_400 * (5 + 3) / 6)


def test_losers_in_a_row_are_counted_in_the_order_of_their_ends() -> None:
    trades = trade_rows([-1.0, 1.0, -1.0])
    assert trade_metrics(trades).losing_streak == 1
    trades["ts_exit"][1] += 10 * 86_400 * 10**9
    assert trade_metrics(trades).losing_streak == 2


def walked_drawdowns(values: list[float]) -> list[float]:
    highest, falls = CASH, []
    for value in values:
        highest = max(highest, value)
        falls.append(value / highest - 1.0)
    return falls


@settings(max_examples=60, deadline=None)
@given(days=st.integers(3, 300), seed=st.integers(0, 10_000), drift=st.floats(-0.002, 0.002))
def test_account_ratios_equal_those_of_plain_loops(days: int, seed: int, drift: float) -> None:
    equities = a_walk(days, seed, drift)
    told = account_metrics(a_result(equities), 252)
    before = [CASH, *equities[:-1]]
    returns = [after / earlier - 1.0 for after, earlier in zip(equities, before, strict=True)]
    mean, deviation = statistics.fmean(returns), statistics.stdev(returns)
    downside = math.sqrt(sum(min(r, 0.0) ** 2 for r in returns) / len(returns))
    falls = walked_drawdowns(equities)
    assert told.sharpe == pytest.approx(mean / deviation * math.sqrt(252))
    assert told.annual_volatility == pytest.approx(deviation * math.sqrt(252))
    assert told.cumulative_return == pytest.approx(equities[-1] / CASH - 1.0)
    assert told.max_drawdown == pytest.approx(-min(falls))
    if downside > 0.0:
        assert told.sortino == pytest.approx(mean * 252 / (downside * math.sqrt(252)))
    assert daily_sharpe(daily_returns(a_result(equities))) == pytest.approx(mean / deviation)
    assert underwater(daily_returns(a_result(equities))) == pytest.approx(
        np.array(falls), abs=1e-12
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-500, 500).map(float), min_size=1, max_size=40))
def test_trade_ratios_equal_those_of_plain_loops(pnls: list[float]) -> None:
    told = trade_metrics(trade_rows(pnls))
    won = [pnl for pnl in pnls if pnl > 0]
    lost = [pnl for pnl in pnls if pnl < 0]
    assert told.win_rate == pytest.approx(len(won) / len(pnls))
    if lost:
        gain = statistics.fmean(won) if won else 0.0
        assert told.profit_loss_ratio == pytest.approx(gain / -statistics.fmean(lost))
        assert told.profit_factor == pytest.approx(sum(won) / -sum(lost))
    else:
        expected = math.inf if won else math.nan
        assert told.profit_loss_ratio == pytest.approx(expected, nan_ok=True)
        assert told.profit_factor == pytest.approx(expected, nan_ok=True)


def test_no_day_at_all_has_no_ratios_and_lost_nothing() -> None:
    told = measure(a_result([]))
    account = told.account
    assert (account.days, account.final_equity, account.cumulative_return) == (0, CASH, 0.0)
    assert (account.max_drawdown, account.drawdown_days, account.cost) == (0.0, 0, 0.0)
    for name in ("annual_return", "annual_volatility", "sharpe", "calmar", "turnover_yearly"):
        assert math.isnan(getattr(account, name)), name
    assert math.isnan(told.skill.deflated_sharpe)


def test_no_trade_has_no_rate_of_winning() -> None:
    told = trade_metrics(trade_rows([]))
    assert (told.num_trades, told.open_trades, told.losing_streak) == (0, 0, 0)
    for name, value in asdict(told).items():
        if name not in {"num_trades", "open_trades", "losing_streak"}:
            assert math.isnan(value), name


def test_one_day_has_a_return_and_no_spread() -> None:
    account = account_metrics(a_result([1.01 * CASH]))
    assert account.cumulative_return == pytest.approx(0.01)
    assert account.max_drawdown == 0.0
    assert math.isnan(account.sharpe)
    assert math.isnan(account.annual_volatility)
    assert math.isnan(account.calmar)


def test_an_account_that_does_nothing_has_no_ratio_and_no_volatility() -> None:
    account = account_metrics(a_result([CASH] * 50))
    assert (account.annual_volatility, account.cumulative_return) == (0.0, 0.0)
    assert (account.max_drawdown, account.time_in_market) == (0.0, 0.0)
    assert math.isnan(account.sharpe)
    assert math.isnan(account.sortino)


def test_a_steady_gain_has_no_ratio_either() -> None:
    """The same return every day up to rounding: not a Sharpe ratio of a million."""
    account = account_metrics(a_result([CASH * 1.001**n for n in range(1, 60)]))
    assert math.isnan(account.sharpe)
    assert account.annual_volatility == 0.0
    assert account.drawdown_days == 0


def test_losses_alone_are_told_as_such() -> None:
    told = trade_metrics(trade_rows([-100.0, -50.0]))
    assert (told.win_rate, told.profit_loss_ratio, told.profit_factor) == (0.0, 0.0, 0.0)
    assert told.losing_streak == 2
    account = account_metrics(a_result([CASH * 0.99, CASH * 0.97, CASH * 0.96]))
    assert account.max_drawdown == pytest.approx(0.04)
    assert account.drawdown_days == 3
    assert account.sharpe < 0.0


def test_wins_alone_have_an_infinite_ratio() -> None:
    told = trade_metrics(trade_rows([100.0, 50.0]))
    assert told.win_rate == 1.0
    assert told.profit_loss_ratio == math.inf
    assert told.max_trade_drawdown == 0.0


def test_a_ruined_account_stays_ruined() -> None:
    result = a_result([0.5 * CASH, -0.1 * CASH, 0.2 * CASH])
    assert daily_returns(result).tolist() == [-0.5, -1.0, 0.0]
    account = account_metrics(a_result([0.5 * CASH, -0.1 * CASH, *[0.2 * CASH] * 20]))
    assert account.annual_return == -1.0
    assert account.cumulative_return == -1.0
    assert account.max_drawdown == 1.0


def test_all_trials_deflate_the_ratio_and_one_does_not() -> None:
    result = a_result(a_walk(500, seed=8, drift=0.001))
    alone = measure(result).skill
    assert alone.trials == 1
    assert alone.hurdle_sharpe == 0.0
    assert alone.deflated_sharpe == alone.sharpe_probability
    ratios = np.random.default_rng(2).normal(0.0, 0.05, 200)
    among = measure(result, ratios).skill
    assert among.trials == 200
    assert among.hurdle_sharpe > 1.0
    assert among.deflated_sharpe < alone.deflated_sharpe
    assert among.sharpe_probability == alone.sharpe_probability


def test_so_many_days_are_needed_as_make_the_probability_95_percent() -> None:
    """As many days of the same moments give 95 % exactly."""
    result = a_result(a_walk(300, seed=8, drift=0.001))
    of = moments(daily_returns(result))
    needed = measure(result).skill.track_record_days
    error = 1 - of.skewness * of.sharpe + (of.kurtosis - 1) / 4 * of.sharpe**2
    distance = of.sharpe * math.sqrt(needed - 1) / math.sqrt(error)
    assert statistics.NormalDist().cdf(distance) == pytest.approx(0.95)
    losing = a_result(a_walk(300, seed=8, drift=-0.003))
    assert measure(losing).skill.track_record_days == math.inf


def test_all_numbers_go_into_one_table_for_machines() -> None:
    told = measure(a_result(a_walk(30), trade_rows([1.0]))).as_dict()
    assert len(told) == 17 + 11 + 5
    assert told["num_trades"] == 1
    assert told["trials"] == 1
