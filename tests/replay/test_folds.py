"""Walk-forward folds: nothing is judged twice, nothing is chosen by what it is judged on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.backtest.folds import Fold, Span, SpanError, walk_forward


def test_folds_roll_over_the_days() -> None:
    assert walk_forward(10, validation=3, test=2, embargo=1) == (
        Fold(1, Span(0, 3), Span(4, 6)),
        Fold(2, Span(2, 5), Span(6, 8)),
        Fold(3, Span(4, 7), Span(8, 10)),
    )


def test_anchored_folds_choose_by_all_that_went_before() -> None:
    folds = walk_forward(10, validation=3, test=3, embargo=1, anchored=True)
    assert [fold.validation for fold in folds] == [Span(0, 3), Span(0, 6)]
    assert [fold.test for fold in folds] == [Span(4, 7), Span(7, 10)]


def test_the_last_test_takes_what_is_left() -> None:
    folds = walk_forward(11, validation=4, test=4)
    assert folds[-1].test == Span(8, 11)
    assert folds[-1].test.days == 3


@given(
    days=st.integers(1, 300),
    validation=st.integers(1, 80),
    test=st.integers(1, 80),
    embargo=st.integers(0, 20),
    anchored=st.booleans(),
)
def test_tests_are_one_history_and_no_choice_sees_its_own(
    days: int, validation: int, test: int, embargo: int, anchored: bool
) -> None:
    if days <= validation + embargo:
        with pytest.raises(SpanError):
            walk_forward(days, validation, test, embargo, anchored=anchored)
        return
    folds = walk_forward(days, validation, test, embargo, anchored=anchored)
    tested = [day for fold in folds for day in range(*fold.test)]
    assert tested == list(range(validation + embargo, days))
    for fold in folds:
        assert fold.validation.stop + embargo == fold.test.start
        assert fold.validation.days >= validation
        assert fold.validation.start >= 0


@pytest.mark.parametrize(("validation", "test", "embargo"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_spans_without_a_day_are_refused(validation: int, test: int, embargo: int) -> None:
    with pytest.raises(SpanError, match="a day at least"):
        walk_forward(100, validation, test, embargo)
