"""Z-score reversion: against the first close that is too many deviations from its mean."""

from numba import njit

from strategies.spec import Param, RuleSpec, Use


@njit(error_model="numpy", forceinline=True)
def decide_nb(s, p, x, out, zscore, mean):
    """Propose the way to the mean where the score first reaches ``entry``.

    The next proposal on that side needs the score to have been within ``rearm`` of zero, or beyond
    ``entry`` on the other side. Strength: 0 at ``entry``, 1 at twice that. Confidence: 0.5, since
    nothing but the distance speaks for it. Edge: the distance from the close to the mean.
    """
    z = zscore["value"]
    if abs(z) < p["entry"]:
        if abs(z) <= p["rearm"]:
            s["side"] = 0
        return False
    side = -1 if z > 0.0 else 1
    if s["side"] == side:
        return False
    s["side"] = side
    out["side"] = side
    out["strength"] = min(1.0, abs(z) / p["entry"] - 1.0)
    out["confidence"] = 0.5
    out["edge_bps"] = abs(x["close"] - mean["value"]) / x["close"] * 1e4
    return True


SPEC = RuleSpec(
    name="zscore_reversion",
    version="1",
    title="Against a close far from its mean",
    params={
        "length": Param(50, 2, 100_000, "samples of mean and deviation"),
        "entry": Param(2.5, 0.1, 100.0, "deviations from the mean at which it proposes"),
        "rearm": Param(0.5, 0.0, 100.0, "deviations within which it is ready for the next"),
    },
    uses=lambda p: (Use("zscore", {"length": p["length"]}), Use("sma", {"length": p["length"]})),
    decide=decide_nb,
    state=(("side", "i8"),),
)
