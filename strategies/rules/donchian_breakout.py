"""Donchian breakout: the close leaves the channel of the samples before it."""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, channel):
    """Propose the breakout's direction at its first close beyond the previous sample's channel.

    The next proposal that way needs a close back at the channel's middle or a breakout the other
    way. Strength: how far beyond the channel, 1 at its width or more. Confidence: 0.5 plus half of
    where in its own range the sample closed, 1 at its extreme; a tick has no range: 0.5.
    """
    close = x["close"]
    upper, lower = s["upper"], s["lower"]
    first = s["calls"] == 0
    s["calls"] += 1
    s["upper"] = channel["upper"]
    s["lower"] = channel["lower"]
    if first:
        return False
    if lower <= close <= upper:
        if s["side"] * (close - 0.5 * (upper + lower)) <= 0.0:
            s["side"] = 0
        return False
    side = 1 if close > upper else -1
    if s["side"] == side:
        return False
    s["side"] = side
    beyond = close - upper if side > 0 else lower - close
    span = x["high"] - x["low"]
    inside = close - x["low"] if side > 0 else x["high"] - close
    out["side"] = side
    out["strength"] = min(1.0, beyond / (upper - lower)) if upper > lower else 1.0
    out["confidence"] = 0.5 + 0.5 * inside / span if span > 0.0 else 0.5
    out["edge_bps"] = np.nan
    return True


SPEC = RuleSpec(
    name="donchian_breakout",
    version="1",
    title="Close beyond the Donchian channel before it",
    params={"length": Param(20, 1, 100_000, "samples of the channel")},
    uses=lambda p: (Use("donchian", {"length": p["length"]}),),
    decide=decide_nb,
    state=(("upper", "f8"), ("lower", "f8"), ("side", "i8")),
)
