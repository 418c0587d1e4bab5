"""Wall time that no step of the machine's clock touches.

The wall clock is read once, when the process begins; from then on the monotonic clock, time asleep
included, carries it on. It follows the slow corrections that a time service makes and none of its
steps: two moments are as far apart as they really were. What the wall clock says meanwhile is
``stepped_ns`` away; a restart takes it over.
"""

import time
from typing import Final

CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock that carries the time on, for ``time.clock_gettime_ns``."""


def _base_ns() -> int:
    """Return the wall clock less the other, read as close together as can be."""
    tries = []
    for _ in range(5):
        before = time.clock_gettime_ns(CLOCK)
        wall = time.time_ns()
        after = time.clock_gettime_ns(CLOCK)
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1]


BASE_NS: Final = _base_ns()
"""What is added to ``CLOCK``."""


def steady_ns() -> int:
    """Return nanoseconds since the Unix epoch, as the wall clock would show without steps."""
    return time.clock_gettime_ns(CLOCK) + BASE_NS


def stepped_ns() -> int:
    """Return how far the machine's wall clock has been set since the process began."""
    return time.time_ns() - steady_ns()
