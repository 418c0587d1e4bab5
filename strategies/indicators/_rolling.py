"""Sums, moments and extremes over a window, O(1) a sample, for the indicators to share.

A running sum that adds the newest value and subtracts the oldest keeps every rounding error for
ever, and the remains of one large value swamp the small ones after it. So a second sum is built
from zero beside it while the ring fills once, and takes its place each time the ring is full:
nothing older than two windows lives on.
"""

from typing import Final

import numpy as np
from numba import njit

SUM: Final = np.dtype([("total", "f8"), ("fresh", "f8")])
"""A sum over a ring: the running one, and the one since the ring began anew."""

MOMENTS: Final = np.dtype(
    [
        ("shift", "f8"),
        ("sum", "f8"),
        ("squares", "f8"),
        ("fresh_shift", "f8"),
        ("fresh_sum", "f8"),
        ("fresh_squares", "f8"),
        ("last", "f8"),
        ("share", "f8"),
        ("same", "i8"),
        ("next", "i8"),
    ]
)
"""Sums of the values and their squares less a shift, which is a value of the window or of the one
before it; ``share``: 1 / length; ``same``: how many values in a row equal their predecessor;
``next``: place in the ring."""

EXTREMES: Final = np.dtype(
    [
        ("high", "f8"),
        ("low", "f8"),
        ("block_high", "f8"),
        ("block_low", "f8"),
        ("next", "i8"),
        ("blocks", "i8"),
    ]
)
"""The window's extremes, those since the ring began anew, the place in the ring, and how often it
began."""


@njit(error_model="numpy", forceinline=True)
def sum_add_nb(s, ring, at, value):
    """Put a value in place of the oldest one, at index ``at`` of the ring array."""
    s["total"] += value - ring[at]
    s["fresh"] += value
    ring[at] = value


@njit(error_model="numpy", forceinline=True)
def sum_renew_nb(s):
    """Begin anew; call it each time the ring has filled, so that rounding errors end."""
    s["total"] = s["fresh"]
    s["fresh"] = 0.0


@njit(error_model="numpy", forceinline=True)
def moments_add_nb(m, ring, base, length, value):
    """Add a value; return whether the ring of ``length`` at ``base`` has just filled.

    Before it has filled once, the sums mean nothing.
    """
    at = m["next"]
    if at == 0:
        m["fresh_shift"] = value
    old = ring[base + at]
    ring[base + at] = value
    m["sum"] += value - old
    m["squares"] += (value - old) * ((value - m["shift"]) + (old - m["shift"]))
    fresh = value - m["fresh_shift"]
    m["fresh_sum"] += fresh
    m["fresh_squares"] += fresh * fresh
    m["same"] = (m["same"] + 1) * int(value == m["last"])
    m["last"] = value
    at += 1
    if at < length:
        m["next"] = at
        return False
    m["next"] = 0
    m["share"] = 1.0 / length
    m["shift"] = m["fresh_shift"]
    m["sum"] = m["fresh_sum"]
    m["squares"] = m["fresh_squares"]
    m["fresh_sum"] = 0.0
    m["fresh_squares"] = 0.0
    return True


@njit(error_model="numpy", forceinline=True)
def moments_variance_nb(m, length):
    """Return the variance (ddof 0): never negative, exactly 0 when all values are equal."""
    mean = m["sum"] * m["share"]
    variance = (m["squares"] - m["sum"] * mean) * m["share"]
    if variance <= 0.0 or m["same"] >= length - 1:
        return 0.0
    return variance


@njit(error_model="numpy", forceinline=True)
def moments_mean_nb(m):
    """Return the mean."""
    return m["shift"] + m["sum"] * m["share"]


@njit(error_model="numpy", forceinline=True)
def extremes_add_nb(e, ring, base, length, high, low):
    """Add a high and a low; return whether the window has just filled.

    The ring is ``2 * length`` long: highs, then lows. van Herk (1992) and Gil and Werman (1993):
    the window is the end of one block of ``length`` and the start of the next. Each time a block
    is full its values are replaced by the extremes from there to the block's end, so that an
    answer is two comparisons. O(1) amortised, without a branch that prices decide; O(length) once
    a block.
    """
    at = e["next"]
    if e["blocks"] == 0:
        _extremes_begin_nb(e)
    top = e["block_high"]
    bottom = e["block_low"]
    top = high if high > top else top
    bottom = low if low < bottom else bottom
    e["block_high"] = top
    e["block_low"] = bottom
    ring[base + at] = high
    ring[base + length + at] = low
    at += 1
    if at < length:
        e["next"] = at
        before_high = ring[base + at]
        before_low = ring[base + length + at]
        e["high"] = before_high if before_high > top else top
        e["low"] = before_low if before_low < bottom else bottom
        return False
    _extremes_begin_nb(e)
    e["high"] = top
    e["low"] = bottom
    _extremes_from_end_nb(ring, base, length)
    return True


@njit(error_model="numpy", forceinline=True)
def _extremes_begin_nb(e):
    e["next"] = 0
    e["blocks"] += 1
    e["block_high"] = -np.inf
    e["block_low"] = np.inf


@njit(error_model="numpy", forceinline=True)
def _extremes_from_end_nb(ring, base, length):
    highs = ring[base : base + length]
    lows = ring[base + length : base + 2 * length]
    top = highs[length - 1]
    bottom = lows[length - 1]
    for i in range(length - 2, -1, -1):
        top = highs[i] if highs[i] > top else top
        bottom = lows[i] if lows[i] < bottom else bottom
        highs[i] = top
        lows[i] = bottom
