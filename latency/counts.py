"""What an HDR histogram holds, as numbers: value buckets, their counts, and their percentiles.

A histogram has tens of thousands of buckets of which some hundreds are used, so a copy keeps only
those. The results equal the HdrHistogram library's own, which walks every bucket in Python.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

Int64s = npt.NDArray[np.int64]

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One stage in numbers; everything but the counts is in nanoseconds."""

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    p99_9: int
    p99_99: int
    max: int
    clock_faults: int = 0
    """Values that came out negative and are in none of the other numbers."""
    out_of_range: int = 0
    """Values above the histogram's range, counted at its highest value."""


@dataclass(frozen=True, slots=True)
class HdrScale:
    """Which values share a bucket: Gil Tene's HdrHistogram layout (2012).

    A bucket's width doubles with every power of two of the value, so that its relative width
    stays below one unit of the last significant digit.

    Attributes:
        lowest_ns: Least value told apart from 0.
        highest_ns: Greatest value of the range.
        digits: Significant decimal digits, 1 to 5.
        unit_magnitude: log2 of the width of the narrowest buckets.
        half_magnitude: log2 of half the number of buckets of one width.
        buckets: Number of buckets in all.
    """

    lowest_ns: int
    highest_ns: int
    digits: int
    unit_magnitude: int
    half_magnitude: int
    buckets: int

    @classmethod
    def of(cls, histogram: HdrHistogram) -> Self:
        """Read the scale off a histogram."""
        return cls(
            histogram.lowest_trackable_value,
            histogram.highest_trackable_value,
            histogram.significant_figures,
            histogram.unit_magnitude,
            histogram.sub_bucket_half_count_magnitude,
            histogram.counts_len,
        )

    def empty_histogram(self) -> HdrHistogram:
        """Make an HdrHistogram of this scale."""
        return HdrHistogram(self.lowest_ns, self.highest_ns, self.digits)

    def same_buckets(self, other: "HdrScale") -> bool:
        """Whether an index means the same value in both."""
        return (self.unit_magnitude, self.half_magnitude) == (
            other.unit_magnitude,
            other.half_magnitude,
        )

    def lowest_values(self, indices: Int64s) -> Int64s:
        """Return the least value of each bucket, nanoseconds."""
        half = 1 << self.half_magnitude
        position = (indices & (half - 1)) + np.where(indices < half, 0, half)
        lowest: Int64s = np.left_shift(position, self._shifts(indices))
        return lowest

    def highest_values(self, indices: Int64s) -> Int64s:
        """Return the greatest value of each bucket, nanoseconds."""
        widths: Int64s = np.left_shift(1, self._shifts(indices))
        return self.lowest_values(indices) + widths - 1

    def middle_values(self, indices: Int64s) -> Int64s:
        """Return the middle of each bucket, nanoseconds."""
        widths: Int64s = np.left_shift(1, self._shifts(indices))
        return self.lowest_values(indices) + (widths >> 1)

    def _shifts(self, indices: Int64s) -> Int64s:
        shifts: Int64s = np.maximum((indices >> self.half_magnitude) - 1, 0) + self.unit_magnitude
        return shifts


@dataclass(frozen=True, slots=True, eq=False)
class StageCounts:
    """The used buckets of one histogram, copied at one moment; nothing writes it afterwards.

    Attributes:
        scale: What the indices mean.
        indices: Used buckets, ascending, shape (N,).
        counts: Values in each, all above 0, shape (N,).
        clock_faults: Negative values left out.
        out_of_range: Values counted at the highest bucket because they were above it.
    """

    scale: HdrScale
    indices: Int64s
    counts: Int64s
    clock_faults: int = 0
    out_of_range: int = 0

    @classmethod
    def of(cls, histogram: HdrHistogram) -> Self:
        """Copy the used buckets of an HdrHistogram with 8-byte counters."""
        table = counts_view(histogram)
        indices = np.flatnonzero(table)
        return cls(HdrScale.of(histogram), indices, table[indices].astype(np.int64))

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def max(self) -> int:
        """Greatest value, to the histogram's precision; 0 if there is none."""
        return int(self.scale.highest_values(self.indices[-1:]).sum())

    @property
    def mean(self) -> float:
        """Mean value; 0 if there is none."""
        if not self.indices.size:
            return 0.0
        middles = self.scale.middle_values(self.indices).astype(np.float64)
        return float(middles @ self.counts.astype(np.float64)) / self.total

    def values_at(self, percentiles: Sequence[float] | npt.NDArray[np.float64]) -> Int64s:
        """Return the value at each percentile, which lie in (0, 100]; 0 if there is no value."""
        asked = np.asarray(percentiles, np.float64)
        if not self.indices.size:
            return np.zeros(asked.shape, np.int64)
        reached = np.cumsum(self.counts)
        targets = np.maximum((asked * reached[-1] / 100 + 0.5).astype(np.int64), 1)
        places = np.searchsorted(reached, np.minimum(targets, reached[-1]))
        return self.scale.highest_values(self.indices[places])

    def summary(self) -> StageSummary:
        """Return count, mean, percentiles and maximum."""
        p50, p90, p99, p99_9, p99_99 = self.values_at(PERCENTILES).tolist()
        return StageSummary(
            self.total, self.mean, p50, p90, p99, p99_9, p99_99, self.max,
            self.clock_faults, self.out_of_range,
        )  # fmt: skip

    def merged(self, other: "StageCounts") -> "StageCounts":
        """Return the sum of both.

        Raises:
            ValueError: the two have different precision or units.
        """
        return merge_all((self, other))

    def to_histogram(self) -> HdrHistogram:
        """Return a real HdrHistogram with these counts."""
        histogram = self.scale.empty_histogram()
        self.pour_into(histogram)
        return histogram

    def pour_into(self, histogram: HdrHistogram) -> None:
        """Set an empty histogram of the same scale to these counts; ``wipe`` empties it again."""
        counts_view(histogram)[self.indices] = self.counts.astype(np.uint64)
        ends = self.indices[[0, -1]].tolist() if self.indices.size else [-1, -1]
        histogram.set_internal_tacking_values(ends[0], ends[1], self.total)

    def wipe(self, histogram: HdrHistogram) -> None:
        """Empty a histogram that holds these counts and nothing else."""
        counts_view(histogram)[self.indices] = 0
        histogram.min_value, histogram.max_value, histogram.total_count = sys.maxsize, 0, 0


def counts_view(histogram: HdrHistogram) -> npt.NDArray[np.uint64]:
    """View a histogram's own counters without a copy, shape (buckets,)."""
    return np.frombuffer(histogram.counts, np.uint64)


def merge_all(parts: Sequence[StageCounts]) -> StageCounts:
    """Add up histograms, at least one.

    Raises:
        ValueError: they have different precision or units.
    """
    scale = max((part.scale for part in parts), key=lambda scale: scale.buckets)
    if not all(scale.same_buckets(part.scale) for part in parts):
        raise ValueError("histograms of different precision cannot be added")
    indices = np.concatenate([part.indices for part in parts])
    sums = np.zeros(int(indices.max(initial=-1)) + 1, np.int64)
    np.add.at(sums, indices, np.concatenate([part.counts for part in parts]))
    used = np.flatnonzero(sums)
    return StageCounts(
        scale,
        used,
        sums[used],
        sum(part.clock_faults for part in parts),
        sum(part.out_of_range for part in parts),
    )
