"""Order-flow momentum: with the side that does most of the trading, if the book does not object."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, trades, book):
    """Propose where signed trade flow reaches ``entry`` and the book's flow is not against it.

    The next proposal on that side needs the flow to have been within ``rearm``, or beyond ``entry``
    on the other side. Strength: the flow's size, 1 where all volume was on one side. Confidence:
    0.5 without any flow of the book, towards 1 the more mean depths it adds up to. Edge:
    ``move_bps`` times the flow's size; NaN where that is 0.
    """
    flow = trades["normalised"]
    size = abs(flow)
    if size < p["entry"]:
        if size <= p["rearm"]:
            s["side"] = 0
        return False
    side = 1 if flow > 0.0 else -1
    agreement = book["per_depth"] * side
    if s["side"] == side or agreement < 0.0:
        return False
    s["side"] = side
    out["side"] = side
    out["strength"] = size
    out["confidence"] = 0.5 + 0.5 * agreement / (1.0 + agreement)
    out["edge_bps"] = p["move_bps"] * size if p["move_bps"] > 0.0 else np.nan
    return True


_MOVE = (
    "expected move in bps if all volume is on one side, 0 for no estimate; 5 is what the"
    " simulator's default crypto market moves within 20 s: measure it for a real market"
)

SPEC = RuleSpec(
    name="flow_momentum",
    version="1",
    title="With the order flow of trades and book",
    params={
        "length": Param(200, 1, 100_000, "samples of both flows"),
        "entry": Param(0.5, 0.01, 1.0, "signed share of volume, 0 to 1, at which it proposes"),
        "rearm": Param(0.25, 0.0, 1.0, "share within which it is ready for the next"),
        "move_bps": Param(5.0, 0.0, 1000.0, _MOVE),
    },
    uses=lambda p: (
        Use("trade_flow", {"length": p["length"]}),
        Use("order_flow_imbalance", {"length": p["length"]}),
    ),
    decide=decide_nb,
    state=(("side", "i8"),),
)
