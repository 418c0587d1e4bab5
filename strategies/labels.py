"""What followed each row of a series of prices: moves over a horizon, and their classes. Pure.

A move is from the last price known at one time to the last known at another, as a forecaster would
have it: nothing between two rows is guessed, and nothing beyond the rows is known.
"""

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def moves_bps(ts_ns: Integers, price: Floats, first_ns: Integers, last_ns: Integers) -> Floats:
    """Return the moves in bps between two times, each with the price of the last row until then.

    Args:
        ts_ns: Times of the rows of one instrument, not decreasing, shape (N,), N at least 1.
        price: Its price at each, shape (N,).
        first_ns: Where the moves begin, shape (M,).
        last_ns: Where they end, shape (M,).

    Returns:
        Shape (M,); NaN where a time lies outside the rows.
    """
    first = np.searchsorted(ts_ns, first_ns, side="right") - 1
    last = np.searchsorted(ts_ns, last_ns, side="right") - 1
    known = (first >= 0) & (last_ns <= ts_ns[-1])
    return np.where(known, 1e4 * (price[last] / price[np.maximum(first, 0)] - 1.0), np.nan)


def instrument_slices(instrument: npt.NDArray[np.uint32]) -> list[slice]:
    """Return where each instrument's rows lie, in rows that are sorted by instrument."""
    edges = np.flatnonzero(np.diff(instrument.astype(np.int64))) + 1
    bounds = [0, *edges.tolist(), len(instrument)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a]
