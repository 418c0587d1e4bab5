"""What followed each feature row, and what lies between: labels with a stated horizon. Pure."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.export.feature_spec import Horizon
from strategies.feature_matrix import FeatureMatrix
from strategies.labels import Floats, Integers, instrument_slices, moves_bps

UNKNOWN: Final = -128
"""The class of a move that is not known."""
NEVER_NS: Final = np.iinfo(np.int64).min
"""The time of a label that is not known."""


class Labels(NamedTuple):
    """By row of a matrix, shape (N,) each."""

    move_bps: Floats
    """The price's move from the row to the horizon, NaN if the rows end before it."""
    sign: npt.NDArray[np.int8]
    """-1 below minus the band, 1 above the band, 0 within, UNKNOWN."""
    until_ns: Integers
    """When the label was known: where the horizon ends, NEVER_NS if it is not known."""
    crosses_break: npt.NDArray[np.bool_]
    """Whether rows are missing on the way, or where the horizon ends: records were lost, or a
    feature was not ready."""
    crosses_session: npt.NDArray[np.bool_]
    """Whether the horizon ends on another trading day, or after the last row of this one."""

    def usable(self, *, across_days: bool = False) -> npt.NDArray[np.bool_]:
        """Return which rows have a label that is known with no break before it, shape (N,).

        Args:
            across_days: Whether it may lie on another trading day.
        """
        whole: npt.NDArray[np.bool_] = (self.sign != UNKNOWN) & ~self.crosses_break
        return whole if across_days else whole & ~self.crosses_session


def make_labels(matrix: FeatureMatrix, price: Floats, horizon: Horizon, band_bps: float) -> Labels:
    """Look up what followed each row, instrument by instrument.

    Args:
        matrix: The rows.
        price: Whose moves are meant, shape (N,).
        horizon: How far ahead.
        band_bps: From which size on a move has a sign.
    """
    count = len(price)
    made = Labels(
        np.full(count, np.nan),
        np.full(count, UNKNOWN, np.int8),
        np.full(count, NEVER_NS, np.int64),
        np.zeros(count, np.bool_),
        np.zeros(count, np.bool_),
    )
    order = np.argsort(matrix.instrument, kind="stable")
    for part in instrument_slices(matrix.instrument[order]):
        _label_one(made, matrix, price, order[part], horizon)
    known = ~np.isnan(made.move_bps)
    sign = (made.move_bps > band_bps).astype(np.int8) - (made.move_bps < -band_bps)
    made.sign[known] = sign[known]
    return made


def _label_one(
    made: Labels, matrix: FeatureMatrix, price: Floats, own: Integers, horizon: Horizon
) -> None:
    ts_ns = np.maximum.accumulate(matrix.ts_event[own])
    at = np.arange(len(own))
    if horizon.rows:
        last = at + horizon.rows
        inside = last < len(own)
        last = np.minimum(last, len(own) - 1)
        until_ns = ts_ns[last]
        move = np.where(inside, 1e4 * (price[own][last] / price[own] - 1.0), np.nan)
    else:
        until_ns = ts_ns + horizon.ns
        last = np.searchsorted(ts_ns, until_ns, side="right") - 1
        move = moves_bps(ts_ns, price[own], ts_ns, until_ns)
    after = np.minimum(last + (until_ns > ts_ns[last]), len(own) - 1)
    breaks, session = np.cumsum(matrix.run[own] == 1), matrix.session[own]
    made.move_bps[own] = move
    made.until_ns[own] = np.where(np.isnan(move), NEVER_NS, until_ns)
    made.crosses_break[own] = breaks[after] != breaks
    made.crosses_session[own] = session[after] != session
