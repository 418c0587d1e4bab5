"""KDJ, the stochastic oscillator as Chinese terminals have it."""

from numba import njit

from strategies.indicators._rolling import EXTREMES, extremes_add_nb
from strategies.spec import IndicatorSpec, Param, Params


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one high, low and close; O(1) amortised.

    A window whose high equals its low says nothing: K, D and J keep their values, and do not
    become ready from it.
    """
    e = s["extremes"]
    filled = extremes_add_nb(e, ring, base, p["length"], x["high"], x["low"])
    if filled and s["full"] == 0:
        s["full"] = 1
        s["slow_k"] = 50.0
        s["slow_d"] = 50.0
        s["k_alpha"] = 1.0 / p["k_smooth"]
        s["d_alpha"] = 1.0 / p["d_smooth"]
    if s["full"] == 0:
        return
    s["count"] += 1
    span = e["high"] - e["low"]
    if not span > 0.0:
        return
    raw = 100.0 * ((x["close"] - e["low"]) / span)
    k = s["slow_k"] + (raw - s["slow_k"]) * s["k_alpha"]
    d = s["slow_d"] + (k - s["slow_d"]) * s["d_alpha"]
    s["slow_k"] = k
    s["slow_d"] = d
    if s["count"] >= p["k_smooth"] + p["d_smooth"] - 1:
        s["k"] = k
        s["d"] = d
        s["j"] = 3.0 * k - 2.0 * d
        s["ready"] = 1


def _warm_up(p: Params) -> int:
    return int(p["length"] + p["k_smooth"] + p["d_smooth"]) - 2


SPEC = IndicatorSpec(
    name="kdj",
    title="KDJ (Chinese terminals): K, D and J",
    params={
        "length": Param(9, 1, 100_000, "samples of the high-low window"),
        "k_smooth": Param(3, 1, 100_000, "smoothing of K: alpha = 1 / k_smooth"),
        "d_smooth": Param(3, 1, 100_000, "smoothing of D: alpha = 1 / d_smooth"),
    },
    outputs=("k", "d", "j"),
    state=(
        ("extremes", EXTREMES),
        ("slow_k", "f8"),
        ("slow_d", "f8"),
        ("k_alpha", "f8"),
        ("d_alpha", "f8"),
        ("count", "i8"),
        ("full", "i8"),
    ),
    ring=lambda p: 2 * int(p["length"]),
    update=update_nb,
    warm_up=_warm_up,
    formula=(
        "RSV = 100 (C - L_n) / (H_n - L_n); K_t = K_{t-1} + (RSV - K_{t-1}) / 3;"
        " D_t = D_{t-1} + (K_t - D_{t-1}) / 3; J = 3 K - 2 D; K_0 = D_0 = 50;"
        " unchanged while H_n = L_n"
    ),
    reference=(
        "Chinese terminals' convention with seed 50; TA-Lib STOCH(9, 5, EMA, 5, EMA) once the seed"
        " has faded"
    ),
    needs=("high", "low", "close"),
)
