"""How long a batch takes on a device, learnt from how long batches took.

``L(b) = a + c·b`` by exponentially weighted least squares, and a moving average for every bucket
that was seen: the average is believed where there is one, the line elsewhere. ``L+`` is ``L`` times
a tracked 99th percentile of actual over predicted. Pure; times are nanoseconds.
"""

from collections.abc import Sequence
from typing import Final

_KEPT: Final = 0.98
"""Weight of a run in the line after each further run."""
_NEWEST: Final = 0.1
"""Least weight of the newest run in a bucket's average."""
_SETTLED_RUNS: Final = 10
"""Runs of a bucket up to which all of them weigh the same."""
_LEARNT_RUNS: Final = 4
"""Runs of a bucket after which an outlier is recognised as one."""
_OUTLIER: Final = 4.0
"""A run counts at most as so many times its prediction: one pause does not move the average."""
_QUANTILE: Final = 0.99
_TAIL_STEP: Final = 0.1
_TAIL_UP: Final = _TAIL_STEP * _QUANTILE
_TAIL_DOWN: Final = _TAIL_STEP * (1 - _QUANTILE)
_TAIL_START: Final = 1.25
_TAIL_MOST: Final = 4.0
_TAIL_APPLIED: Final = 0.01
_STALE_RUNS: Final = 256
"""Runs after which a bucket that was not among them is believed less."""
_STALE_STEP: Final = 0.25
_LEAST_SPREAD: Final = 0.01
"""Squared coefficient of variation of the batch sizes below which no slope is fitted."""


class LatencyModel:
    """Predicts a bucket's service time. The loop thread owns it.

    Before anything was observed every prediction is 0: an unknown device is tried. A bucket that
    was long not seen is drawn to the line, so that one slow hour does not rule it out for ever.

    Attributes:
        buckets: Batch sizes, ascending.
        predicted: ``L`` of each bucket, nanoseconds.
        uppers: ``L+`` of each bucket, nanoseconds, to about 1 %.
        runs: Observations so far.
        tail: The tracked 99th percentile of actual over predicted, from 1 to 4. It moves by
            stochastic approximation (Robbins and Monro, 1951), up by 0.099 at a run above it, down
            by 0.001 at one below it, so that one paused run does not make all look impossible.

    Args:
        buckets: As above, at least one, all at least 1.

    Raises:
        ValueError: the buckets are not ascending sizes.
    """

    __slots__ = (
        "_applied_tail", "_counts", "_index", "_intercept", "_means", "_seen", "_slope", "_sums",
        "_unseen",
        "buckets", "predicted", "runs", "tail", "uppers",
    )  # fmt: skip

    def __init__(self, buckets: Sequence[int]) -> None:
        self.buckets = tuple(buckets)
        if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"buckets {self.buckets} are not ascending batch sizes")
        self.runs = 0
        self.tail = _TAIL_START
        self.predicted = [0] * len(self.buckets)
        self.uppers = [0] * len(self.buckets)
        self._applied_tail = 0.0
        self._unseen = len(self.buckets)
        self._index = {bucket: place for place, bucket in enumerate(self.buckets)}
        self._means = [0.0] * len(self.buckets)
        self._counts = [0] * len(self.buckets)
        self._seen = [0] * len(self.buckets)
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._intercept = 0.0
        self._slope = 0.0

    def observe(self, bucket: int, service_ns: int) -> None:
        """Take in how long a batch of ``bucket`` took, at least 1 ns."""
        place = self._index[bucket]
        self._counts[place] = count = self._counts[place] + 1
        mean = self._means[place]
        taken = float(service_ns) if service_ns > 1 else 1.0
        if count == 1:
            self._unseen -= 1
        else:
            self._follow_tail(taken / mean)
            if count > _LEARNT_RUNS and taken > mean * _OUTLIER:
                taken = mean * _OUTLIER
        mean += (taken - mean) * (_NEWEST if count > _SETTLED_RUNS else 1 / count)
        self._means[place] = mean
        self.runs += 1
        self._seen[place] = self.runs
        weight, size, square, time, cross = self._sums
        self._sums = (
            weight * _KEPT + 1,
            size * _KEPT + bucket,
            square * _KEPT + bucket * bucket,
            time * _KEPT + taken,
            cross * _KEPT + taken * bucket,
        )
        if not self.runs % _STALE_RUNS:
            self._doubt_stale()
        if self._unseen or abs(self.tail - self._applied_tail) > _TAIL_APPLIED:
            self._apply_all()
        else:
            self.predicted[place] = int(mean)
            self.uppers[place] = int(mean * self._applied_tail)

    def relax(self) -> None:
        """Believe half of it and learn anew: for a device that was too slow to be asked at all."""
        self._means = [mean / 2 for mean in self._means]
        self._counts = [min(count, 1) for count in self._counts]
        self.tail = 1.0
        weight, size, square, time, cross = self._sums
        self._sums = (weight, size, square, time / 2, cross / 2)
        self._apply_all()

    def predict(self, bucket: int) -> int:
        """Return ``L`` of a bucket, nanoseconds; 0 while nothing was observed."""
        return self.predicted[self._index[bucket]]

    def upper(self, bucket: int) -> int:
        """Return ``L+`` of a bucket, nanoseconds; 0 while nothing was observed."""
        return self.uppers[self._index[bucket]]

    def line(self) -> tuple[float, float]:
        """Return ``a`` and ``c``, nanoseconds and nanoseconds a row, neither below 0.

        While the sizes seen differ too little for a slope, the line last fitted goes up or down in
        proportion; with none fitted yet, time is taken as proportional to size.
        """
        weight, size, square, time, cross = self._sums
        if not weight:
            return 0.0, 0.0
        spread = weight * square - size * size
        if spread > _LEAST_SPREAD * size * size:
            slope = max(0.0, (weight * cross - size * time) / spread)
            intercept = max(0.0, (time - slope * size) / weight)
            if not intercept:
                slope = time / size
            self._intercept, self._slope = intercept, slope
            return intercept, slope
        fitted = self._intercept * weight + self._slope * size
        if not fitted:
            return 0.0, time / size
        return self._intercept * time / fitted, self._slope * time / fitted

    def _doubt_stale(self) -> None:
        intercept, slope = self.line()
        for place, bucket in enumerate(self.buckets):
            if self._counts[place] and self.runs - self._seen[place] >= _STALE_RUNS:
                line = intercept + slope * bucket
                self._means[place] += (line - self._means[place]) * _STALE_STEP
        self._apply_all()

    def _apply_all(self) -> None:
        """Predict every bucket anew: by its average, or by the line if it was never seen."""
        self._applied_tail = tail = self.tail
        intercept, slope = self.line() if self._unseen else (0.0, 0.0)
        for place, bucket in enumerate(self.buckets):
            mean = self._means[place] or intercept + slope * bucket
            self.predicted[place] = int(mean)
            self.uppers[place] = int(mean * tail)

    def _follow_tail(self, ratio: float) -> None:
        tail = self.tail
        if ratio > tail:
            self.tail = min(_TAIL_MOST, tail + _TAIL_UP)
        elif tail > 1.0:
            self.tail = max(1.0, tail - _TAIL_DOWN)
