"""Requests that come when they come, whatever became of those before: real time, a real lane.

Deadlines count from the time a request was meant to come, so that being late to ask is no excuse.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.models import Failure, Floats
from runtime.executors import DeviceThread
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.latency_model import LatencyModel
from runtime.planner import Planner
from runtime.prepared import PreparedModel
from runtime.request_queue import Request

TICKER: Final = Path(__file__).with_name("arrival_ticker.py")
_LEAD_NS: Final = 300_000_000
_END_S: Final = 20.0
_now: Final = time.monotonic_ns


class Arrivals(NamedTuple):
    """When requests are meant to come, from 0, and how long each has."""

    times_ns: npt.NDArray[np.int64]
    slacks_ns: npt.NDArray[np.int64]


class Tally(NamedTuple):
    """What became of the requests of one run.

    Attributes:
        asked: All of them.
        met: Answered by their deadline, on the clock after the answer was given.
        rows: Computed in batches.
        batches: These.
        lateness_us: 99th percentile of how late requests were asked.
        taken_ns: From the first arrival to the last answer.
    """

    asked: int
    met: int
    rows: int
    batches: int
    lateness_us: float
    taken_ns: int

    @property
    def missed_pct(self) -> float:
        """Share not answered in time, refused and dropped ones too, in percent."""
        return 100 * (self.asked - self.met) / self.asked


@contextmanager
def _ticker(times_ns: npt.NDArray[np.int64]) -> Iterator[int]:
    """Start the process that wakes the loop; yield the descriptor it writes to."""
    with subprocess.Popen(
        [sys.executable, str(TICKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ticker:
        assert ticker.stdin is not None
        assert ticker.stdout is not None
        ticker.stdin.write(times_ns.tobytes())
        ticker.stdin.close()
        descriptor = ticker.stdout.fileno()
        os.set_blocking(descriptor, False)
        yield descriptor


class OpenLoop:
    """One run of one policy on one lane. The loop thread owns it.

    Args:
        loaded: The model.
        latency: What was learnt of it.
        planner: The policy.
        windows: To be asked for, float32 (N, W, F), in turn.
        slo_ns: What requests are usually given.
    """

    def __init__(
        self,
        loaded: PreparedModel,
        latency: LatencyModel,
        planner: Planner,
        windows: Floats,
        slo_ns: int,
    ) -> None:
        self._windows = windows
        self._lane = Lane("cpu", DeviceThread("cpu"), planner, self._gather, self._on_done)
        self._lane.start(asyncio.get_running_loop())
        self._lane.attach(0, loaded, slo_ns=slo_ns, latency=latency)
        self._met = 0
        self._answered = 0
        self._late_ns: list[int] = []
        self._next = 0
        self._due: list[tuple[int, int]] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, arrivals: Arrivals) -> Tally:
        """Let all requests come; return what became of them."""
        loop = asyncio.get_running_loop()
        times_ns = arrivals.times_ns + _now() + _LEAD_NS
        self._due = list(zip(times_ns.tolist(), arrivals.slacks_ns.tolist(), strict=True))
        with _ticker(times_ns) as descriptor:
            loop.add_reader(descriptor, self._on_ticks, descriptor)
            last_s = float(arrivals.times_ns[-1]) / 1e9
            async with asyncio.timeout(last_s + _END_S):
                await self._done
            loop.remove_reader(descriptor)
        taken_ns = _now() - self._due[0][0]
        counts = self._lane.counts()["0"]
        await self._lane.close()
        late_us = float(np.percentile(self._late_ns, 99)) / 1e3
        return Tally(
            len(self._due), self._met, counts["rows"], counts["batches"], late_us, taken_ns
        )

    def _on_ticks(self, descriptor: int) -> None:
        os.read(descriptor, 1 << 16)
        now_ns = _now()
        due, lane = self._due, self._lane
        while self._next < len(due) and due[self._next][0] <= now_ns:
            time_ns, slack_ns = due[self._next]
            self._late_ns.append(now_ns - time_ns)
            request = Request(0, time_ns + slack_ns, time_ns, context=self._next)
            self._next += 1
            if lane.submit(request) is not None:
                self._count(1)
        lane.pump()

    def _gather(self, model: int, requests: list[Request], out: Floats) -> Sequence[bool]:
        count = len(self._windows)
        places = [request.context % count for request in requests]  # type: ignore[operator]
        np.take(self._windows, places, axis=0, out=out[: len(places)])
        return [True] * len(places)

    def _on_done(
        self, request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        if row is not None:
            row.tolist()
            self._met += _now() <= request.deadline_ns
        self._count(1)

    def _count(self, answered: int) -> None:
        self._answered += answered
        if self._answered == len(self._due) and not self._done.done():
            self._done.set_result(None)


Policy = Callable[[], Planner]


async def run_policy(
    loaded: PreparedModel,
    latency: LatencyModel,
    policy: Policy,
    windows: Floats,
    arrivals: Arrivals,
    slo_ns: int,
) -> Tally:
    """Run one policy over one schedule."""
    return await OpenLoop(loaded, latency, policy(), windows, slo_ns).run(arrivals)
