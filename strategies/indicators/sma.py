"""Simple moving average."""

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1): a running sum over a ring of the last ``length`` closes."""
    length = p["length"]
    at = base + s["next"]
    s["sum"] += x["close"] - ring[at]
    ring[at] = x["close"]
    s["next"] = 0 if s["next"] + 1 == length else s["next"] + 1
    if s["count"] < length:
        s["count"] += 1
    if s["count"] == length:
        s["value"] = s["sum"] / length
        s["ready"] = 1


SPEC = IndicatorSpec(
    name="sma",
    title="Simple moving average of the close",
    params={"length": Param(20, 1, 100_000, "samples averaged")},
    outputs=("value",),
    state=(("sum", "f8"), ("count", "i8"), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="SMA_t = (C_t + C_{t-1} + ... + C_{t-n+1}) / n",
    reference="TA-Lib 0.6, SMA",
)
