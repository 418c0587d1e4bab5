"""The clocks a pipeline reads: the machine's own, and one that stands where the tick stood."""

import time

from latency.steady import BASE_NS, CLOCK


class WallClock:
    """Live: our steady clock, corrected to the gateway's by ``offset_ns`` (gateway - ours).

    A step of this machine's clock does not touch it, so no tick looks old or early because of one.
    """

    __slots__ = ("_shift_ns",)

    def __init__(self) -> None:
        self._shift_ns = BASE_NS

    @property
    def offset_ns(self) -> int:
        """The gateway's clock minus ours."""
        return self._shift_ns - BASE_NS

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._shift_ns = BASE_NS + offset_ns

    def now_ns(self) -> int:
        """Return nanoseconds since the Unix epoch on the gateway's clock."""
        return time.clock_gettime_ns(CLOCK) + self._shift_ns

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        """Return the tick's receive time plus what has passed since its frame was made.

        That is the time now; and where a gateway plays recorded ticks with their recorded times,
        it is the time now on their scale.
        """
        return ts_recv_ns + max(0, self.now_ns() - ts_send_ns)

    def total_ns(self, ts_intended_ns: int, burst_started_ns: int) -> int:
        """Return how long ago the tick should have left the gateway."""
        return self.now_ns() - ts_intended_ns


class TickClock:
    """Replay as fast as it goes: it is always the time at which the tick was received."""

    __slots__ = ()

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        """Return the tick's receive time."""
        return ts_recv_ns

    def total_ns(self, ts_intended_ns: int, burst_started_ns: int) -> int:
        """Return how long ago the tick's burst was handed to the pipeline."""
        return time.perf_counter_ns() - burst_started_ns
