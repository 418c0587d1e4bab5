"""KDJ cross confirmed by MACD, both as Chinese terminals have them."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, kdj, macd):
    """Propose where K has crossed D and MACD's histogram is, or soon gets, on the same side.

    A cross up counts with D at most ``zone``, a cross down with D at least 100 - ``zone``; it waits
    ``patience`` samples for MACD and is used once. Strength: D's distance from 50 at the cross,
    1 at 0 or 100. Confidence: 0.9 where MACD agreed at once, less the longer it took, above 0.5.
    """
    k, d = kdj["k"], kdj["d"]
    before = s["above"]
    if k != d:
        s["above"] = 1 if k > d else -1
    above = s["above"]
    s["age"] += 1
    if before != 0 and above != before:
        in_zone = d <= p["zone"] if above > 0 else d >= 100.0 - p["zone"]
        s["waiting"] = above if in_zone else 0
        s["age"] = 0
        s["depth"] = min(1.0, abs(d - 50.0) / 50.0)
    side = s["waiting"]
    if side == 0 or s["age"] > p["patience"] or macd["histogram"] * side <= 0.0:
        return False
    s["waiting"] = 0
    out["side"] = side
    out["strength"] = s["depth"]
    out["confidence"] = 0.5 + 0.4 / (1.0 + s["age"])
    out["edge_bps"] = np.nan
    return True


SPEC = RuleSpec(
    name="kdj_macd",
    version="1",
    title="KDJ cross confirmed by MACD",
    params={
        "length": Param(9, 1, 100_000, "samples of KDJ's high-low window"),
        "k_smooth": Param(3, 1, 100_000, "smoothing of K"),
        "d_smooth": Param(3, 1, 100_000, "smoothing of D"),
        "fast": Param(12, 1, 100_000, "samples of MACD's fast average"),
        "slow": Param(26, 2, 100_000, "samples of MACD's slow average"),
        "signal": Param(9, 1, 100_000, "samples of MACD's signal line"),
        "zone": Param(50.0, 0.0, 100.0, "largest D of a buy's cross; 100 less it for a sell's"),
        "patience": Param(3, 0, 100_000, "samples that a cross waits for MACD"),
    },
    uses=lambda p: (
        Use("kdj", {k: p[k] for k in ("length", "k_smooth", "d_smooth")}),
        Use("macd_cn", {k: p[k] for k in ("fast", "slow", "signal")}),
    ),
    decide=decide_nb,
    state=(("depth", "f8"), ("above", "i8"), ("waiting", "i8"), ("age", "i8")),
)
