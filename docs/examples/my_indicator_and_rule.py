"""An indicator and a rule of one's own, in one file outside the package.

Name the file in the configuration and use what it defines like anything built in:

    plugins = ["docs/examples/my_indicator_and_rule.py"]

    [[bars]]
    name = "1m"
    interval = "1m"

    [[strategies]]
    name = "clean-trend"
    rule = "clean_trend"
    on = "1m"
    params = { length = 20, entry = 0.6 }
"""

import numpy as np
from numba import njit

from strategies.spec import IndicatorSpec, Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(length): the ring holds the last ``length`` closes, ``next`` the oldest."""
    length = p["length"]
    at = s["next"]
    close = x["close"]
    if s["count"] == length:
        oldest = ring[base + at]
        path = 0.0
        before = oldest
        for step in range(1, length):
            here = ring[base + (at + step) % length]
            path += abs(here - before)
            before = here
        path += abs(close - before)
        s["move"] = close - oldest
        s["value"] = abs(s["move"]) / path if path > 0.0 else 0.0
        s["ready"] = 1
    else:
        s["count"] += 1
    ring[base + at] = close
    s["next"] = (at + 1) % length


EFFICIENCY = IndicatorSpec(
    name="efficiency_ratio",
    title="Kaufman's efficiency ratio: 1 for a straight move, near 0 for noise",
    params={"length": Param(10, 2, 10_000, "changes that are looked at")},
    outputs=("value", "move"),
    state=(("count", "i8"), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]) + 1,
    formula="move = C_t - C_{t-n}; value = |move| / sum_n |C_i - C_{i-1}|, 0 where that is 0",
    reference="Kaufman (1995), Smarter Trading",
)


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, efficiency):
    """Propose the move's direction when the ratio rises to ``entry``, once until it falls below.

    Strength: the ratio. Confidence: 0.5, since nothing else speaks for it. Edge: no estimate.
    """
    was_above = s["above"]
    s["above"] = 1 if efficiency["value"] >= p["entry"] else 0
    if was_above or not s["above"]:
        return False
    out["side"] = 1 if efficiency["move"] > 0.0 else -1
    out["strength"] = min(1.0, efficiency["value"])
    out["confidence"] = 0.5
    out["edge_bps"] = np.nan
    return True


CLEAN_TREND = RuleSpec(
    name="clean_trend",
    version="1",
    title="A move that has become straight enough",
    params={
        "length": Param(10, 2, 10_000, "changes that are looked at"),
        "entry": Param(0.5, 0.01, 1.0, "efficiency ratio at which it proposes"),
    },
    uses=lambda p: (Use("efficiency_ratio", {"length": p["length"]}),),
    decide=decide_nb,
    state=(("above", "i8"),),
)
