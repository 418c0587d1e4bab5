"""Overfitting by CSCV: a plain twin, constructed answers, and what cannot be computed."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.backtest.overfitting import probability_of_overfitting, usable_blocks

Floats = npt.NDArray[np.float64]


def ratio(returns: Floats) -> float:
    deviation = returns.std(ddof=1)
    if deviation < 1e-12:
        mean = float(returns.mean())
        return 0.0 if mean == 0.0 else math.copysign(math.inf, mean)
    return float(returns.mean() / deviation)


def twin(returns: Floats, blocks: int) -> tuple[float, list[float]]:
    """Compute it the way the paper tells it: matrices put together, columns ranked by counting."""
    rows = len(returns) // blocks
    kept = returns[len(returns) - rows * blocks :]
    parts = [kept[i * rows : (i + 1) * rows] for i in range(blocks)]
    logits = []
    for picked in itertools.combinations(range(blocks), blocks // 2):
        rest = [i for i in range(blocks) if i not in picked]
        chosen_in, judged_in = (np.vstack([parts[i] for i in half]) for half in (picked, rest))
        inside = [ratio(column) for column in chosen_in.T]
        outside = [ratio(column) for column in judged_in.T]
        best = inside.index(max(inside))
        value = outside[best]
        rank = sum(other < value for other in outside) + (outside.count(value) + 1) / 2
        relative = rank / (len(outside) + 1)
        logits.append(math.log(relative / (1 - relative)))
    return sum(logit <= 0 for logit in logits) / len(logits), logits


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    trials=st.integers(2, 12),
    blocks=st.sampled_from([2, 4, 6]),
    days=st.integers(24, 90),
)
def test_it_equals_the_plain_twin(seed: int, trials: int, blocks: int, days: int) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0, 0.01, (days, trials)) + rng.normal(0.0, 0.002, trials)
    found = probability_of_overfitting(returns, blocks)
    pbo, logits = twin(returns, blocks)
    assert found.pbo == pytest.approx(pbo)
    assert found.logits == pytest.approx(np.array(logits))
    assert found.days_dropped == days % blocks


def test_trials_that_do_not_trade_equal_the_twin_too() -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.01, (48, 6))
    returns[:, 2] = 0.0
    returns[:24, 4] = 0.0
    found = probability_of_overfitting(returns, 6)
    assert found.logits == pytest.approx(np.array(twin(returns, 6)[1]))


def test_a_trial_that_is_always_the_best_is_no_luck() -> None:
    returns = np.random.default_rng(2).normal(0.0, 0.01, (320, 20))
    returns[:, 7] += 0.05
    found = probability_of_overfitting(returns)
    assert found.pbo == 0.0
    assert found.loss_probability == 0.0
    assert len(found.logits) == 12_870
    assert (found.trials, found.blocks) == (20, 16)


def test_trials_that_only_share_out_one_sum_are_all_luck() -> None:
    """What a trial earns in one half it lacks in the other: the best here is the worst there."""
    rng = np.random.default_rng(3)
    blocks, rows, trials = 8, 30, 10
    levels = rng.normal(0.0, 0.01, (blocks, trials))
    levels -= levels.mean(axis=0)
    noise = rng.normal(0.0, 0.001, (blocks, rows, trials))
    noise -= noise.mean(axis=1, keepdims=True)
    returns = (levels[:, None, :] + noise).reshape(blocks * rows, trials)
    found = probability_of_overfitting(returns, blocks)
    assert found.pbo > 0.9
    assert found.loss_probability == 1.0
    assert found.degradation < 0.0


def test_pure_noise_is_a_toss_of_a_coin_on_average() -> None:
    rng = np.random.default_rng(4)
    drawn = [
        probability_of_overfitting(rng.normal(0.0, 0.01, (160, 30)), 8).pbo for _ in range(150)
    ]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.06)


def test_equal_trials_share_the_middle_rank() -> None:
    column = np.random.default_rng(5).normal(0.0, 0.01, 64)
    found = probability_of_overfitting(np.column_stack([column] * 5), 8)
    assert found.logits == pytest.approx(np.zeros(70), abs=1e-12)
    assert found.pbo == 1.0


def test_the_order_of_trials_and_the_scale_of_returns_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    returns = rng.normal(0.0002, 0.01, (200, 15))
    found = probability_of_overfitting(returns, 8)
    shuffled = probability_of_overfitting(returns[:, rng.permutation(15)] * 1e-6, 8)
    assert shuffled.logits == pytest.approx(found.logits)


def test_many_trials_are_judged_in_parts_with_the_same_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    returns = np.random.default_rng(7).normal(0.0, 0.01, (100, 9))
    whole = probability_of_overfitting(returns, 10)
    monkeypatch.setattr("replay.backtest.overfitting._CELLS", 50)
    assert np.array_equal(probability_of_overfitting(returns, 10).logits, whole.logits)


@pytest.mark.parametrize(
    ("days", "blocks"), [(0, 0), (7, 0), (8, 2), (15, 2), (16, 4), (63, 14), (64, 16), (999, 16)]
)
def test_as_many_blocks_are_used_as_the_days_fill(days: int, blocks: int) -> None:
    assert usable_blocks(days) == blocks


@pytest.mark.parametrize(
    ("shape", "blocks", "told"),
    [
        ((64, 1), 8, "at least two"),
        ((64, 3), 7, "even"),
        ((64, 3), 0, "even"),
        ((15, 3), 8, "at least two"),
    ],
)
def test_what_cannot_be_cut_is_told(shape: tuple[int, int], blocks: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        probability_of_overfitting(np.zeros(shape), blocks)


def test_a_return_that_is_no_number_is_refused() -> None:
    returns = np.zeros((64, 3))
    returns[5, 1] = np.nan
    with pytest.raises(ValueError, match="no number"):
        probability_of_overfitting(returns, 8)
