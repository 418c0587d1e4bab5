"""One model's waiting requests, earliest deadline first, and the batch sizes it may be run with.

Deadlines and arrivals are on one monotonic clock, nanoseconds. Two lists side by side, keys and
requests: most requests come in the order of their deadlines, so that to queue one is an append.
"""

from bisect import bisect_left, bisect_right
from typing import Final

from runtime.latency_model import LatencyModel

KEY_SHIFT: Final = 4
_HIGHEST_PRIORITY: Final = 9
_NEARLY_BEST: Final = 0.98
"""Of the best throughput: the smallest bucket that reaches it is as good and answers sooner."""
_REFRESH_RUNS: Final = 16
_GAP_WEIGHT: Final = 0.05


class Request:
    """One window that waits for its score. Made by who asks, owned by the lane until answered.

    Attributes:
        model: Key of the model.
        deadline_ns: When the answer is worth nothing any more, monotonic.
        submitted_ns: When it was asked, monotonic.
        priority: 9 goes before 0 at one deadline, and is kept longer in overload.
        context: The asker's own; the lane never looks at it.
    """

    __slots__ = ("context", "deadline_ns", "model", "priority", "submitted_ns")

    def __init__(
        self,
        model: int,
        deadline_ns: int,
        submitted_ns: int,
        priority: int = 5,
        context: object = None,
    ) -> None:
        self.model = model
        self.deadline_ns = deadline_ns
        self.submitted_ns = submitted_ns
        self.priority = priority
        self.context = context


def key_of(request: Request) -> int:
    """Return what requests are ordered by: deadline, then priority, the highest first."""
    return (request.deadline_ns << KEY_SHIFT) + _HIGHEST_PRIORITY - request.priority


