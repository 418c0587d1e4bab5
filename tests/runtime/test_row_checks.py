"""The compiled checks of windows and answers against plain NumPy and Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba import config

from engine.core.models import Floats
from runtime.row_checks import all_finite_nb, all_within_nb, answer_check, finite_check
from runtime.scoring import OutputRange, Provenance, Scorer

any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
windows = hnp.arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=any_float)
answers = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.one_of(st.floats(-0.25, 1.25, width=32), any_float),
)
BY = Provenance("m", "b", "l", "cpu", "fp32")


@given(rows=windows, count=st.integers(0, 5))
def test_finite_is_what_numpy_calls_finite(rows: Floats, count: int) -> None:
    count = min(count, len(rows))
    expected = bool(np.isfinite(rows[:count]).all())
    with np.errstate(invalid="ignore"):
        assert finite_check()(rows, count) == expected
        if not getattr(config, "DISABLE_JIT", 0):
            assert all_finite_nb.py_func(rows, count) == expected


@given(rows=answers, total=st.sampled_from([None, 1.0]))
def test_batch_is_good_if_and_only_if_each_row_of_it_is(rows: Floats, total: float | None) -> None:
    scorer = Scorer(BY, OutputRange(0.0, 1.0, total), 1e-3)
    expected = not any(scorer.problem(row) for row in rows.tolist())
    assert scorer.all_good(rows, len(rows)) == expected


def test_sum_of_each_row_counts_and_not_that_of_all() -> None:
    rows = np.array([[0.75, 0.75], [0.25, 0.25]], np.float32)
    scorer = Scorer(BY, OutputRange(0.0, 1.0, 1.0), 1e-3)
    assert not scorer.all_good(rows, 2)
    assert not scorer.all_good(rows[1:], 1)


def test_rows_beyond_the_count_do_not_count() -> None:
    rows = np.array([[0.5, 0.5], [math.nan, 7.0]], np.float32)
    assert Scorer(BY, OutputRange(0.0, 1.0, 1.0), 1e-3).all_good(rows, 1)


@pytest.mark.skipif(bool(getattr(config, "DISABLE_JIT", 0)), reason="nothing is compiled")
def test_checks_refuse_other_types_once_compiled() -> None:
    finite, within = finite_check(), answer_check()
    with pytest.raises(TypeError):
        finite(np.zeros((1, 2, 3)), 1)  # type: ignore[arg-type] # that is the point
    with pytest.raises(TypeError):
        within(np.zeros((1, 3)), 1, 0.0, 1.0, 1.0, 0.1)  # type: ignore[arg-type]
    assert len(all_finite_nb.signatures) == len(all_within_nb.signatures) == 1
