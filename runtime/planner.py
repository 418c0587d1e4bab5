"""Decides what a device runs next. Pure: times and requests in, a batch out; nothing waits here.

Earliest deadline first over all models of the device. What can no longer be met is dropped. If all
that waits fits its deadlines, in one batch, in several or one by one, the first of them is run; if
not, the batch that meets the most requests per time is. An idle device never waits while there is
work, unless a wait is allowed and pays.
"""

from typing import Final, NamedTuple

import msgspec

from engine.core.models import Failure
from runtime.latency_model import LatencyModel
from runtime.request_queue import KEY_SHIFT, Request, RequestQueue, key_of

MAX_PLANNED: Final = 64
"""Batches looked ahead; what lies beyond is left to later plans."""
_WINDOW: Final = 4
"""Batches' worth of requests among which priority chooses in overload."""
_REFUSED_IN_A_ROW: Final = 32


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What to do now."""

    batch: list[Request]
    """To be run together, earliest deadline first; all of one model, at most ``bucket``."""
    bucket: int = 0
    model: int = -1
    dropped: tuple[tuple[Request, Failure], ...] = ()
    """To be answered with these failures."""
    wait_until_ns: int = 0
    """Not before this time, unless another request comes; 0 if there is nothing to wait for."""


class _Choice(NamedTuple):
    queue: RequestQueue
    place: int
    first: int = 0
    scarce: bool = False
    """Not everybody can be served: priority counts."""


class Planner:
    """The waiting requests of one device and the policy over them. The loop thread owns it.

    Attributes:
        queued: Requests waiting, all models together.
        refused_full: Requests refused because ``max_queued`` were waiting.
        refused_late: Requests refused because their deadline could not be met.
        relaxed: Times a latency model was made to forget because nothing was let in any more.

    Args:
        max_queued: Requests that may wait; more are refused.
        max_wait_ns: Longest wait for a batch to grow while the device is idle.
    """

    __slots__ = (
        "_in_a_row", "_max_queued", "_max_wait_ns", "_queues", "_share", "queued", "refused_full",
        "refused_late", "relaxed",
    )  # fmt: skip

    def __init__(self, max_queued: int = 4096, max_wait_ns: int = 0) -> None:
        self._max_queued = max_queued
        self._max_wait_ns = max_wait_ns
        self._queues: dict[int, RequestQueue] = {}
        self._in_a_row = 0
        self._share = 1.0
        self.queued = 0
        self.refused_full = 0
        self.refused_late = 0
        self.relaxed = 0

    def attach(
        self, model: int, latency: LatencyModel, slo_ns: int = 0, overhead_ns: int = 0
    ) -> RequestQueue:
        """Begin with a model; requests that wait for an older form of it stay in the queue."""
        old = self._queues.get(model)
        queue = RequestQueue(model, latency, slo_ns, overhead_ns)
        if old is not None:
            queue.keys, queue.requests = old.keys, old.requests
        queue.limit(self._share)
        self._queues[model] = queue
        return queue

    @property
    def fullness(self) -> float:
        """The requests that wait, as a part of those that may."""
        return self.queued / self._max_queued

    def limit(self, share: float) -> None:
        """Let no batch be larger than this part of the largest, now and for models to come."""
        self._share = share
        for queue in self._queues.values():
            queue.limit(share)

    def detach(self, model: int) -> list[Request]:
        """End with a model; return what waited for it."""
        queue = self._queues.pop(model, None)
        return self._take(queue, 0, len(queue)) if queue is not None else []

    def take_all(self) -> list[Request]:
        """Empty every queue; return what waited."""
        return [one for q in self._queues.values() for one in self._take(q, 0, len(q))]

    def expire(self, now_ns: int) -> tuple[tuple[Request, Failure], ...]:
        """Remove what can no longer be met; return it with its failure."""
        return self._drop(now_ns, list(self._queues.values()))

    def admit(self, now_ns: int, request: Request, busy_ns: int = 0) -> Failure | None:
        """Queue a request, or refuse it at once if it would be late anyway.

        Args:
            now_ns: The time.
            request: Of an attached model.
            busy_ns: How long the device will still be busy with what it was given.
        """
        if self.queued >= self._max_queued:
            self.refused_full += 1
            return Failure.REFUSED
        queue = self._queues[request.model]
        key = key_of(request)
        if now_ns + self._answered_in(queue, key, busy_ns) > request.deadline_ns:
            return self._refuse(queue, busy_ns)
        self._in_a_row = 0
        queue.put(key, request)
        self.queued += 1
        if self._max_wait_ns:
            queue.note_arrival(now_ns)
        return None

    def has_full(self) -> bool:
        """Whether some model has a full batch waiting."""
        return any(len(q) >= q.size_of(q.full) for q in self._queues.values())

    def plan(
        self,
        now_ns: int,
        start_ns: int = 0,
        *,
        only: RequestQueue | None = None,
        full_only: bool = False,
    ) -> Plan:
        """Choose the next batch and remove it from its queue.

        Args:
            now_ns: The time; what cannot be met even if run now is dropped.
            start_ns: When the batch would start, if later.
            only: Plan for this model alone.
            full_only: Return no batch unless it is a full one.
        """
        queues = [one for one in self._queues.values() if one.keys] if only is None else [only]
        if len(queues) == 1 and not full_only and not self._max_wait_ns:
            plan = self._plan_alone(now_ns, start_ns, queues[0])
            if plan is not None:
                return plan
        dropped = self._drop(now_ns, queues)
        if dropped:
            queues = [queue for queue in queues if queue.keys]
        if not queues:
            return Plan([], dropped=dropped)
        if start_ns < now_ns:
            start_ns = now_ns
        choice = (
            _whole(start_ns, queues)
            or _successive(start_ns, queues)
            or (_one_by_one(start_ns, queues) if self.queued <= MAX_PLANNED else None)
        )
        if choice is not None and self._max_wait_ns:
            wait_until_ns = self._wait_until(now_ns, choice, len(queues))
            if wait_until_ns > now_ns:
                return Plan([], dropped=dropped, wait_until_ns=wait_until_ns)
        choice = choice or _richest(start_ns, queues)
        queue, place = choice.queue, choice.place
        if full_only and len(queue) - choice.first < queue.size_of(queue.full):
            return Plan([], dropped=dropped)
        return Plan(self._take_choice(choice), queue.size_of(place), queue.model, dropped)

    def _plan_alone(self, now_ns: int, start_ns: int, queue: RequestQueue) -> Plan | None:
        """Plan for one model whose requests all fit one batch and its deadlines, as most do.

        What the whole of ``plan`` would choose, for a quarter of the price; None to ask that.
        """
        if not queue.keys:
            return None
        count, latency = len(queue.keys), queue.latency
        place = queue.fill(count) if count > 1 else 0
        bucket = latency.buckets[place]
        head_ns = queue.keys[0] >> KEY_SHIFT
        if (
            count > bucket
            or head_ns < now_ns + latency.predicted[0]
            or head_ns < max(start_ns, now_ns) + latency.uppers[place]
        ):
            return None
        self.queued -= count
        return Plan(queue.take_all(), bucket, queue.model)

    def _answered_in(self, queue: RequestQueue, key: int, busy_ns: int) -> int:
        """Estimate the time to a new request's answer behind all that is more urgent."""
        if not self.queued:
            if busy_ns <= 0:
                return queue.latency.predicted[0] + queue.overhead_ns
            return busy_ns + queue.latency.uppers[0] + queue.overhead_ns
        ahead_ns = queue.work_ns(queue.ahead_of(key) + 1)
        if len(queue.keys) < self.queued:
            for other in self._queues.values():
                if other is not queue:
                    ahead_ns += other.work_ns(other.ahead_of(key))
        return busy_ns + ahead_ns

    def _refuse(self, queue: RequestQueue, busy_ns: int) -> Failure:
        """Refuse; a device that nothing reaches any more is not held slow for ever."""
        self.refused_late += 1
        if self.queued or busy_ns > 0:
            return Failure.REFUSED
        self._in_a_row += 1
        if self._in_a_row >= _REFUSED_IN_A_ROW:
            self._in_a_row = 0
            self.relaxed += 1
            queue.latency.relax()
        return Failure.REFUSED

    def _drop(self, now_ns: int, queues: list[RequestQueue]) -> tuple[tuple[Request, Failure], ...]:
        dropped: tuple[tuple[Request, Failure], ...] = ()
        for queue in queues:
            soonest_ns = now_ns + queue.latency.predicted[0]
            if queue.keys and queue.keys[0] >> KEY_SHIFT < soonest_ns:
                late = self._take(queue, 0, queue.first_met(soonest_ns))
                dropped += tuple((request, Failure.LATE) for request in late)
        return dropped

    def _take(self, queue: RequestQueue, first: int, count: int) -> list[Request]:
        self.queued -= count
        return queue.take(first, count)

    def _take_choice(self, choice: _Choice) -> list[Request]:
        queue, place, first, scarce = choice
        queue.refresh()
        count = min(queue.size_of(place), len(queue) - first)
        if not scarce:
            return self._take(queue, first, count)
        self.queued -= count
        return queue.take_places(_dearest(queue.requests, first, count))

    def _wait_until(self, now_ns: int, choice: _Choice, models: int) -> int:
        """Return until when a batch may wait for one more; 0 if waiting does not pay.

        It pays while the mean gap between arrivals is below ``(a - n·c) / (n + 1)``: what is
        saved by one batch less, less what everybody waits.
        """
        queue, place = choice.queue, choice.place
        count = len(queue)
        buckets = queue.latency.buckets
        if models > 1 or count >= queue.size_of(queue.full) or not queue.gap_ns:
            return 0
        fixed_ns, row_ns = queue.latency.line()
        if queue.gap_ns >= (fixed_ns - count * row_ns) / (count + 1):
            return 0
        grown = place + (count == buckets[place])
        oldest_ns = min(request.submitted_ns for request in queue.requests)
        return min(
            oldest_ns + self._max_wait_ns,
            queue.head_ns() - queue.latency.uppers[grown] - queue.overhead_ns,
        )


