"""Bollinger reversion: the close was beyond a band and has come back inside; on to the middle."""

from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, bands):
    """Propose the way to the middle, on the first close inside after one or more beyond a band.

    Strength: how far beyond the band the furthest of them was, 1 at ``width`` deviations or more.
    Confidence: from 0.5 at the band to 1 at the middle: how far it has come back. Edge: the
    distance from the close to the middle; nothing is proposed from the middle's other side.
    """
    close = x["close"]
    width, sd = p["width"], bands["sd"]
    away = close - bands["middle"]
    if sd > 0.0 and abs(away) > width * sd:
        side = -1 if away > 0.0 else 1
        if s["side"] != side:
            s["side"] = side
            s["beyond"] = 0.0
        s["beyond"] = max(s["beyond"], abs(away) / sd - width)
        return False
    side = s["side"]
    s["side"] = 0
    if sd == 0.0 or side * away >= 0.0:
        return False
    out["side"] = side
    out["strength"] = min(1.0, s["beyond"] / width)
    out["confidence"] = 1.0 - 0.5 * abs(away) / (width * sd)
    out["edge_bps"] = abs(away) / close * 1e4
    return True


SPEC = RuleSpec(
    name="bollinger_reversion",
    version="1",
    title="Back inside the Bollinger bands, on to the middle",
    params={
        "length": Param(20, 2, 100_000, "samples of mean and deviation"),
        "width": Param(2.0, 0.1, 100.0, "standard deviations between middle and band"),
    },
    uses=lambda p: (Use("bollinger", {k: p[k] for k in ("length", "width")}),),
    decide=decide_nb,
    state=(("beyond", "f8"), ("side", "i8")),
)
