"""Simple moving average."""

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1)."""
    length = p["length"]
    at = s["next"]
    sum_add_nb(s["sum"], ring, base + at, x["close"])
    at += 1
    if at == length:
        at = 0
        sum_renew_nb(s["sum"])
        s["share"] = 1.0 / length
        s["ready"] = 1
    s["next"] = at
    if s["ready"]:
        s["value"] = s["sum"]["total"] * s["share"]


SPEC = IndicatorSpec(
    name="sma",
    title="Simple moving average of the close",
    params={"length": Param(20, 1, 100_000, "samples averaged")},
    outputs=("value",),
    state=(("sum", SUM), ("share", "f8"), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="SMA_t = (C_t + C_{t-1} + ... + C_{t-n+1}) / n",
    reference="TA-Lib 0.6, SMA",
)
