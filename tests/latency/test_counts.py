"""Percentiles from copied counts equal the HdrHistogram library's."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.counts import PERCENTILES, HdrScale, StageCounts, StageSummary, counts_view, merge_all

values = st.lists(st.integers(0, 60_000_000_000), max_size=60)
scales = st.tuples(st.integers(1, 5_000), st.integers(1, 4))


def filled(recorded: list[int], lowest: int = 1, digits: int = 3) -> HdrHistogram:
    histogram = HdrHistogram(lowest, 60_000_000_000, digits)
    for value in recorded:
        assert histogram.record_value(value)
    return histogram


@settings(max_examples=30)
@given(recorded=values)
def test_summary_equals_the_library(recorded: list[int]) -> None:
    histogram = filled(recorded)
    summary = StageCounts.of(histogram).summary()
    by_percentile = histogram.get_percentile_to_value_dict(list(PERCENTILES))
    expected = [by_percentile.get(p, 0) for p in PERCENTILES]
    found = [summary.p50, summary.p90, summary.p99, summary.p99_9, summary.p99_99]
    assert found == expected
    assert summary.count == histogram.get_total_count()
    assert summary.max == histogram.get_max_value()
    assert summary.mean == pytest.approx(histogram.get_mean_value(), rel=1e-12)


@given(scale=scales, recorded=values)
def test_value_of_every_used_bucket_equals_the_library(
    scale: tuple[int, int], recorded: list[int]
) -> None:
    histogram = filled(recorded, *scale)
    counts = StageCounts.of(histogram)
    buckets = HdrScale.of(histogram)
    lowest = buckets.lowest_values(counts.indices).tolist()
    assert lowest == sorted({histogram.get_lowest_equivalent_value(v) for v in recorded})
    assert buckets.highest_values(counts.indices).tolist() == [
        histogram.get_highest_equivalent_value(v) for v in lowest
    ]
    assert buckets.middle_values(counts.indices).tolist() == [
        histogram._hdr_median_equiv_value(v) for v in lowest
    ]


@given(one=values, two=values)
def test_merged_counts_equal_recording_everything_in_one(one: list[int], two: list[int]) -> None:
    merged = merge_all([StageCounts.of(filled(one)), StageCounts.of(filled(two))])
    both = StageCounts.of(filled(one + two))
    np.testing.assert_array_equal(merged.indices, both.indices)
    np.testing.assert_array_equal(merged.counts, both.counts)


@given(recorded=values)
def test_round_trip_through_a_real_histogram_keeps_everything(recorded: list[int]) -> None:
    histogram = filled(recorded)
    again = StageCounts.of(histogram).to_histogram()
    np.testing.assert_array_equal(counts_view(again), counts_view(histogram))
    assert again.get_total_count() == histogram.get_total_count()
    assert again.get_max_value() == histogram.get_max_value()
    assert again.get_min_value() == histogram.get_min_value()


def test_wiped_histogram_is_as_new() -> None:
    counts = StageCounts.of(filled([3, 70_000]))
    histogram = counts.scale.empty_histogram()
    fresh = histogram.encode()
    counts.pour_into(histogram)
    assert histogram.encode() != fresh
    counts.wipe(histogram)
    assert histogram.encode() == fresh


def test_histograms_of_different_precision_are_not_added() -> None:
    coarse, fine = (StageCounts.of(filled([5], digits=digits)) for digits in (2, 3))
    with pytest.raises(ValueError, match="precision"):
        coarse.merged(fine)


def test_nothing_recorded_is_all_zeros() -> None:
    assert StageCounts.of(filled([])).summary() == StageSummary(0, 0.0, 0, 0, 0, 0, 0, 0)
