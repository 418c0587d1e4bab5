"""Batching policies of others, as plain as they are described, and ours, in one simulator.

All pad to the same buckets and know the device's service times exactly.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

from bench.batching_simulator import BUCKETS, MS, SLO_NS, Step, service_ns

from runtime.latency_model import LatencyModel
from runtime.planner import Planner
from runtime.request_queue import Request

LARGEST: Final = BUCKETS[-1]
_BACK_OFF: Final = 0.9


def bucket_of(count: int) -> int:
    """Return the smallest bucket that holds ``count`` requests."""
    return BUCKETS[bisect_left(BUCKETS, count)]


class _Fifo:
    """Serves in the order of arrival and drops nothing."""

    name = ""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def arrive(self, now_ns: int, request: Request, busy_ns: int) -> bool:
        self._waiting.append(request)
        return True

    def finish(self, now_ns: int, batch: list[Request], bucket: int, taken_ns: int) -> None:
        pass

    def _first(self, most: int) -> Step:
        count = min(most, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(count)]
        return Step(batch, bucket_of(count) if count else 0)


class FixedWait(_Fifo):
    """Waits for a full batch, at most so long from the first request (Ray Serve, Triton)."""

    def __init__(self, wait_ns: int = 5 * MS) -> None:
        super().__init__()
        self._wait_ns = wait_ns
        self.name = f"fixed {wait_ns // MS} ms wait"

    def step(self, now_ns: int) -> Step:
        if not self._waiting:
            return Step([])
        due_ns = self._waiting[0].submitted_ns + self._wait_ns
        if len(self._waiting) >= LARGEST or now_ns >= due_ns:
            return self._first(LARGEST)
        return Step([], wake_ns=due_ns)


class WorkConserving(_Fifo):
    """Runs whatever waits as soon as the device is idle."""

    name = "work-conserving"

    def step(self, now_ns: int) -> Step:
        return self._first(LARGEST)


class Aimd(_Fifo):
    """Runs at most an adaptive number: one more while a batch is fast enough, else a tenth less.

    Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System", NSDI 2017: what is
    held against the objective is the time to process a batch.
    """

    name = "AIMD"

    def __init__(self) -> None:
        super().__init__()
        self._most = 1.0

    def step(self, now_ns: int) -> Step:
        return self._first(int(self._most))

    def finish(self, now_ns: int, batch: list[Request], bucket: int, taken_ns: int) -> None:
        slow = taken_ns > SLO_NS
        self._most = max(1.0, self._most * _BACK_OFF) if slow else min(LARGEST, self._most + 1)


class HeadSlack:
    """Earliest deadline first, a batch as large as the first one's slack allows."""

    name = "EDF capped by head slack"

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._waiting: list[Request] = []

    def arrive(self, now_ns: int, request: Request, busy_ns: int) -> bool:
        place = bisect_left(self._keys, request.deadline_ns)
        self._keys.insert(place, request.deadline_ns)
        self._waiting.insert(place, request)
        return True

    def step(self, now_ns: int) -> Step:
        gone = bisect_left(self._keys, now_ns + service_ns(1))
        del self._keys[:gone], self._waiting[:gone]
        if not self._waiting:
            return Step([])
        slack_ns = self._keys[0] - now_ns
        most = max(bucket for bucket in BUCKETS if service_ns(bucket) <= slack_ns)
        count = min(most, len(self._waiting))
        batch = self._waiting[:count]
        del self._keys[:count], self._waiting[:count]
        return Step(batch, bucket_of(count))

    def finish(self, now_ns: int, batch: list[Request], bucket: int, taken_ns: int) -> None:
        pass


class Ours:
    """The planner itself, with a latency model that learns from the runs it sees."""

    name = "planner"

    def __init__(self, max_wait_ns: int = 0, admit: bool = True) -> None:
        self.planner = Planner(1 << 20, max_wait_ns)
        self.latency = LatencyModel(BUCKETS)
        for _ in range(5):
            for bucket in BUCKETS:
                self.latency.observe(bucket, service_ns(bucket))
        self.latency.tail = 1.0
        self._queue = self.planner.attach(0, self.latency, SLO_NS)
        self._admit = admit

    def arrive(self, now_ns: int, request: Request, busy_ns: int) -> bool:
        if not self._admit:
            self._queue.push(request)
            self.planner.queued += 1
            return True
        return self.planner.admit(now_ns, request, busy_ns) is None

    def step(self, now_ns: int) -> Step:
        plan = self.planner.plan(now_ns)
        return Step(plan.batch, plan.bucket, plan.wait_until_ns)

    def finish(self, now_ns: int, batch: list[Request], bucket: int, taken_ns: int) -> None:
        self.latency.observe(bucket, taken_ns)


POLICIES: Final[tuple[Callable[[], FixedWait | WorkConserving | Aimd | HeadSlack | Ours], ...]] = (
    FixedWait, WorkConserving, Aimd, HeadSlack, Ours,
)  # fmt: skip
