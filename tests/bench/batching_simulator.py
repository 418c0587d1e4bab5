"""One device in virtual time: requests arrive, a policy forms batches, deadlines are met or missed.

Discrete events, nanoseconds, no clock and no thread: the same arrivals always give the same misses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np

from runtime.request_queue import Request

MS: Final = 1_000_000
SLO_NS: Final = 10 * MS
TIGHT_NS: Final = 5 * MS
TIGHT_SHARE: Final = 0.25
BUCKETS: Final = (1, 2, 4, 8, 16, 32)
FIXED_NS: Final = 800_000
ROW_NS: Final = 50_000


def service_ns(bucket: int) -> int:
    """Return how long the simulated device takes for a batch: 0.8 + 0.05·b ms."""
    return FIXED_NS + ROW_NS * bucket


CAPACITY_PER_S: Final = BUCKETS[-1] / service_ns(BUCKETS[-1]) * 1e9
"""Requests a second in full batches."""


class Step(NamedTuple):
    """What a policy wants of an idle device: a batch to run, or to be asked again at a time."""

    batch: list[Request]
    bucket: int = 0
    wake_ns: int = 0


class Policy(Protocol):
    """Decides what an idle device runs. Times are nanoseconds."""

    name: str

    def arrive(self, now_ns: int, request: Request, busy_ns: int) -> bool:
        """Take a request in; False refuses it, which is a miss."""
        ...

    def step(self, now_ns: int) -> Step:
        """Choose, with the device idle."""
        ...

    def finish(self, now_ns: int, batch: list[Request], bucket: int, taken_ns: int) -> None:
        """Hear that a batch is done."""
        ...


@dataclass
class Tally:
    """What became of the requests.

    Attributes:
        asked: All of them.
        met: Answered by their deadline.
        batches: Batches run.
        rows: Requests in them, late ones too.
        busy_ns: Time the device ran.
    """

    asked: int = 0
    met: int = 0
    batches: int = 0
    rows: int = 0
    busy_ns: int = 0
    waits_ns: list[int] = field(default_factory=list)

    @property
    def missed_pct(self) -> float:
        """Share not answered in time, refused and dropped ones too, in percent."""
        return 100 * (self.asked - self.met) / self.asked


def poisson(load: float, seconds: float, seed: int) -> list[Request]:
    """Return arrivals at a share of the device's capacity, a quarter of them tight."""
    random = np.random.default_rng(seed)
    count = int(load * CAPACITY_PER_S * seconds)
    gaps = random.exponential(1e9 / (load * CAPACITY_PER_S), count)
    return _requests(np.cumsum(gaps), random)


def bursty(load: float, seconds: float, seed: int, peak: float, on_ms: float) -> list[Request]:
    """Return arrivals of an on-off source: Poisson while on, none while off.

    Args:
        load: Mean share of the device's capacity.
        seconds: How long.
        seed: Of the random numbers.
        peak: Share of the capacity while it is on.
        on_ms: Mean length of a burst; lengths and pauses are exponential.
    """
    random = np.random.default_rng(seed)
    off_ms = on_ms * (peak / load - 1)
    gap_ns = 1e9 / (peak * CAPACITY_PER_S)
    times: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    now_ns = 0.0
    while now_ns < seconds * 1e9:
        length_ns = random.exponential(on_ms * MS)
        count = int(length_ns / gap_ns * 1.5) + 50
        burst = np.cumsum(random.exponential(gap_ns, count))
        times.append(now_ns + burst[burst < length_ns])
        now_ns += length_ns + random.exponential(off_ms * MS)
    return _requests(np.concatenate(times), random)


def _requests(
    times: "np.ndarray[tuple[int], np.dtype[np.float64]]", random: np.random.Generator
) -> list[Request]:
    tight = random.random(len(times)) < TIGHT_SHARE
    slacks = np.where(tight, TIGHT_NS, SLO_NS)
    return [
        Request(0, int(at) + int(slack), int(at))
        for at, slack in zip(times.tolist(), slacks.tolist(), strict=True)
    ]


def simulate(
    policy: Policy,
    requests: Sequence[Request],
    service: Callable[[int], int] = service_ns,
) -> Tally:
    """Run all requests, in the order of their arrival, through a policy and one device."""
    tally = Tally(asked=len(requests))
    never = 1 << 62
    end_ns, wake_ns, place = never, never, 0
    running: list[Request] = []
    bucket = began_ns = 0
    while True:
        arrival_ns = requests[place].submitted_ns if place < len(requests) else never
        now_ns = min(arrival_ns, end_ns, wake_ns)
        if now_ns == never:
            return tally
        if now_ns == end_ns:
            tally.met += sum(request.deadline_ns >= now_ns for request in running)
            policy.finish(now_ns, running, bucket, now_ns - began_ns)
            end_ns = never
        elif now_ns == arrival_ns:
            policy.arrive(now_ns, requests[place], end_ns - now_ns if end_ns != never else 0)
            place += 1
        if end_ns != never:
            continue
        running, bucket, wake_ns = policy.step(now_ns)
        wake_ns = wake_ns or never
        if running:
            wake_ns = never
            began_ns, end_ns = now_ns, now_ns + service(bucket)
            tally.batches += 1
            tally.rows += len(running)
            tally.busy_ns += end_ns - now_ns
