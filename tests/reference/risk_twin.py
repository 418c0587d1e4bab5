"""Risk rules written the plain way, for comparison: whole lists kept, everything counted anew."""

from collections.abc import Sequence
from itertools import pairwise

from engine.core.candidates import Candidate


def limit_prices_in_cents(pre_close: int, percent: int) -> tuple[int, int]:
    """Return (lowest, highest) in cents, rounded half-up, by whole-number arithmetic."""
    up = (pre_close * (100 + percent) + 50) // 100
    down = (pre_close * (100 - percent) + 50) // 100
    return max(min(down, pre_close - 1), 1), max(up, pre_close + 1)


def units_of(signals: Sequence[Candidate], instrument: int, *, long_only: bool) -> int:
    """Return an instrument's position after these signals."""
    units = 0
    for signal in signals:
        if signal.instrument == instrument:
            units += signal.side
            if long_only and units < 0:
                units = 0
    return units


def may_sell(signals: Sequence[Candidate], candidate: Candidate) -> bool:
    """Whether a T+1 share may be sold: nothing is held, or more than was bought today."""
    units = units_of(signals, candidate.instrument, long_only=True)
    bought = [
        s
        for s in signals
        if s.instrument == candidate.instrument and s.side > 0 and s.session == candidate.session
    ]
    return units == 0 or units > len(bought)


def most_in_a_window(times: Sequence[int], window_ns: int) -> int:
    """Return the most events that any window (t - window, t] holds; times do not decrease."""
    return (
        max(
            (sum(t - window_ns < earlier <= t for earlier in times[: n + 1]))
            for n, t in enumerate(times)
        )
        if times
        else 0
    )


def least_distance(times: Sequence[int]) -> int | None:
    """Return the shortest time between two events that follow each other."""
    return min((b - a for a, b in pairwise(times)), default=None)
