"""A rule in one file outside the package, as a user adds one: proposes on every marked trade."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out):  # type: ignore[no-untyped-def] # numba types it
    """Buy on a trade of the marked size, sell on one of a unit more."""
    excess = x["volume"] - p["mark"]
    if excess != 0.0 and excess != 1.0:
        return False
    out["side"] = 1 if excess == 0.0 else -1
    out["strength"] = 1.0
    out["confidence"] = 1.0
    out["edge_bps"] = np.nan
    return True


SPEC = RuleSpec(
    name="marked_trade",
    version="1",
    title="On a trade of a given size",
    params={"mark": Param(1_000_003.0, 1.0, 1e9, "size that marks a trade")},
    uses=lambda p: (),
    decide=decide_nb,
)
