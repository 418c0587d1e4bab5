"""Weighted moving average: the newest close weighs most."""

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1): every weight falls by one, which takes the plain sum away once."""
    length = p["length"]
    close = x["close"]
    at = s["next"]
    s["weighted"] += length * close - s["sum"]["total"]
    sum_add_nb(s["sum"], ring, base + at, close)
    at += 1
    s["fresh_weighted"] += at * close
    if at == length:
        at = 0
        sum_renew_nb(s["sum"])
        s["weighted"] = s["fresh_weighted"]
        s["fresh_weighted"] = 0.0
        s["share"] = 2.0 / (length * (length + 1))
        s["ready"] = 1
    s["next"] = at
    if s["ready"]:
        s["value"] = s["weighted"] * s["share"]


SPEC = IndicatorSpec(
    name="wma",
    title="Linearly weighted moving average of the close",
    params={"length": Param(20, 1, 100_000, "samples averaged")},
    outputs=("value",),
    state=(
        ("sum", SUM),
        ("weighted", "f8"),
        ("fresh_weighted", "f8"),
        ("share", "f8"),
        ("next", "i8"),
    ),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="WMA_t = (n C_t + (n-1) C_{t-1} + ... + C_{t-n+1}) / (n (n+1) / 2)",
    reference="TA-Lib 0.6, WMA",
)
