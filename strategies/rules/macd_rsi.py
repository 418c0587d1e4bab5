"""MACD cross that RSI does not contradict, kept so plain that any engine can run the same logic.

On every sample on which both indicators are ready, with ``before`` the histogram of the previous
such sample (none before the first):

- buy where ``before <= 0 < histogram`` and ``rsi < overbought``;
- sell where ``before >= 0 > histogram`` and ``rsi > oversold``.
"""

import numpy as np
from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, macd, rsi):
    """Propose as the module says.

    Strength: the gap between MACD line and signal against the sum of their sizes. Confidence: from
    0.5 with RSI at the bound that would forbid the trade to 1 with RSI at the other end.
    """
    before = s["histogram"]
    now = macd["histogram"]
    s["histogram"] = now
    first = s["calls"] == 0
    s["calls"] += 1
    if first:
        return False
    level = rsi["value"]
    low, high = p["oversold"], p["overbought"]
    if before <= 0.0 < now and level < high:
        out["side"] = 1
        out["confidence"] = 0.5 + 0.5 * (high - level) / high
    elif before >= 0.0 > now and level > low:
        out["side"] = -1
        out["confidence"] = 0.5 + 0.5 * (level - low) / (100.0 - low)
    else:
        return False
    out["strength"] = abs(now) / (abs(macd["line"]) + abs(macd["signal"]))
    out["edge_bps"] = np.nan
    return True


SPEC = RuleSpec(
    name="macd_rsi",
    version="1",
    title="MACD cross confirmed by RSI",
    params={
        "fast": Param(12, 1, 100_000, "samples of the fast average"),
        "slow": Param(26, 2, 100_000, "samples of the slow average"),
        "signal": Param(9, 1, 100_000, "samples of the signal line"),
        "rsi_length": Param(14, 2, 100_000, "samples of RSI's smoothing"),
        "oversold": Param(30.0, 0.0, 99.0, "no sell while RSI is at or below this"),
        "overbought": Param(70.0, 1.0, 100.0, "no buy while RSI is at or above this"),
    },
    uses=lambda p: (
        Use("macd", {k: p[k] for k in ("fast", "slow", "signal")}),
        Use("rsi", {"length": p["rsi_length"]}),
    ),
    decide=decide_nb,
    state=(("histogram", "f8"),),
)
