"""Average true range with Wilder's smoothing."""

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def true_range_nb(high, low, before):
    """Return the largest of high - low, |high - before| and |low - before|."""
    top = high if high > before else before
    bottom = low if low < before else before
    return top - bottom


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one high, low and close; O(1). The first sample has no true range."""
    length = p["length"]
    span = true_range_nb(x["high"], x["low"], s["last"])
    s["last"] = x["close"]
    n = s["count"]
    if n > length:
        s["value"] += (span - s["value"]) * s["alpha"]
        return
    s["count"] = n + 1
    if n > 0:
        s["sum"] += span
    if n == length:
        s["alpha"] = 1.0 / length
        s["value"] = s["sum"] / length
        s["ready"] = 1


SPEC = IndicatorSpec(
    name="atr",
    title="Average true range",
    params={"length": Param(14, 1, 100_000, "samples of Wilder's smoothing")},
    outputs=("value",),
    state=(("last", "f8"), ("sum", "f8"), ("alpha", "f8"), ("count", "i8")),
    update=update_nb,
    warm_up=lambda p: int(p["length"]) + 1,
    formula=(
        "TR = max(H, C_{t-1}) - min(L, C_{t-1}); ATR_t = ATR_{t-1} + (TR - ATR_{t-1}) / n;"
        " first = mean of the first n TR"
    ),
    reference="Wilder (1978), New Concepts in Technical Trading Systems; TA-Lib 0.6, ATR",
    needs=("high", "low", "close"),
)
