"""Others' batching policies in the place of the planner, on a real lane with a real device.

The lane, its thread, staging buffers and gathering stay the same; only who decides differs.
"""

from collections import deque
from typing import Final

from engine.core.models import Failure
from runtime.latency_model import LatencyModel
from runtime.planner import Plan, Planner
from runtime.request_queue import Request, RequestQueue

_BACK_OFF: Final = 0.9


class _Heard(LatencyModel):
    """A latency model that tells a policy of every batch."""

    __slots__ = ("policy",)

    def __init__(self, learnt: LatencyModel, policy: "FifoPolicy") -> None:
        super().__init__(learnt.buckets)
        for bucket in learnt.buckets:
            super().observe(bucket, learnt.predict(bucket))
        self.policy = policy

    def observe(self, bucket: int, service_ns: int) -> None:
        super().observe(bucket, service_ns)
        self.policy.on_batch(service_ns)


class FifoPolicy(Planner):
    """Runs whatever waits as soon as the device is idle, in order of arrival; drops nothing."""

    def __init__(self, largest: int) -> None:
        super().__init__(1 << 20)
        self.largest = largest
        self.waiting: deque[Request] = deque()
        self.buckets: tuple[int, ...] = ()

    def attach(
        self, model: int, latency: LatencyModel, slo_ns: int = 0, overhead_ns: int = 0
    ) -> RequestQueue:
        self.buckets = latency.buckets
        return super().attach(model, _Heard(latency, self), slo_ns, overhead_ns)

    def take_all(self) -> list[Request]:
        taken = list(self.waiting)
        self.waiting.clear()
        self.queued = 0
        return taken

    def expire(self, now_ns: int) -> tuple[tuple[Request, Failure], ...]:
        return ()

    def admit(self, now_ns: int, request: Request, busy_ns: int = 0) -> Failure | None:
        self.waiting.append(request)
        self.queued += 1
        return None

    def has_full(self) -> bool:
        return len(self.waiting) >= self.most()

    def plan(
        self,
        now_ns: int,
        start_ns: int = 0,
        *,
        only: RequestQueue | None = None,
        full_only: bool = False,
    ) -> Plan:
        if not self.waiting:
            return Plan([])
        until_ns = self.wait_until(now_ns)
        if until_ns > now_ns:
            return Plan([], wait_until_ns=until_ns)
        count = min(self.most(), len(self.waiting))
        self.queued -= count
        batch = [self.waiting.popleft() for _ in range(count)]
        bucket = next(one for one in self.buckets if one >= count)
        return Plan(batch, bucket, batch[0].model)

    def most(self) -> int:
        """Return how many a batch may have."""
        return self.largest

    def wait_until(self, now_ns: int) -> int:
        """Return until when to wait for more; 0 for not at all."""
        return 0

    def on_batch(self, service_ns: int) -> None:
        """Hear how long a batch took."""


class FixedWaitPolicy(FifoPolicy):
    """Waits for a full batch, at most so long from the first request (Ray Serve, Triton)."""

    def __init__(self, largest: int, wait_ns: int) -> None:
        super().__init__(largest)
        self._wait_ns = wait_ns

    def wait_until(self, now_ns: int) -> int:
        full = len(self.waiting) >= self.largest
        return 0 if full else self.waiting[0].submitted_ns + self._wait_ns


class AimdPolicy(FifoPolicy):
    """Runs at most an adaptive number: one more while a batch is fast enough, else a tenth less.

    Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System", NSDI 2017.
    """

    def __init__(self, largest: int, slo_ns: int) -> None:
        super().__init__(largest)
        self._slo_ns = slo_ns
        self._most = 1.0

    def most(self) -> int:
        return int(self._most)

    def on_batch(self, service_ns: int) -> None:
        slow = service_ns > self._slo_ns
        grown = max(1.0, self._most * _BACK_OFF) if slow else self._most + 1
        self._most = min(float(self.largest), grown)
