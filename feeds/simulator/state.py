"""The simulated market's state and constants, one row an instrument.

``ROW`` and ``MARKET`` are the whole state: together with the random generator's they decide every
byte that follows.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROW: Final = np.dtype(
    [
        ("base", "<f8"),
        ("buy_excess", "<f8"),
        ("sell_excess", "<f8"),
        ("mid", "<f8"),
        ("t", "<f8"),
        ("regime_end", "<f8"),
        ("pressure", "<f8"),
        ("flow", "<f8"),
        ("activity", "<f8"),
        ("ticks_per_unit", "<f8"),
        ("lots_per_unit", "<f8"),
        ("lot_step", "<f8"),
        ("lot_min", "<f8"),
        ("size_mean", "<f8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("bid_size", "<f8"),
        ("ask_size", "<f8"),
        ("last", "<f8"),
        ("phase", "<f8"),
        ("limit_up", "<f8"),
        ("limit_down", "<f8"),
        ("regime", "<i8"),
        ("last_side", "<i8"),
    ],
    align=True,
)
"""``base``: trades a second of no parent. ``buy_excess``/``sell_excess``: Hawkes intensity above
it, trades a second, at the market's ``t_ref``. ``mid``: the efficient price. ``t``: ns since the
start, when the row was last brought forward. ``pressure``: in [-0.9, 0.9], tilts base arrivals to
buys. ``flow``/``activity``: decayed counts of signed and of all trades. ``phase``: ns inside the
snapshot cycle. Sizes are multiples of ``lot_step / lots_per_unit``, both whole numbers. Limits are
prices; infinite and 0 where there are none."""

MARKET: Final = np.dtype(
    [
        ("t", "<f8"),
        ("t_ref", "<f8"),
        ("base", "<f8"),
        ("excess", "<f8"),
        ("beta", "<f8"),
        ("jump_self", "<f8"),
        ("jump_cross", "<f8"),
        ("quotes_per_trade", "<f8"),
        ("sigma", "<f8"),
        ("effect", "<f8"),
        ("horizon_ns", "<f8"),
        ("regime_hold_ns", "<f8"),
        ("spread_frac", "<f8"),
        ("day_ns", "<f8"),
        ("start_ns", "<i8"),
        ("delay_ns", "<i8"),
        ("cycle", "<i8"),
        ("slot", "<i8"),
    ],
    align=True,
)
"""One record. ``t``: ns since the start of the last event; ``excess``: the rows' excess summed, at
``t_ref``. ``beta``: decay of the excess, 1/s; ``jump_*``: what a trade adds to its own and to the
other side. ``sigma``: calm volatility, fraction a square-root second. ``effect``: fraction a
second at a signed flow share of 1. ``day_ns``: market midnight, ns since the start;
``cycle``/``slot``: the next snapshot (snapshot kernel only)."""

REGIME_NAMES: Final = ("calm", "rising", "falling", "turbulent")
REGIMES: Final[Array] = np.array(
    [[1.0, 0.0], [1.4, 0.05], [1.4, -0.05], [2.5, 0.0]], dtype=np.float64
)
"""A row a regime: volatility as a multiple of calm; drift as a multiple of calm volatility a
second. Shape (4, 2)."""
TRANSITIONS: Final[Array] = np.array(
    [[0.0, 0.4, 0.8, 1.0], [0.7, 0.7, 0.8, 1.0], [0.7, 0.8, 0.8, 1.0], [0.6, 0.8, 1.0, 1.0]],
    dtype=np.float64,
)
"""Cumulative probabilities of the next regime, shape (4, 4); none follows itself."""

REGIME_HOLD_NS: Final = 120e9
"""Mean time in a regime."""
QUOTES_PER_TRADE: Final = 2.0
"""Quote changes of their own for each trade; a trade is followed by one more."""
SELF_SHARE: Final = 0.7
"""Part of the triggered trades on the side of their parent."""
SECONDS_PER_YEAR: Final = 365.25 * 86_400


def stationary_sides(rows: Array, branching: float) -> None:
    """Start the Hawkes excess at its stationary mean, in place, so that the rate holds at once."""
    rows["buy_excess"] = rows["sell_excess"] = rows["base"] * branching / (1 - branching) / 2


def activity_weights(count: int) -> Array:
    """Return each instrument's share of all activity, falling with the rank to the power 0.7."""
    weights = (1.0 + np.arange(count)) ** -0.7
    return np.asarray(weights / weights.sum(), dtype=np.float64)
