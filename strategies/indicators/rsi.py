"""Relative strength index with Wilder's smoothing."""

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1).

    While the close has never moved the index is undefined and not ready (TA-Lib says 0).
    """
    length = p["length"]
    close = x["close"]
    change = close - s["last"]
    s["last"] = close
    up = change if change > 0.0 else 0.0
    down = -change if change < 0.0 else 0.0
    n = s["count"]
    if n > length:
        s["up"] += (up - s["up"]) * s["alpha"]
        s["down"] += (down - s["down"]) * s["alpha"]
    else:
        s["count"] = n + 1
        s["alpha"] = 1.0 / length
        if n == 0:
            return
        s["up"] += up / length
        s["down"] += down / length
        if n < length:
            return
    moved = s["up"] + s["down"]
    if moved > 0.0:
        s["value"] = 100.0 * (s["up"] / moved)
        s["ready"] = 1


SPEC = IndicatorSpec(
    name="rsi",
    title="Relative strength index of the close",
    params={"length": Param(14, 2, 100_000, "samples of Wilder's smoothing")},
    outputs=("value",),
    state=(("last", "f8"), ("up", "f8"), ("down", "f8"), ("alpha", "f8"), ("count", "i8")),
    update=update_nb,
    warm_up=lambda p: int(p["length"]) + 1,
    formula=(
        "RSI = 100 U / (U + D); U_t = U_{t-1} + (max(C_t - C_{t-1}, 0) - U_{t-1}) / n, D_t likewise"
        " of falls; U_n, D_n plain means of the first n changes; undefined while C never moved"
    ),
    reference="Wilder (1978), New Concepts in Technical Trading Systems; TA-Lib 0.6, RSI",
)
