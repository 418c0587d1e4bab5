"""A candidate's answers beside the served ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.shadow import Comparison, greatest_difference

answers = st.lists(
    st.tuples(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(
        st.floats(0, 1), min_size=3, max_size=3)),
    min_size=1,
)  # fmt: skip


def test_equal_answers_do_not_differ() -> None:
    comparison = Comparison()
    assert comparison.note((0.2, 0.3, 0.5), (0.2, 0.3, 0.5)) == 0.0
    assert comparison.told() == {
        "compared": 1, "unanswered": 0, "disagreed": 0, "max_abs": 0.0, "rms": 0.0,
    }  # fmt: skip


def test_another_greatest_output_is_a_disagreement() -> None:
    comparison = Comparison()
    comparison.note((0.2, 0.3, 0.5), (0.5, 0.3, 0.2))
    comparison.note((0.2, 0.3, 0.5), (0.2, 0.2, 0.6))
    assert comparison.disagreed == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_an_answer_that_is_no_number_counts_as_none(odd: float) -> None:
    comparison = Comparison()
    assert comparison.note((0.5, 0.5), (odd, 0.5)) == math.inf
    comparison.miss()
    assert (comparison.compared, comparison.unanswered) == (0, 2)


def test_a_number_that_only_follows_a_nan_does_not_hide_it() -> None:
    assert greatest_difference((math.nan, 1.0), (0.0, 1.0)) == math.inf
    assert greatest_difference((1.0, math.nan), (1.0, 0.0)) == math.inf


@given(answers)
def test_the_figures_are_those_of_all_differences_together(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    comparison = Comparison()
    for served, candidate in pairs:
        comparison.note(served, candidate)
    differences = np.array([np.subtract(a, b) for a, b in pairs])
    assert comparison.greatest == pytest.approx(np.abs(differences).max())
    assert comparison.rms == pytest.approx(np.sqrt((differences**2).mean()))
