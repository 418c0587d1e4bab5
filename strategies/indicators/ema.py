"""Exponential moving average, seeded with the simple average of its first samples."""

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1)."""
    length = p["length"]
    close = x["close"]
    if s["count"] < length:
        s["count"] += 1
        s["sum"] += close
        if s["count"] == length:
            s["value"] = s["sum"] / length
            s["alpha"] = 2.0 / (length + 1)
            s["ready"] = 1
    else:
        s["value"] += (close - s["value"]) * s["alpha"]


SPEC = IndicatorSpec(
    name="ema",
    title="Exponential moving average of the close",
    params={"length": Param(20, 1, 100_000, "samples of the span; alpha = 2 / (length + 1)")},
    outputs=("value",),
    state=(("sum", "f8"), ("alpha", "f8"), ("count", "i8")),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="EMA_t = EMA_{t-1} + 2/(n+1) (C_t - EMA_{t-1}); EMA_n = SMA_n",
    reference="TA-Lib 0.6, EMA (seeded with the SMA of the first n)",
)
