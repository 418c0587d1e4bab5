"""Sharpe ratios judged: the published examples, an independent twin, and what has no answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.backtest.sharpe import (
    Moments,
    deflated_sharpe,
    expected_maximum,
    least_track_record,
    moments,
    probabilistic_sharpe,
)

scipy_stats = pytest.importorskip("scipy.stats")


def test_the_published_hedge_fund_is_reproduced() -> None:
    """Bailey and López de Prado (2012): two years of months, ratio 0.458, skewed and fat-tailed."""
    fund = Moments(0.458, -2.448, 10.164, 24)
    assert probabilistic_sharpe(fund) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(Moments(0.458, 0.0, 3.0, 24)) == pytest.approx(0.982, abs=5e-4)


def test_the_published_track_records_are_reproduced() -> None:
    """The same paper: a ratio of 2 a year against 1, normal returns, by days, weeks and months."""
    for periods, years in ((252, 2.73), (52, 2.83), (12, 3.24)):
        daily = Moments(2.0 / math.sqrt(periods), 0.0, 3.0, 1)
        needed = least_track_record(daily, 1.0 / math.sqrt(periods), 0.95)
        assert needed / periods == pytest.approx(years, abs=5e-3)


def test_the_published_deflation_is_reproduced() -> None:
    """Bailey and López de Prado (2014): 2.5 a year in five years of days, the best of 100."""
    chosen = Moments(2.5 / math.sqrt(250), -3.0, 10.0, 1250)
    hurdle = expected_maximum(0.5 / 250, 100)
    assert hurdle == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(chosen, hurdle) == pytest.approx(0.9004, abs=5e-5)
    fewer = expected_maximum(0.5 / 250, 46)
    assert probabilistic_sharpe(chosen, fewer) == pytest.approx(0.9505, abs=5e-5)
    normal = Moments(chosen.sharpe, 0.0, 3.0, 1250)
    assert probabilistic_sharpe(normal, expected_maximum(0.5 / 250, 88)) == pytest.approx(
        0.9505, abs=5e-5
    )


def test_the_expected_maximum_is_that_of_simulated_luck() -> None:
    rng = np.random.default_rng(3)
    for trials in (10, 100, 1000):
        highest = rng.normal(0.0, 0.1, (4000, trials)).max(axis=1).mean()
        assert expected_maximum(0.01, trials) == pytest.approx(highest, rel=0.03)


def test_one_trial_is_no_choice() -> None:
    returns = np.random.default_rng(4).normal(0.001, 0.01, 300)
    alone = deflated_sharpe(returns, np.array([moments(returns).sharpe]))
    assert (alone.hurdle, alone.trials) == (0.0, 1)
    assert alone.probability == probabilistic_sharpe(moments(returns))


def test_every_trial_counts_and_those_that_never_traded_too() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0.001, 0.01, 300)
    ratios = rng.normal(0.0, 0.05, 40)
    few = deflated_sharpe(returns, ratios)
    idle = deflated_sharpe(returns, np.concatenate((ratios, np.full(160, np.nan))))
    assert (few.trials, idle.trials) == (40, 200)
    more = np.concatenate((ratios, np.zeros(160)))
    assert idle.hurdle == pytest.approx(expected_maximum(float(np.var(more, ddof=1)), 200))


def test_more_trials_of_the_same_spread_deflate_more() -> None:
    returns = np.random.default_rng(6).normal(0.001, 0.01, 500)
    probabilities = [
        probabilistic_sharpe(moments(returns), expected_maximum(0.001, trials))
        for trials in (1, 2, 10, 100, 1000)
    ]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] - probabilities[-1] > 0.1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(3, 400), benchmark=st.floats(-0.1, 0.1))
def test_moments_and_probability_equal_those_of_scipy(
    seed: int, size: int, benchmark: float
) -> None:
    returns = np.random.default_rng(seed).standard_t(4, size) * 0.01 + 0.0005
    of = moments(returns)
    ratio = np.mean(returns) / np.std(returns, ddof=1)
    skewness = scipy_stats.skew(returns)
    kurtosis = scipy_stats.kurtosis(returns, fisher=False)
    assert of.sharpe == pytest.approx(ratio)
    assert of.skewness == pytest.approx(skewness, abs=1e-9)
    assert of.kurtosis == pytest.approx(kurtosis)
    error = math.sqrt((1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2) / (size - 1))
    expected = scipy_stats.norm.sf(benchmark, loc=ratio, scale=error)
    assert probabilistic_sharpe(of, benchmark) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "returns", [[], [0.01], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [-0.01] * 7], ids=str
)
def test_what_does_not_vary_has_no_ratio(returns: list[float]) -> None:
    of = moments(np.array(returns, np.float64))
    assert math.isnan(of.sharpe)
    assert of.size == len(returns)
    assert math.isnan(probabilistic_sharpe(of))
    assert math.isnan(least_track_record(of))
    deflated = deflated_sharpe(np.array(returns), np.array([0.1, 0.2]))
    assert math.isnan(deflated.probability)


def test_two_returns_leave_no_error_and_so_no_doubt() -> None:
    """Two points have no spread of the third and fourth moment: the estimate's error is 0."""
    of = moments(np.array([0.0, 0.02]))
    assert probabilistic_sharpe(of, of.sharpe) == pytest.approx(0.5)
    assert probabilistic_sharpe(of, 0.0) > 0.5


def test_a_ratio_below_the_benchmark_is_never_proven_above_it() -> None:
    assert least_track_record(Moments(0.05, 0.0, 3.0, 100), 0.1) == math.inf


def test_no_trial_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        expected_maximum(0.1, 0)
