"""The latency model fits a line, knows its buckets, and is not fooled by a pause."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.latency_model import LatencyModel

BUCKETS = (1, 2, 4, 8, 16, 32)


def taught(times: dict[int, int], rounds: int = 20) -> LatencyModel:
    model = LatencyModel(BUCKETS)
    for _ in range(rounds):
        for bucket, taken_ns in times.items():
            model.observe(bucket, taken_ns)
    return model


def test_knows_nothing_before_anything_was_observed() -> None:
    model = LatencyModel(BUCKETS)
    assert model.predicted == [0] * 6
    assert model.uppers == [0] * 6
    assert model.line() == (0.0, 0.0)


@pytest.mark.parametrize("buckets", [(), (0, 1), (2, 1), (1, 1)])
def test_buckets_must_be_ascending_sizes(buckets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        LatencyModel(buckets)


def test_unseen_buckets_lie_on_the_line_through_the_seen_ones() -> None:
    model = taught({1: 850_000, 32: 2_400_000})
    assert model.line() == pytest.approx((800_000, 50_000), rel=1e-6)
    assert model.predict(8) == pytest.approx(1_200_000, rel=1e-3)


def test_one_seen_bucket_makes_time_proportional_to_size() -> None:
    model = taught({4: 1_000_000})
    assert model.predict(8) == pytest.approx(2_000_000, rel=1e-6)


@given(
    fixed=st.integers(0, 10**7),
    row=st.integers(1, 10**6),
    seen=st.sets(st.sampled_from(BUCKETS), min_size=2),
)
def test_line_equals_an_ordinary_least_squares_fit(fixed: int, row: int, seen: set[int]) -> None:
    model = taught({bucket: fixed + row * bucket for bucket in seen}, rounds=30)
    expected = np.polyfit(sorted(seen), [fixed + row * b for b in sorted(seen)], 1)
    intercept, slope = model.line()
    assert slope == pytest.approx(expected[0], rel=1e-3)
    assert intercept == pytest.approx(max(0.0, expected[1]), rel=1e-3, abs=row)


def test_line_keeps_going_through_what_is_seen_of_one_size() -> None:
    model = taught({1: 850_000, 32: 2_400_000})
    for _ in range(2_000):
        model.observe(1, 1_700_000)
    intercept, slope = model.line()
    assert min(intercept, slope) > 0
    assert intercept + slope == pytest.approx(1_700_000, rel=0.01)


def test_bucket_that_is_off_the_line_is_believed() -> None:
    model = taught({1: 100, 2: 200, 4: 400, 8: 9_000})
    assert model.predict(8) == pytest.approx(9_000, rel=0.01)


def test_upper_follows_the_99th_percentile_of_actual_over_predicted() -> None:
    random = np.random.default_rng(5)
    model = LatencyModel((1,))
    times = random.lognormal(0, 0.25, 20_000) * 1e6
    late = 0
    for number, taken in enumerate(times.tolist()):
        late += number >= 10_000 and taken > model.upper(1)
        model.observe(1, int(taken))
    assert 0.004 < late / 10_000 < 0.03


def test_one_pause_neither_moves_the_average_far_nor_the_tail_to_its_limit() -> None:
    model = taught({1: 100_000}, rounds=2_000)
    model.observe(1, 10**9)
    assert model.predict(1) < 140_000
    assert model.upper(1) < 160_000


def test_device_that_became_slow_is_known_as_slow_soon() -> None:
    model = taught({1: 100_000}, rounds=100)
    for _ in range(40):
        model.observe(1, 2_000_000)
    assert model.predict(1) > 1_800_000


def test_relaxing_halves_what_is_believed_and_learns_anew_at_once() -> None:
    model = taught({1: 1_000_000, 32: 4_000_000}, rounds=100)
    model.relax()
    assert model.predict(1) == 500_000
    assert model.line()[0] + model.line()[1] == pytest.approx(500_000, rel=1e-3)
    model.observe(1, 100_000)
    assert model.predict(1) < 350_000


@given(
    runs=st.lists(st.tuples(st.sampled_from(BUCKETS), st.integers(0, 10**10)), max_size=80),
)
def test_predictions_are_finite_and_the_upper_is_never_below(runs: list[tuple[int, int]]) -> None:
    model = LatencyModel(BUCKETS)
    for bucket, taken_ns in runs:
        model.observe(bucket, taken_ns)
        assert 1.0 <= model.tail <= 4.0
        for place, size in enumerate(BUCKETS):
            assert 0 <= model.predict(size) <= model.uppers[place] + 1 < 10**13
    assert model.runs == len(runs)
