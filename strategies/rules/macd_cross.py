"""MACD cross: buy when the line crosses above its signal, sell when it crosses below."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, macd):
    """Propose where the histogram has come out on the other side.

    It counts as being on a side once it is further than ``min_histogram_bps`` of the price from
    zero, so that a flat market does not cross all the time. Strength: the gap between line and
    signal against the sum of their sizes, 1 where they lie on two sides of zero. Confidence: 0.75
    where the line is on the trade's side of zero, else 0.5.
    """
    histogram = macd["histogram"]
    if abs(histogram) <= p["min_histogram_bps"] * 1e-4 * x["close"]:
        return False
    side = 1 if histogram > 0.0 else -1
    before = s["side"]
    s["side"] = side
    if before == 0 or before == side:
        return False
    line, signal = macd["line"], macd["signal"]
    out["side"] = side
    out["strength"] = abs(histogram) / (abs(line) + abs(signal))
    out["confidence"] = 0.75 if line * side > 0.0 else 0.5
    out["edge_bps"] = np.nan
    return True


SPEC = RuleSpec(
    name="macd_cross",
    version="1",
    title="MACD line crossing its signal line",
    params={
        "fast": Param(12, 1, 100_000, "samples of the fast average"),
        "slow": Param(26, 2, 100_000, "samples of the slow average"),
        "signal": Param(9, 1, 100_000, "samples of the signal line"),
        "min_histogram_bps": Param(0.0, 0.0, 1e4, "smallest histogram, in bps of the price"),
    },
    uses=lambda p: (Use("macd", {k: p[k] for k in ("fast", "slow", "signal")}),),
    decide=decide_nb,
    state=(("side", "i8"),),
)
