"""Where a burst decoder's counters, streams and records stand in its one array of words."""

from enum import IntEnum
from typing import Final

import numpy as np
from numba import njit

from engine.core.records import BAR, TICK
from feeds.frame_check import FrameFault
from feeds.tick_check import TickFault


class Counter(IntEnum):
    """What a burst decoder counts; after these come the FrameFaults, then the TickFaults."""

    FRAMES = 0
    """Good frames, duplicates and skipped ones included."""
    BYTES = 1
    """Of good frames."""
    TICKS = 2
    """Delivered, GAP ticks not included."""
    BARS = 3
    DEFINITIONS = 4
    RAW_FRAMES = 5
    DEPTH_RECORDS = 6
    """Skipped: nothing reads them yet."""
    DUPLICATE_FRAMES = 7
    """Nothing in them was new."""
    DUPLICATE_RECORDS = 8
    GAPS = 9
    LOST_RECORDS = 10
    EPOCH_CHANGES = 11
    STALE_EPOCH_FRAMES = 12
    """Of the epoch before the stream's present one: late leftovers, dropped."""
    REFUSED_STREAM_FRAMES = 13
    """Of one gateway more than the decoder was made for, dropped."""
    GAPS_NOT_LISTED = 14
    """Beyond the bounded list's end; the GAP tick was delivered all the same."""


FRAME_FAULTS_AT: Final = len(Counter)
TICK_FAULTS_AT: Final = FRAME_FAULTS_AT + len(FrameFault)
COUNTERS: Final = TICK_FAULTS_AT + len(TickFault)

GATEWAY: Final = 0
EPOCH: Final = 1
PREVIOUS: Final = 2
NEXT: Final = 3
HOLD: Final = 4
STREAM_COLUMNS: Final = 5
"""Columns of a stream's row, i8: gateway + 1 (0 is free), epoch (-1: none yet), the epoch before
it (-1: none), the next number, whether decoding stops before a gap instead of opening it."""

GAPS_LISTED: Final = 64
"""Most gaps listed until they are taken."""
TICK_WORDS: Final = TICK.itemsize // 8
BAR_WORDS: Final = BAR.itemsize // 8

ORIGIN: Final = np.dtype(
    [
        ("epoch", "<u8"),
        ("seq", "<u8"),
        ("ts_intended", "<i8"),
        ("ts_send", "<i8"),
        ("gateway", "<u4"),
        ("reserved", "<u4"),
    ],
    align=True,
)
"""40 bytes: where a decoded record came from. A GAP tick carries the first missing number."""
ORIGIN_WORDS: Final = ORIGIN.itemsize // 8


@njit(error_model="numpy", nogil=True, forceinline=True)
def places_nb(capacity, gateways):  # type: ignore[no-untyped-def] # compiled
    """Return where the parts of a decoder's state begin, in words, and where the last one ends.

    The state is one array of i8, because numba's dispatch costs 60 to 120 ns for each array it
    is given: capacity, gateways, counters, gaps, streams, origins, ticks, bars.
    """
    gaps = 2 + COUNTERS
    streams = gaps + (GAPS_LISTED + 1) * 4
    origins = streams + gateways * STREAM_COLUMNS
    ticks = origins + capacity * ORIGIN_WORDS
    bars = ticks + capacity * TICK_WORDS
    return 2, gaps, streams, origins, ticks, bars, bars + capacity * BAR_WORDS