class RequestQueue:
    """One model's requests in order, with its latency model. The loop thread owns it.

    Attributes:
        model: Key of the model.
        latency: Predicts its batches.
        slo_ns: What requests are usually given; 0 if unknown. Buckets whose ``L+`` exceeds it are
            left out. To leave out those that exceed half of it, so that a request could sit through
            another batch first, costs more than it saves: as soon as a device is slower than it
            was, small batches are all that is left, and it falls behind for good.
        overhead_ns: What a batch costs beside its service: handing over, gathering.
        keys: Sort keys, ascending; ``key >> KEY_SHIFT`` is the deadline.
        requests: The requests, in the order of ``keys``.
        full: Place of the bucket that a long queue is run with, the smallest within 2 % of the best
            throughput.
        gap_ns: Mean time between arrivals, 0 before the second.
        share: Part of the largest bucket that a batch may have; the smallest bucket always may.

    Args:
        model, latency, slo_ns, overhead_ns: As above.
    """

    __slots__ = (
        "_arrived_ns", "_refreshed", "_sizes", "full", "gap_ns", "keys", "latency", "model",
        "overhead_ns", "requests", "share", "slo_ns",
    )  # fmt: skip

    def __init__(
        self, model: int, latency: LatencyModel, slo_ns: int = 0, overhead_ns: int = 0
    ) -> None:
        self.model = model
        self.latency = latency
        self.slo_ns = slo_ns
        self.overhead_ns = overhead_ns
        self.keys: list[int] = []
        self.requests: list[Request] = []
        self.gap_ns = 0.0
        self.share = 1.0
        self._arrived_ns = 0
        self._sizes = _places_by_count(latency.buckets)
        self.full = 0
        self._refreshed = 0
        self.refresh()

    def __len__(self) -> int:
        return len(self.keys)

    def push(self, request: Request) -> None:
        """Queue one behind all that are as urgent."""
        self.put(key_of(request), request)

    def put(self, key: int, request: Request) -> None:
        """Queue one whose key is known."""
        keys = self.keys
        if not keys or key >= keys[-1]:
            keys.append(key)
            self.requests.append(request)
            return
        place = bisect_right(keys, key)
        keys.insert(place, key)
        self.requests.insert(place, request)

    def note_arrival(self, now_ns: int) -> None:
        """Follow the mean time between arrivals; needed only where batches may wait."""
        if self._arrived_ns:
            gap = now_ns - self._arrived_ns
            self.gap_ns += (gap - self.gap_ns) * _GAP_WEIGHT if self.gap_ns else gap
        self._arrived_ns = now_ns

    def head_ns(self, place: int = 0) -> int:
        """Return the deadline of the ``place``-th request."""
        return self.keys[place] >> KEY_SHIFT

    def first_met(self, finish_ns: int) -> int:
        """Return the place of the first request whose deadline is not before ``finish_ns``."""
        return bisect_left(self.keys, finish_ns << KEY_SHIFT)

    def ahead_of(self, key: int) -> int:
        """Return how many requests go before one of this key that comes now."""
        keys = self.keys
        return len(keys) if not keys or key >= keys[-1] else bisect_right(keys, key)

    def take(self, first: int, count: int) -> list[Request]:
        """Remove and return ``count`` requests from place ``first`` on."""
        taken = self.requests[first : first + count]
        del self.requests[first : first + count]
        del self.keys[first : first + count]
        return taken

    def take_all(self) -> list[Request]:
        """Remove and return all, earliest deadline first."""
        if self.latency.runs - self._refreshed >= _REFRESH_RUNS:
            self.refresh()
        taken, self.requests = self.requests, []
        self.keys = []
        return taken

    def take_places(self, places: list[int]) -> list[Request]:
        """Remove and return the requests at these ascending places, at least one."""
        if places[-1] - places[0] + 1 == len(places):
            return self.take(places[0], len(places))
        taken = [self.requests[place] for place in places]
        for place in reversed(places):
            del self.requests[place]
            del self.keys[place]
        return taken

    def size_of(self, place: int) -> int:
        """Return the batch size of a bucket."""
        return self.latency.buckets[place]

    def fill(self, count: int) -> int:
        """Return the place of the bucket to run first for ``count`` waiting requests.

        The smallest that holds them all, or the one below it where two batches cost less than the
        padding of one.
        """
        buckets = self.latency.buckets
        if count >= buckets[self.full]:
            return self.full
        place = self._sizes[count]
        if not place or buckets[place] == count:
            return place
        predicted = self.latency.predicted
        rest = self._sizes[count - buckets[place - 1]]
        apart = predicted[place - 1] + predicted[rest] + self.overhead_ns
        return place - 1 if apart < predicted[place] else place

    def work_ns(self, count: int) -> int:
        """Estimate how long ``count`` requests take, in full batches and a rest at its ``L+``."""
        latency, full = self.latency, self.full
        size = latency.buckets[full]
        if count < size:
            return latency.uppers[self._sizes[count]] + self.overhead_ns if count else 0
        whole, rest = divmod(count, size)
        taken = whole * (latency.predicted[full] + self.overhead_ns)
        if rest:
            taken += latency.uppers[self._sizes[rest]] + self.overhead_ns
        return taken

    def limit(self, share: float) -> None:
        """Let no batch be larger than this part of the largest bucket, at once."""
        self.share = share
        self._refreshed = 0
        self.refresh()

    def refresh(self) -> None:
        """Choose the full bucket anew, now and then."""
        runs = self.latency.runs
        if self._refreshed and runs - self._refreshed < _REFRESH_RUNS:
            return
        self._refreshed = runs
        buckets, latency = self.latency.buckets, self.latency
        largest = self.share * buckets[-1]
        small = [place for place, size in enumerate(buckets) if not place or size <= largest]
        if not runs:
            self.full = small[-1]
            return
        allowed = [
            place
            for place in small
            if not place or not self.slo_ns or latency.uppers[place] <= self.slo_ns
        ]
        rates = {
            place: buckets[place] / (latency.predicted[place] + self.overhead_ns or 1)
            for place in allowed
        }
        enough = max(rates.values()) * _NEARLY_BEST
        self.full = next(place for place in allowed if rates[place] >= enough)


def _places_by_count(buckets: tuple[int, ...]) -> list[int]:
    """Return for every count the place of the smallest bucket that holds so many."""
    places = [0]
    for place, bucket in enumerate(buckets):
        places += [place] * (bucket + 1 - len(places))
    return places
