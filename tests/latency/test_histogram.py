"""Compiled bulk recording equals HdrHistogram's record_value, value by value."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st
from numba import config

from latency import histogram as module
from latency.counts import Int64s, counts_view
from latency.histogram import StageHistograms
from latency.stages import STAGES, Stage

HIGHEST_NS = 60_000_000_000
ORIGIN = np.dtype([("epoch", "<u8"), ("ts_intended", "<i8"), ("gateway", "<u4")], align=True)
END_NS = 1_700_000_000_000_000_000

spans = st.lists(
    st.integers(-1_000, 3_000) | st.integers(0, HIGHEST_NS) | st.integers(0, 2 * HIGHEST_NS),
    max_size=50,
)


def plain(values: list[int], lowest: int = 1, digits: int = 3) -> HdrHistogram:
    histogram = HdrHistogram(lowest, HIGHEST_NS, digits)
    for value in values:
        if value >= 0:
            assert histogram.record_value(min(value, HIGHEST_NS))
    return histogram


def strided(values: list[int]) -> Int64s:
    origins = np.zeros(max(len(values), 1), ORIGIN)
    origins["ts_intended"][: len(values)] = [END_NS - value for value in values]
    return origins["ts_intended"]


def assert_holds(histograms: StageHistograms, stage: Stage, expected: HdrHistogram) -> None:
    real = histograms.cumulative()[STAGES[stage]].to_histogram()
    np.testing.assert_array_equal(counts_view(real), counts_view(expected))


@given(values=spans, lowest=st.integers(1, 5_000), digits=st.integers(1, 4))
def test_spans_equal_recording_each_value(values: list[int], lowest: int, digits: int) -> None:
    histograms = StageHistograms(lowest_ns=lowest, digits=digits)
    histograms.record_spans(Stage.WIRE, END_NS, strided(values), len(values))
    assert_holds(histograms, Stage.WIRE, plain(values, lowest, digits))
    assert histograms.clock_faults[Stage.WIRE] == sum(value < 0 for value in values)
    assert histograms.out_of_range[Stage.WIRE] == sum(value > HIGHEST_NS for value in values)


@given(values=spans)
def test_single_values_equal_recording_each_value(values: list[int]) -> None:
    histograms = StageHistograms()
    for value in values:
        histograms.record_value(Stage.GATE, value)
    real = histograms.cumulative()["gate"].to_histogram()
    expected = plain(values)
    assert_holds(histograms, Stage.GATE, expected)
    assert real.get_total_count() == expected.get_total_count()
    assert real.get_max_value() == expected.get_max_value()
    assert real.get_min_value() == expected.get_min_value()


@given(values=spans, ingest=st.integers(0, 10**9), compute=st.integers(0, 10**9))
def test_burst_equals_recording_each_stage_apart(
    values: list[int], ingest: int, compute: int
) -> None:
    histograms = StageHistograms()
    histograms.record_burst(END_NS, strided(values), ingest, compute, len(values))
    assert_holds(histograms, Stage.WIRE, plain(values))
    assert_holds(histograms, Stage.INGEST, plain([ingest] * len(values)))
    assert_holds(histograms, Stage.COMPUTE, plain([compute] * len(values)))


@given(values=spans)
def test_compiled_counting_equals_its_python_source(values: list[int]) -> None:
    compiled, source = StageHistograms(digits=2), StageHistograms(digits=2)
    starts = strided(values)
    compiled.record_burst(END_NS, starts, 7, 8, len(values))
    plain_count_burst = getattr(module.count_burst_nb, "py_func", module.count_burst_nb)
    plain_count_burst(source._table, END_NS, starts, 7, 8, len(values))
    np.testing.assert_array_equal(compiled._table, source._table)


def test_only_the_first_count_starts_are_recorded() -> None:
    histograms = StageHistograms()
    histograms.record_spans(Stage.TOTAL, END_NS, strided([1, 2, 3, 4]), 2)
    assert histograms.summary()["total"].count == 2
    assert histograms.summary()["total"].max == 2


@pytest.mark.skipif(bool(getattr(config, "DISABLE_JIT", 0)), reason="kernels run as Python")
def test_contiguous_and_strided_starts_share_one_compiled_signature() -> None:
    histograms = StageHistograms()
    histograms.record_spans(Stage.WIRE, END_NS, strided([5]), 1)
    histograms.record_spans(Stage.WIRE, END_NS, np.array([END_NS - 5], np.int64), 1)
    assert histograms.summary()["wire"].count == 2
    for kernel in (module.count_value_nb, module.count_spans_nb, module.count_burst_nb):
        assert len(kernel.signatures) == 1


def test_more_ticks_than_starts_is_refused() -> None:
    histograms = StageHistograms()
    with pytest.raises(ValueError, match="count exceeds"):
        histograms.record_spans(Stage.WIRE, END_NS, strided([5]), 2)
    with pytest.raises(ValueError, match="count exceeds"):
        histograms.record_burst(END_NS, strided([5]), 1, 1, 2)


def test_negative_value_is_a_clock_fault_and_not_recorded() -> None:
    histograms = StageHistograms()
    histograms.record_repeat(Stage.WIRE, -1, 3)
    summary = histograms.summary()["wire"]
    assert (summary.count, summary.clock_faults) == (0, 3)


def test_value_above_the_range_is_recorded_as_the_highest() -> None:
    histograms = StageHistograms(highest_ns=1_000_000)
    histograms.record_value(Stage.WIRE, 10**12)
    summary = histograms.summary()["wire"]
    assert (summary.count, summary.out_of_range) == (1, 1)
    assert summary.max == pytest.approx(1_000_000, rel=1e-3)


@given(parts=st.lists(spans, max_size=5))
def test_intervals_add_up_to_the_cumulative_counts(parts: list[list[int]]) -> None:
    histograms = StageHistograms()
    taken = [histograms.take_interval()["wire"]]
    for part in parts:
        histograms.record_spans(Stage.WIRE, END_NS, strided(part), len(part))
        taken.append(histograms.take_interval()["wire"])
        recorded = [value for value in part if value >= 0]
        assert taken[-1].total == len(recorded)
        assert taken[-1].clock_faults == len(part) - len(recorded)
    merged = taken[0]
    for part_counts in taken[1:]:
        merged = merged.merged(part_counts)
    total = histograms.cumulative()["wire"]
    np.testing.assert_array_equal(merged.indices, total.indices)
    np.testing.assert_array_equal(merged.counts, total.counts)
    assert merged.summary() == total.summary()


def test_taking_an_interval_leaves_the_cumulative_counts_alone() -> None:
    histograms = StageHistograms(names=["only"])
    histograms.record_value(0, 1_000)
    before = histograms.summary()
    histograms.take_interval()
    assert histograms.summary() == before
    assert histograms.take_interval()["only"].total == 0


@pytest.mark.parametrize(
    ("names", "lowest", "highest"),
    [([], 1, 1000), (["a"], 0, 1000), (["a"], 600, 1000), (["a"], 1, 1 << 52)],
)
def test_impossible_ranges_are_refused(names: list[str], lowest: int, highest: int) -> None:
    with pytest.raises(ValueError, match="stages over"):
        StageHistograms(names, lowest, highest)
