"""How late the event loop wakes: because something ran too long on it, or it got no processor."""

import asyncio
import time
from typing import Final

from latency.counts import StageCounts
from latency.histogram import StageHistograms

DEFAULT_INTERVAL_NS: Final = 50_000_000
"""Costs about 0.3 % of a core; 10 ms would cost four times that."""
DEFAULT_BUDGET_NS: Final = 20_000_000
LOOP: Final = "loop"
"""The stage under which lateness is logged."""
_NS_PER_S: Final = 1_000_000_000


class StallMeter:
    """Keeps how late wake-ups came; pure: times are arguments. The loop thread owns it.

    A wake-up that is late by more than ``budget_ns`` is a stall. A loop that stood still for a time
    S gives one lateness, between S less the interval and S, whatever the interval; one that stood
    still for less than an interval may go unseen, but is found as often as its share of it.

    Attributes:
        budget_ns: Lateness from which a wake-up counts as a stall.
        stalls: Stalls so far.
        worst_ns: Greatest lateness so far.

    Args:
        budget_ns: As above.
    """

    __slots__ = ("_histograms", "budget_ns", "stalls", "worst_ns")

    def __init__(self, budget_ns: int = DEFAULT_BUDGET_NS) -> None:
        self._histograms = StageHistograms([LOOP])
        self.budget_ns = budget_ns
        self.stalls = 0
        self.worst_ns = 0

    def record(self, scheduled_ns: int, actual_ns: int) -> None:
        """Take one wake-up in; both times on one monotonic clock. Early counts as on time."""
        late_ns = max(0, actual_ns - scheduled_ns)
        self._histograms.record_value(0, late_ns)
        if late_ns > self.worst_ns:
            self.worst_ns = late_ns
        if late_ns > self.budget_ns:
            self.stalls += 1

    def cumulative(self) -> StageCounts:
        """Copy every lateness so far."""
        return self._histograms.cumulative()[LOOP]

    def take_interval(self) -> dict[str, StageCounts]:
        """Copy the latenesses since the last take, by stage, as an ``.hlog`` takes them."""
        return self._histograms.take_interval()


class LoopWatch:
    """Wakes every ``interval_ns`` on a loop and tells the meter how late it was.

    Reads the monotonic clock itself: uvloop's own time is that of the turn's begin, in whole
    milliseconds. Its timers are too, so up to 1 ms late is on time.

    Args:
        meter: Keeps what is measured.
        interval_ns: Between wake-ups, at least 1 ms.

    Raises:
        ValueError: ``interval_ns`` is below a millisecond.
    """

    __slots__ = ("_due_ns", "_handle", "_interval_ns", "meter")

    def __init__(self, meter: StallMeter, interval_ns: int = DEFAULT_INTERVAL_NS) -> None:
        if interval_ns < 1_000_000:
            raise ValueError(f"interval {interval_ns} ns is below 1 ms")
        self.meter = meter
        self._interval_ns = interval_ns
        self._due_ns = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin on ``loop``; starting twice begins anew."""
        self.stop()
        self._schedule(loop)

    def stop(self) -> None:
        """End; nothing is left on the loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_ns = time.monotonic_ns() + self._interval_ns
        self._handle = loop.call_later(self._interval_ns / _NS_PER_S, self._on_wake, loop)

    def _on_wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self.meter.record(self._due_ns, time.monotonic_ns())
        self._schedule(loop)
