"""Waits until a recorded tick is due: sleeps most of the gap, spins the rest.

Timers of an event loop are milliseconds coarse, so none is used.
"""

import time
from typing import Final

SPIN_NS: Final = 300_000
"""The last part of a wait is spent spinning, since a sleep may end so much too late."""


class Pacer:
    """Maps recorded receive times to the monotonic clock, the first one to the start.

    Args:
        speed: Recorded seconds played a second.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._origin: tuple[int, int] | None = None

    def due_ns(self, ts_recv_ns: int) -> int:
        """Return when a tick is due on ``time.perf_counter_ns``; the first call starts the play."""
        if self._origin is None:
            self._origin = ts_recv_ns, time.perf_counter_ns()
        recorded, started = self._origin
        return started + int((ts_recv_ns - recorded) / self.speed)

    @staticmethod
    def wait_until(due_ns: int) -> int:
        """Return at ``due_ns``, or at once if it is past; tell the time then."""
        while (now := time.perf_counter_ns()) < due_ns:
            left = due_ns - now
            if left > SPIN_NS:
                time.sleep((left - SPIN_NS) / 1e9)
        return now