def _whole(start_ns: int, queues: list[RequestQueue]) -> _Choice | None:
    """Choose everything in one batch, if it fits the tightest deadline."""
    if len(queues) > 1:
        return None
    queue = queues[0]
    place = queue.fill(len(queue))
    if queue.size_of(place) < len(queue):
        return None
    fits = start_ns + queue.latency.uppers[place] <= queue.head_ns()
    return _Choice(queue, place) if fits else None


def _successive(start_ns: int, queues: list[RequestQueue]) -> _Choice | None:
    """Choose the first of successive batches, each sized to its head's deadline, if all fit."""
    positions = dict.fromkeys(queues, 0)
    choice: _Choice | None = None
    for _ in range(MAX_PLANNED):
        if not positions:
            break
        queue = min(positions, key=lambda one: one.keys[positions[one]])
        position = positions[queue]
        left = len(queue) - position
        slack_ns = queue.head_ns(position) - start_ns
        place = queue.fill(left)
        while place >= 0 and queue.latency.uppers[place] > slack_ns:
            place -= 1
        if place < 0:
            return None
        choice = choice or _Choice(queue, place)
        start_ns += queue.latency.uppers[place] + queue.overhead_ns
        if left <= queue.size_of(place):
            del positions[queue]
        else:
            positions[queue] = position + queue.size_of(place)
    return choice


