"""Counts what a log's TICK frames hold, compiled: records by kind and by instrument."""

from typing import Final

import numpy as np
from numba import njit

_HEADER_BYTES: Final = 64
_TICK_BYTES: Final = 80
_INSTRUMENT_AT: Final = 72
_KIND_AT: Final = 76


@njit(error_model="numpy", cache=True, nogil=True)
def count_ticks_nb(kinds, instruments, wire, offsets, counts):  # type: ignore[no-untyped-def] # compiled
    """Count the ticks of some TICK frames; what they hold is not checked.

    Args:
        kinds: i8, shape (256,), counted up by kind.
        instruments: i8, shape (I,), counted up by instrument; others are left out.
        wire: u1, shape (bytes,): the file.
        offsets: i8, shape (N,): first byte of each TICK frame.
        counts: i8, shape (N,): records in each.
    """
    for i in range(len(offsets)):
        for j in range(counts[i]):
            at = offsets[i] + _HEADER_BYTES + j * _TICK_BYTES
            kinds[wire[at + _KIND_AT]] += 1
            instrument = np.int64(wire[at + _INSTRUMENT_AT])
            instrument |= np.int64(wire[at + _INSTRUMENT_AT + 1]) << 8
            instrument |= np.int64(wire[at + _INSTRUMENT_AT + 2]) << 16
            instrument |= np.int64(wire[at + _INSTRUMENT_AT + 3]) << 24
            if instrument < len(instruments):
                instruments[instrument] += 1
