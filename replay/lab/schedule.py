"""When each frame of a replayed log is to be sent; pure.

A frame carries the ticks that are due in one slot of time and is due with the last of them, so
nothing is sent before its time. What is measured later begins at these times, whenever a frame was
really sent.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import (
    ALL_INSTRUMENTS,
    MAX_FRAME_RECORDS,
    TickKind,
    Ticks,
    empty_ticks,
)

Int64s = npt.NDArray[np.int64]
HEARTBEAT_NS: Final = 100_000_000
"""A heartbeat is sent when nothing else was for so long, as the gateway does."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a log is played.

    Attributes:
        speed: Recorded seconds a second.
        length_ns: The play ends after so long.
        slot_ns: Ticks due within one slot share a frame; 0: only those due at once.
        longest_gap_ns: Longer waits, after scaling, are cut to this.
        heartbeat_ns: Longest time without a frame.
    """

    speed: float
    length_ns: int
    slot_ns: int = 500_000
    longest_gap_ns: int = 5_000_000_000
    heartbeat_ns: int = HEARTBEAT_NS


class Schedule(NamedTuple):
    """What is sent, frame after frame.

    Attributes:
        ticks: TICK, heartbeats among them, with the times of the log, shape (N,).
        firsts: Row of each frame's first tick, shape (K,).
        due_ns: When each frame is due, from the start, ascending, shape (K,).
    """

    ticks: Ticks
    firsts: Int64s
    due_ns: Int64s

    @property
    def counts(self) -> Int64s:
        """Ticks in each frame, shape (K,)."""
        return np.diff(self.firsts, append=len(self.ticks))


def due_times(ts_recv: Int64s, pace: Pace) -> Int64s:
    """Return when each tick is due, ns from the start, shape (N,).

    A tick received before the one that precedes it is due with that one.
    """
    waits = np.maximum(np.diff(ts_recv, prepend=ts_recv[:1]), 0) / pace.speed
    due: Int64s = np.cumsum(np.minimum(waits, pace.longest_gap_ns)).astype(np.int64)
    return due


def make_schedule(ticks: Ticks, pace: Pace) -> Schedule:
    """Lay out frames over ticks, and heartbeats where nothing else is due.

    Args:
        ticks: TICK in the order of the log, without heartbeats and gaps, shape (N,), N >= 1.
        pace: How.
    """
    due = due_times(np.ascontiguousarray(ticks["ts_recv"]), pace)
    stop = int(np.searchsorted(due, pace.length_ns, side="right"))
    ticks, due = ticks[:stop], due[:stop]
    firsts, frame_due = _frames(due, pace.slot_ns)
    return _with_heartbeats(Schedule(ticks, firsts, frame_due), pace)


def stamped(schedule: Schedule, start_ns: int) -> Ticks:
    """Return the ticks moved to the clock of ``start_ns``, as a gateway moves them.

    A tick is received when its frame is due; how long it had been on its way stays.
    """
    ticks = schedule.ticks.copy()
    received = np.repeat(schedule.due_ns + start_ns, schedule.counts)
    ticks["ts_event"] += received - ticks["ts_recv"]
    ticks["ts_recv"] = received
    return ticks


def _frames(due: Int64s, slot_ns: int) -> tuple[Int64s, Int64s]:
    """Return each frame's first tick and when it is due."""
    slots = due // slot_ns if slot_ns else due
    opens = np.concatenate(([True], np.diff(slots) != 0))
    rows = np.arange(len(due))
    place = rows - np.maximum.accumulate(np.where(opens, rows, 0))
    firsts = np.flatnonzero(place % MAX_FRAME_RECORDS == 0)
    last_of_slot = np.searchsorted(slots, slots[firsts], side="right") - 1
    return firsts, due[last_of_slot]


def _with_heartbeats(schedule: Schedule, pace: Pace) -> Schedule:
    ticks, firsts, due = schedule
    missing = np.maximum(np.diff(due) - 1, 0) // pace.heartbeat_ns
    if not missing.any():
        return schedule
    before = np.repeat(np.arange(len(missing)), missing)
    turn = np.arange(len(before)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
    beat_due = due[before] + turn * pace.heartbeat_ns
    at = firsts[before + 1]
    beats = _heartbeats(ticks, at, turn * pace.heartbeat_ns, pace.speed)
    moved = firsts + np.searchsorted(at, firsts, side="right")
    beat_firsts = at + np.arange(len(at))
    order = np.argsort(np.concatenate((moved, beat_firsts)), kind="stable")
    return Schedule(
        np.insert(ticks, at, beats),
        np.concatenate((moved, beat_firsts))[order],
        np.concatenate((due, beat_due))[order],
    )


def _heartbeats(ticks: Ticks, at: Int64s, since_ns: Int64s, speed: float) -> Ticks:
    """Make heartbeats that stand before rows ``at``, so long after the tick before them."""
    last, following = ticks[at - 1], ticks[at]
    beats = empty_ticks(len(at))
    beats["kind"] = TickKind.HEARTBEAT
    beats["instrument"] = ALL_INSTRUMENTS
    passed = last["ts_recv"] + (since_ns * speed).astype(np.int64)
    beats["ts_recv"] = np.minimum(passed, np.maximum(following["ts_recv"], last["ts_recv"]))
    beats["ts_event"] = beats["ts_recv"] - (last["ts_recv"] - last["ts_event"])
    return beats
