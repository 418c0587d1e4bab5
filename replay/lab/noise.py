"""How late this machine wakes a process that only sleeps: ``python -m replay.lab.noise``.

It shares nothing with the engine but the machine, so what it measures is in every other figure of
the run, and is no fault of theirs.
"""

import select
import sys
import time
from array import array
from typing import Final

import numpy as np

from latency.steady import CLOCK
from replay.lab.talk import LAB_BASE_NS, listen, say, sleep_exactly

PERIOD_NS: Final = 1_000_000
MAX_NOTES: Final = 4_000_000
"""A bit more than an hour."""


def measure() -> "array[int]":
    """Wake every millisecond until a message comes; return each due time and lateness, ns.

    The schedule is fixed: a wake that was missed is late too.
    """
    notes: array[int] = array("q")
    read, clock, note = time.clock_gettime_ns, CLOCK, notes.append
    due = read(clock) + PERIOD_NS
    while len(notes) < 2 * MAX_NOTES:
        left = due - read(clock)
        if left > 0:
            time.sleep(left / 1e9)
        note(due)
        note(read(clock) - due)
        due += PERIOD_NS
        if not due // PERIOD_NS % 64 and select.select([sys.stdin], [], [], 0)[0]:
            break
    return notes


def main() -> None:
    """Be the process: measure until told where to write."""
    sleep_exactly()
    say("measuring")
    notes = np.array(measure(), np.int64).reshape(-1, 2)
    wish = listen()
    np.savez(wish["out"], due_ns=notes[:, 0] + LAB_BASE_NS, late_ns=notes[:, 1])
    say("measured")


if __name__ == "__main__":
    main()
