"""The clock offset lies within its bound, whatever the network does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.offset import OffsetEstimate, OffsetEstimator, one_way

SECOND_NS = 1_000_000_000
T0_NS = 1_700_000_000 * SECOND_NS

delays = st.integers(0, 50_000_000)
offsets = st.integers(-(10**13), 10**13)
exchanges = st.lists(
    st.tuples(delays, st.integers(0, 1_000_000), delays, st.integers(0, 5 * SECOND_NS)),
    min_size=1,
    max_size=100,
)


@given(offset=offsets, legs=exchanges, window=st.integers(1, 70))
def test_true_offset_is_within_the_bound_under_unequal_delays(
    offset: int, legs: list[tuple[int, int, int, int]], window: int
) -> None:
    estimator = OffsetEstimator(window)
    now = T0_NS
    for out, served, back, pause in legs:
        estimate = estimator.add(
            now, now + out + offset, now + out + served + offset, now + out + served + back
        )
        now += out + served + back
        assert estimate is not None
        assert abs(estimate.offset_ns - offset) <= estimate.error_bound_ns
        now += pause
        later = estimator.estimate(now)
        assert later is not None
        assert abs(later.offset_ns - offset) <= later.error_bound_ns
    assert (estimator.samples, estimator.steps, estimator.faults) == (len(legs), 0, 0)


@given(
    offset=offsets,
    legs=exchanges,
    ppm=st.integers(0, 500),
    drifts=st.lists(st.floats(-1, 1), min_size=1, max_size=20),
)
def test_true_offset_is_within_the_bound_while_the_clocks_drift(
    offset: int, legs: list[tuple[int, int, int, int]], ppm: int, drifts: list[float]
) -> None:
    estimator = OffsetEstimator(drift_ppm=ppm)
    now = T0_NS
    true_offset = offset
    for turn, (out, served, back, pause) in enumerate(legs):
        rate = drifts[turn % len(drifts)] * ppm / 1_000_000
        at = [now, now + out, now + out + served, now + out + served + back]
        real = [true_offset + int(rate * (moment - now)) for moment in at]
        estimate = estimator.add(at[0], at[1] + real[1], at[2] + real[2], at[3])
        assert estimate is not None
        assert abs(estimate.offset_ns - real[3]) <= estimate.error_bound_ns + turn + 2
        true_offset += int(rate * (at[3] + pause - now))
        now = at[3] + pause
    assert estimator.steps == 0


def test_least_round_trip_sets_the_estimate() -> None:
    estimator = OffsetEstimator(drift_ppm=0)
    estimator.add(0, 1_000 + 500, 1_000 + 500, 2_000)
    estimator.add(10_000, 10_010 + 500, 10_010 + 500, 10_020)
    estimate = estimator.add(20_000, 29_000 + 500, 29_000 + 500, 29_001)
    assert estimate == OffsetEstimate(500, 10, 20, 29_001)


def test_bound_grows_with_the_age_of_the_sample() -> None:
    estimator = OffsetEstimator(drift_ppm=100)
    estimator.add(0, 10, 10, 20)
    estimate = estimator.estimate(SECOND_NS)
    assert estimate is not None
    assert estimate.error_bound_ns == 10 + 100_000


def test_old_sample_leaves_the_window() -> None:
    estimator = OffsetEstimator(window=2, drift_ppm=0)
    estimator.add(0, 1, 1, 2)
    estimator.add(100, 200, 200, 300)
    estimate = estimator.add(400, 500, 500, 600)
    assert estimate is not None
    assert estimate.rtt_ns == 200


@given(
    jump=st.integers(20_000, 10**12) | st.integers(-(10**12), -20_000),
    before=st.integers(1, 80),
)
def test_clock_step_beyond_the_bounds_starts_the_window_over(jump: int, before: int) -> None:
    estimator = OffsetEstimator(drift_ppm=0)
    now = 0
    for _ in range(before):
        estimator.add(now, now + 4_000, now + 5_000, now + 9_000)
        now += 10_000
    estimate = estimator.add(now, now + 4_000 + jump, now + 5_000 + jump, now + 9_000)
    assert estimator.steps == 1
    assert estimate is not None
    assert abs(estimate.offset_ns - jump) <= estimate.error_bound_ns


def test_clock_running_backwards_within_an_exchange_is_refused_and_counted() -> None:
    estimator = OffsetEstimator()
    assert estimator.add(100, 50, 60, 90) is None
    assert estimator.add(0, 60, 50, 90) is None
    assert estimator.add(0, 10, 500, 90) is None
    assert (estimator.faults, estimator.samples) == (3, 0)


def test_no_exchange_no_estimate() -> None:
    assert OffsetEstimator().estimate(T0_NS) is None


@pytest.mark.parametrize(("window", "ppm"), [(0, 1), (1, -1)])
def test_impossible_settings_are_refused(window: int, ppm: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        OffsetEstimator(window, ppm)


def test_one_way_latency_is_corrected_by_the_offset() -> None:
    estimate = OffsetEstimate(1_000, 30, 60, 0)
    assert one_way(5_000, 4_250, estimate) == (250, 30, False)


def test_negative_one_way_latency_is_a_clock_fault() -> None:
    assert one_way(5_000, 3_990, OffsetEstimate(1_000, 30, 60, 0)).clock_fault


def test_offset_turns_our_time_into_the_peers_and_back() -> None:
    estimate = OffsetEstimate(-7, 0, 0, 0)
    assert estimate.to_peer_ns(100) == 93
    assert estimate.to_ours_ns(estimate.to_peer_ns(100)) == 100
