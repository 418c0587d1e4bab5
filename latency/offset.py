"""How far the peer's clock is from ours, and how sure we are: four timestamps, least round trip.

Pure: times are arguments. Both clocks are wall clocks in integer nanoseconds.
"""

from collections import deque
from typing import Final, NamedTuple

DEFAULT_WINDOW: Final = 64
"""Samples looked back on: about a minute at one exchange a second."""
DEFAULT_DRIFT_PPM: Final = 100
"""How fast two undisciplined crystals may part, in parts per million (50 each)."""


class OffsetEstimate(NamedTuple):
    """The offset of the peer's clock at one moment: it lies within ± ``error_bound_ns``."""

    offset_ns: int
    """The peer's clock minus ours."""
    error_bound_ns: int
    rtt_ns: int
    """Round trip of the sample behind the estimate, the peer's own time taken off."""
    at_ns: int
    """Our wall clock when the estimate held."""

    def to_peer_ns(self, ours_wall_ns: int) -> int:
        """Return what the peer's clock shows when ours shows ``ours_wall_ns``."""
        return ours_wall_ns + self.offset_ns

    def to_ours_ns(self, peer_wall_ns: int) -> int:
        """Return what our clock shows when the peer's shows ``peer_wall_ns``."""
        return peer_wall_ns - self.offset_ns


class OneWay(NamedTuple):
    """A latency between two machines: true within ± ``error_bound_ns``."""

    latency_ns: int
    error_bound_ns: int
    clock_fault: bool
    """It came out negative: count it, and do not report it as a latency."""


class _Exchange(NamedTuple):
    begin_ns: int
    offset_ns: int
    half_rtt_ns: int
    rtt_ns: int


class OffsetEstimator:
    """Estimates the peer's clock offset from ping exchanges; owned by who pings.

    An exchange bounds the offset on both sides, because neither leg can take less than no time:
    ``t3 - t4 <= offset <= t2 - t1``, an interval as wide as the round trip however unequal the
    legs are (Mills, 1991). The window keeps the latest exchanges; the estimate is the midpoint of
    the narrowest, where an old exchange is widened by the drift since. An exchange that no drift
    can reconcile with one in the window means that a clock was stepped: the window starts over.

    Attributes:
        samples: Exchanges accepted.
        faults: Exchanges refused: a clock ran backwards within them.
        steps: Clock steps found.

    Args:
        window: Exchanges looked back on, at least 1.
        drift_ppm: Most the clocks may part, parts per million.

    Raises:
        ValueError: ``window`` or ``drift_ppm`` is out of range.
    """

    __slots__ = ("_drift_ppm", "_window", "faults", "samples", "steps")

    def __init__(self, window: int = DEFAULT_WINDOW, drift_ppm: int = DEFAULT_DRIFT_PPM) -> None:
        if window < 1 or drift_ppm < 0:
            raise ValueError(f"window {window} must be >= 1 and drift_ppm {drift_ppm} >= 0")
        self._window: deque[_Exchange] = deque(maxlen=window)
        self._drift_ppm = drift_ppm
        self.samples = 0
        self.faults = 0
        self.steps = 0

    def add(self, t1_ns: int, t2_ns: int, t3_ns: int, t4_ns: int) -> OffsetEstimate | None:
        """Take one exchange in and return the estimate at ``t4_ns``.

        Args:
            t1_ns: Our clock when the ping left.
            t2_ns: The peer's clock when the ping came.
            t3_ns: The peer's clock when its answer left.
            t4_ns: Our clock when the answer came.

        Returns:
            The estimate, or None while no exchange was good.
        """
        rtt_ns = (t4_ns - t1_ns) - (t3_ns - t2_ns)
        if t4_ns < t1_ns or t3_ns < t2_ns or rtt_ns < 0:
            self.faults += 1
            return self.estimate(t4_ns)
        offset_ns = ((t2_ns - t1_ns) + (t3_ns - t4_ns)) // 2
        exchange = _Exchange(t1_ns, offset_ns, (rtt_ns + 1) // 2, rtt_ns)
        if any(self._contradicts(old, exchange, t4_ns) for old in self._window):
            self._window.clear()
            self.steps += 1
        self._window.append(exchange)
        self.samples += 1
        return self.estimate(t4_ns)

    def estimate(self, now_ns: int) -> OffsetEstimate | None:
        """Return the estimate at ``now_ns`` of our clock, None while there is no good exchange."""
        if not self._window:
            return None
        bound_ns, best = min((self._bound_ns(old, now_ns), old) for old in self._window)
        return OffsetEstimate(best.offset_ns, bound_ns, best.rtt_ns, now_ns)

    def _bound_ns(self, exchange: _Exchange, now_ns: int) -> int:
        age_ns = max(0, now_ns - exchange.begin_ns)
        return exchange.half_rtt_ns - (-age_ns * self._drift_ppm // 1_000_000)

    def _contradicts(self, old: _Exchange, new: _Exchange, now_ns: int) -> bool:
        apart_ns = abs(new.offset_ns - old.offset_ns)
        return apart_ns > self._bound_ns(old, now_ns) + self._bound_ns(new, now_ns)


def one_way(sent_peer_ns: int, received_ns: int, estimate: OffsetEstimate) -> OneWay:
    """Measure how long something was under way from the peer to us.

    Args:
        sent_peer_ns: The peer's wall clock when it left.
        received_ns: Our wall clock when it came.
        estimate: The offset about then.
    """
    latency_ns = received_ns - estimate.to_ours_ns(sent_peer_ns)
    return OneWay(latency_ns, estimate.error_bound_ns, latency_ns < 0)
