"""Measures against definitions written out, and the baselines against what they must find."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.demo_tcn.baselines import LastMove, Logistic, Prior
from models.demo_tcn.metrics import (
    accuracy,
    auc,
    block_error,
    describe,
    log_loss,
    sides,
)

FORECASTS = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.45, 0.1, 0.45], [0.2, 0.6, 0.2]])
CLASSES = np.array([0, 2, 2, 0])


def test_log_loss_is_the_mean_of_minus_the_log_of_what_happened() -> None:
    expected = -(math.log(0.7) + math.log(0.6) + math.log(0.45) + math.log(0.2)) / 4
    assert log_loss(FORECASTS, CLASSES) == pytest.approx(expected)


def test_an_impossible_outcome_costs_much_but_not_infinitely() -> None:
    assert 20 < log_loss(np.array([[1.0, 0.0, 0.0]]), np.array([2])) < 40


def test_accuracy_takes_the_first_of_equally_likely_classes() -> None:
    assert accuracy(FORECASTS, CLASSES) == 0.5


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: len({positive for _, positive in pairs}) == 2
    )
)
def test_auc_is_how_often_a_positive_outranks_a_negative(pairs: list[tuple[int, bool]]) -> None:
    score = np.array([float(value) for value, _ in pairs])
    positive = np.array([flag for _, flag in pairs])
    wins = [(p > n) + 0.5 * (p == n) for p in score[positive] for n in score[~positive]]
    assert auc(score, positive) == pytest.approx(np.mean(wins))


def test_auc_of_one_class_is_not_a_number() -> None:
    assert math.isnan(auc(np.arange(3.0), np.ones(3, bool)))


def test_a_side_is_taken_only_if_it_is_likely_enough_and_likelier_than_the_other() -> None:
    assert sides(FORECASTS, 0.5).tolist() == [-1, 1, 0, 0]
    assert sides(FORECASTS, 0.45).tolist() == [-1, 1, 0, 0], "equal sides are no side"


def test_error_of_single_blocks_is_the_usual_one() -> None:
    values = np.random.default_rng(1).normal(size=500)
    expected = values.std(ddof=1) / math.sqrt(500)
    assert block_error(values, np.arange(500)) == pytest.approx(expected)


def test_repeating_every_value_in_its_block_makes_nothing_surer() -> None:
    values = np.random.default_rng(1).normal(size=100)
    once = block_error(values, np.arange(100))
    again = block_error(np.repeat(values, 7), np.repeat(np.arange(100), 7))
    assert again == pytest.approx(once)


def test_error_of_one_block_is_not_a_number() -> None:
    assert math.isnan(block_error(np.arange(3.0), np.zeros(3, np.int64)))


def test_description_of_trades_counts_the_move_on_the_side_taken() -> None:
    moves = np.array([-9.0, -2.0, 7.0, -8.0])
    found = describe(FORECASTS, CLASSES, moves, np.arange(4), 0.5)
    assert found["traded"] == 0.5
    assert found["traded_hits"] == 1.0
    assert found["traded_move_bps"] == pytest.approx((9.0 - 2.0) / 2)


def test_description_without_a_trade_says_nothing_of_trades() -> None:
    found = describe(FORECASTS, CLASSES, np.zeros(4), np.arange(4), 0.9)
    assert found["traded"] == 0.0
    assert not [name for name in found if name.startswith("traded_")]


def test_prior_forecasts_the_shares_it_saw() -> None:
    assert Prior(np.array([0, 0, 1, 2])).probability(2).tolist() == [[0.5, 0.25, 0.25]] * 2


def test_last_move_forecasts_what_followed_such_moves() -> None:
    before = np.repeat([0, 2], 500)
    made = LastMove(before, np.where(before == 0, 2, 0))
    assert made.probability(np.array([0]))[0, 2] > 0.99
    assert made.probability(np.array([1]))[0] == pytest.approx([1 / 3] * 3), "never seen"


def test_logistic_regression_finds_the_probabilities_that_made_the_classes() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(5.0, 3.0, (40_000, 2))
    logits = np.stack([0.4 * rows[:, 0] - 2.0, np.zeros(40_000), -0.3 * rows[:, 1]], axis=1)
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = (rng.random(40_000)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    found = Logistic(rows, classes).probability(rows)
    assert np.abs(found - true).mean() < 0.01
    assert found.sum(axis=1) == pytest.approx(np.ones(40_000))
