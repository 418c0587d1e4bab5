"""What is an answer, and what is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.scoring import OutputRange, Provenance, Scorer

BY = Provenance("tcn", "tcn@1-0123456789ab", "onnxruntime", "cpu", "fp32")
PROBABILITIES = OutputRange(0.0, 1.0, 1.0)


def make_scorer(stated: OutputRange = PROBABILITIES, tolerance: float = 1e-4) -> Scorer:
    return Scorer(BY, stated, tolerance)


def test_a_score_says_who_gave_it_and_what_it_took() -> None:
    score = make_scorer().score([0.25, 0.5, 0.25], 4, 17, 99)
    assert score is not None
    assert score.values == (0.25, 0.5, 0.25)
    assert (score.model, score.bundle) == BY[:2]
    assert (score.backend, score.device, score.precision) == BY[2:]
    assert (score.batch, score.queue_ns, score.service_ns) == (4, 17, 99)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("stated", [PROBABILITIES, OutputRange()])
def test_what_is_not_a_number_is_no_answer(odd: float, stated: OutputRange) -> None:
    assert make_scorer(stated).score([0.5, odd, 0.5], 1, 0, 0) is None


@pytest.mark.parametrize("values", [[1.1, -0.1, 0.0], [-0.01, 0.5, 0.51], [0.0, 1.01, 0.0]])
def test_what_is_outside_the_range_is_no_answer(values: list[float]) -> None:
    assert "outside" in make_scorer().problem(values)


def test_outputs_that_do_not_add_up_are_no_answer() -> None:
    assert "add up" in make_scorer().problem([0.5, 0.5, 0.5])


def test_a_form_may_leave_the_range_by_what_it_may_be_off_the_reference() -> None:
    assert make_scorer(tolerance=0.05).problem([-0.04, 0.54, 0.54]) == ""
    assert make_scorer(tolerance=0.01).problem([-0.04, 0.54, 0.54]) != ""


@given(st.lists(st.floats(width=32), min_size=1, max_size=6))
def test_every_score_is_finite_and_within_what_was_stated(values: list[float]) -> None:
    score = make_scorer().score(values, 1, 0, 0)
    if score is not None:
        assert all(-1e-4 <= value <= 1 + 1e-4 for value in score.values)
        assert abs(sum(score.values) - 1) <= 1e-4 * len(values)
        assert score.values == tuple(values)