def _one_by_one(start_ns: int, queues: list[RequestQueue]) -> _Choice | None:
    """Choose the most urgent request alone, if all fit one after the other and not in batches.

    A batch as large as its own head allows may be too long for the head of another model.
    """
    end_ns = start_ns
    urgent = [(key, queue) for queue in queues for key in queue.keys]
    for key, queue in sorted(urgent, key=lambda one: one[0]):
        end_ns += queue.latency.uppers[0] + queue.overhead_ns
        if end_ns - queue.overhead_ns > key >> KEY_SHIFT:
            return None
    first = min(queues, key=lambda one: one.keys[0])
    return _Choice(first, 0)


def _richest(start_ns: int, queues: list[RequestQueue]) -> _Choice:
    """Choose the batch that meets the most requests per time, weighed by priority.

    Requests that it cannot meet stay behind, for a smaller batch or to be dropped. If nothing can
    be met with certainty, whatever is as likely as not is.
    """
    best = _best_rate(start_ns, queues, certain=True) or _best_rate(start_ns, queues, certain=False)
    if best is not None:
        return best
    queue = min(queues, key=lambda one: one.keys[0])
    return _Choice(queue, queue.fill(len(queue)), scarce=True)


def _best_rate(start_ns: int, queues: list[RequestQueue], *, certain: bool) -> _Choice | None:
    best: _Choice | None = None
    best_rate = 0.0
    for queue in queues:
        latency = queue.latency
        for place in range(queue.full + 1):
            taken_ns = latency.uppers[place] if certain else latency.predicted[place]
            first = queue.first_met(start_ns + taken_ns)
            met = min(queue.size_of(place), len(queue) - first)
            if met <= 0:
                break
            rate = met * (1 + queue.requests[first].priority) / (taken_ns + queue.overhead_ns or 1)
            if rate > best_rate:
                best, best_rate = _Choice(queue, place, first, scarce=True), rate
    return best


def _dearest(requests: list[Request], first: int, count: int) -> list[int]:
    """Return the places of the ``count`` dearest requests near ``first``, ascending.

    By priority, then by deadline; only the next few batches' worth are looked at.
    """
    last = min(len(requests), first + _WINDOW * count)
    places = range(first, last)
    priorities = {requests[place].priority for place in places}
    if len(priorities) == 1:
        return list(range(first, first + count))
    return sorted(sorted(places, key=lambda place: -requests[place].priority)[:count])
