"""What followed each row of a market, and which rows a forecast can be learned from. Pure.

An instrument's rows lie together, in time order. What is looked up stays within these rows, so
that rows of one span know nothing of another.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.demo_tcn.recipe import BAND_BPS, HORIZON_S, NS, WINDOW
from strategies.labels import instrument_slices, moves_bps

Floats32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

UNKNOWN: Final = -1
"""The class of a move that is not known."""
HORIZON_NS: Final = HORIZON_S * NS
_MINUTE_NS: Final = 60 * NS


class Rows(NamedTuple):
    """What a kernel pushed, an instrument after the other, each in time order; N rows."""

    ts_ns: Integers
    """Close of the bar, shape (N,)."""
    instrument: npt.NDArray[np.uint32]
    """Shape (N,)."""
    features: Floats32
    """Shape (N, F)."""
    mid: Floats
    """Of the book at the close, shape (N,)."""
    run: Integers
    """Rows of the instrument that end here without a break, shape (N,)."""


class Examples(NamedTuple):
    """Rows with what followed them; N rows, of which M can be forecast from."""

    rows: Rows
    move_bps: Floats
    """The mid's move over the horizon that begins at each row, NaN if unknown, shape (N,)."""
    before_bps: Floats
    """That over the horizon that ends at each row, NaN if unknown, shape (N,)."""
    classes: Integers
    """Of ``move_bps``: 0 down, 1 flat, 2 up, or UNKNOWN; shape (N,)."""
    ends: Integers
    """Places of the rows that end a whole window and have both moves, ascending, shape (M,)."""

    def windows(self, ends: Integers) -> Floats32:
        """Return the windows that end at some places, shape (K, WINDOW, F)."""
        at = ends[:, None] + np.arange(1 - WINDOW, 1)
        return np.ascontiguousarray(self.rows.features[at])

    def minutes(self) -> Integers:
        """Return in which minute each of ``ends`` lies, shape (M,)."""
        return np.asarray(self.rows.ts_ns[self.ends] // _MINUTE_NS)


def choose(rows: Rows) -> Examples:
    """Find what followed each row, and which can be forecast from."""
    move_bps, before_bps = np.full((2, len(rows.ts_ns)), np.nan)
    for part in instruments_of(rows):
        ts_ns, mid = rows.ts_ns[part], rows.mid[part]
        move_bps[part] = moves_bps(ts_ns, mid, ts_ns, ts_ns + HORIZON_NS)
        before_bps[part] = moves_bps(ts_ns, mid, ts_ns - HORIZON_NS, ts_ns)
    classes = classify(move_bps)
    good = (rows.run >= WINDOW) & (classes != UNKNOWN) & np.isfinite(before_bps)
    return Examples(rows, move_bps, before_bps, classes, np.flatnonzero(good))


def classify(move_bps: Floats) -> Integers:
    """Return 0 down, 1 flat, 2 up for moves; UNKNOWN for NaN."""
    classes = 1 + (move_bps > BAND_BPS).astype(np.int64) - (move_bps < -BAND_BPS)
    return np.where(np.isnan(move_bps), UNKNOWN, classes)


def mean_moves(examples: Examples) -> tuple[float, ...]:
    """Return the mean move of each class among ``ends``, bps."""
    classes, moves = examples.classes[examples.ends], examples.move_bps[examples.ends]
    return tuple(float(moves[classes == one].mean()) for one in range(3))


def instruments_of(rows: Rows) -> list[slice]:
    """Return where each instrument's rows lie."""
    return instrument_slices(rows.instrument)
