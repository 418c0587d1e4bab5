"""MACD cross: buy when the line crosses above its signal, sell when it crosses below."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, macd):
    """Propose where the histogram changes sign and is large enough against the price."""
    before = s["histogram"]
    now = macd["histogram"]
    s["histogram"] = now
    first = s["calls"] == 0
    s["calls"] += 1
    size_bps = abs(now) / x["close"] * 1e4
    crossed = (before < 0.0 and now > 0.0) or (before > 0.0 and now < 0.0)
    if first or not crossed or size_bps < p["min_histogram_bps"]:
        return False
    out["side"] = 1 if now > 0.0 else -1
    out["strength"] = min(1.0, size_bps)
    out["confidence"] = 0.5 + 0.5 * size_bps / (1.0 + size_bps)
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
    state=(("histogram", "f8"),),
)
