"""Sorted price levels of one book, compiled: changed, cut at a bound, and their top read off.

Self-contained, like every file with a cached kernel; a test holds the repeated flags to
``engine.core.records``. A side is two rows of numbers, keys and sizes, keys ascending and the best
one last, so that a change near the best moves little. The key of a bid is its price, that of an ask
its price negated: both sides are handled alike.
"""

from typing import Final

import numpy as np
from numba import njit

BIDS: Final = 0
ASKS: Final = 1
DROPPED: Final = 2
COUNTS: Final = 3
"""Length of ``counts``: levels of each side, and levels given up because a side was full."""
CHANGED: Final = 1 << 16
"""Bit of a top that is not as it was; below it stand TickFlags."""
_CROSSED: Final = 1
_LOCKED: Final = 2
_ONE_SIDED: Final = 4
_UNCERTAIN: Final = 2048


@njit(error_model="numpy", nogil=True, forceinline=True)
def _find_nb(keys, count, key):  # type: ignore[no-untyped-def] # compiled
    """Return the first place whose key is not below ``key``."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(error_model="numpy", nogil=True, forceinline=True)
def _insert_full_nb(keys, sizes, cover, side, at, key, size):  # type: ignore[no-untyped-def] # compiled
    """Put a level into a full side: the farthest one goes, and what lies beyond is not known."""
    if at > 0:
        for j in range(at - 1):
            keys[j] = keys[j + 1]
            sizes[j] = sizes[j + 1]
        keys[at - 1] = key
        sizes[at - 1] = size
    cover[side] = max(cover[side], keys[0])


@njit(error_model="numpy", nogil=True, forceinline=True)
def _set_level_nb(keys, sizes, counts, cover, side, key, size):  # type: ignore[no-untyped-def] # compiled
    """Set the size at a key; 0 removes the level, and removing one that is not there is normal."""
    count = counts[side]
    at = _find_nb(keys, count, key)
    if at < count and keys[at] == key:
        if size > 0.0:
            sizes[at] = size
            return
        for j in range(at, count - 1):
            keys[j] = keys[j + 1]
            sizes[j] = sizes[j + 1]
        counts[side] = count - 1
    elif size > 0.0 and count == len(keys):
        _insert_full_nb(keys, sizes, cover, side, at, key, size)
        counts[DROPPED] += 1
    elif size > 0.0:
        for j in range(count, at, -1):
            keys[j] = keys[j - 1]
            sizes[j] = sizes[j - 1]
        keys[at] = key
        sizes[at] = size
        counts[side] = count + 1


@njit(error_model="numpy", nogil=True, forceinline=True)
def _put_nb(top, row, level, value):  # type: ignore[no-untyped-def] # compiled
    """Write one number of the top; tell whether it is another than before (NaN equals NaN)."""
    old = top[row, level]
    top[row, level] = value
    return old != value and not (np.isnan(old) and np.isnan(value))


@njit(error_model="numpy", nogil=True, forceinline=True)
def _read_top_nb(levels, counts, cover, top):  # type: ignore[no-untyped-def] # compiled
    changed = False
    uncertain = False
    for side in range(2):
        sign = 1.0 - 2.0 * side
        count = counts[side]
        for level in range(top.shape[1]):
            at = count - 1 - level
            if at >= 0:
                key = levels[side, 0, at]
                changed |= _put_nb(top, side, level, sign * key)
                changed |= _put_nb(top, side + 2, level, levels[side, 1, at])
                uncertain |= key < cover[side]
            else:
                changed |= _put_nb(top, side, level, np.nan)
                changed |= _put_nb(top, side + 2, level, 0.0)
                uncertain |= cover[side] > -np.inf
    flags = _UNCERTAIN if uncertain else 0
    bid = top[0, 0]
    ask = top[1, 0]
    if counts[0] > 0 and counts[1] > 0:
        if bid >= ask:
            flags |= _CROSSED if bid > ask else _LOCKED
    elif counts[0] > 0 or counts[1] > 0:
        flags |= _ONE_SIDED
    return flags | CHANGED if changed else flags


@njit(error_model="numpy", cache=True, nogil=True)
def apply_nb(levels, counts, cover, bids, asks, top):  # type: ignore[no-untyped-def] # compiled
    """Set the sizes at some prices and read the top.

    Args:
        levels: f8, shape (2, 2, C): for bids and asks their keys and sizes; C is the bound.
        counts: i8, shape (COUNTS,), updated.
        cover: f8, shape (2,): keys below it are not known whole; -inf if all of the side is.
        bids: f8, shape (N, 2): price and size, in any order; of one price the last counts.
        asks: f8, shape (M, 2), alike.
        top: f8, shape (4, L), written: prices of bids and asks, sizes of bids and asks, best first;
            unused levels are NaN with size 0.

    Returns:
        TickFlags of the top, and CHANGED if it is not as it was.
    """
    for i in range(len(bids)):
        _set_level_nb(levels[0, 0], levels[0, 1], counts, cover, BIDS, bids[i, 0], bids[i, 1])
    for i in range(len(asks)):
        _set_level_nb(levels[1, 0], levels[1, 1], counts, cover, ASKS, -asks[i, 0], asks[i, 1])
    return _read_top_nb(levels, counts, cover, top)


@njit(error_model="numpy", cache=True, nogil=True)
def cut_nb(levels, counts, cover, side, price, top):  # type: ignore[no-untyped-def] # compiled
    """Remove one side's levels from the best up to and including a price, and read the top.

    Args:
        levels: As for ``apply_nb``.
        counts: As for ``apply_nb``.
        cover: As for ``apply_nb``.
        side: BIDS or ASKS.
        price: Where to stop; NaN or infinite removes the whole side.
        top: As for ``apply_nb``.

    Returns:
        As ``apply_nb``.
    """
    if np.isfinite(price):
        key = price if side == BIDS else -price
        counts[side] = _find_nb(levels[side, 0], counts[side], key)
    else:
        counts[side] = 0
    return _read_top_nb(levels, counts, cover, top)
