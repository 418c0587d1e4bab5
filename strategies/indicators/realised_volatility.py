"""Realised volatility: the root of the sum of squared log returns."""

import math

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1). A close that is not positive has no logarithm and is left out."""
    close = x["close"]
    if not close > 0.0:
        return
    length = p["length"]
    last = s["last"]
    s["last"] = close
    if last == 0.0:
        return
    change = math.log(close / last)
    s["still"] = (s["still"] + 1) * int(change == 0.0)
    at = s["next"]
    sum_add_nb(s["squares"], ring, base + at, change * change)
    at += 1
    if at == length:
        at = 0
        sum_renew_nb(s["squares"])
        s["ready"] = 1
    s["next"] = at
    if s["ready"]:
        total = s["squares"]["total"]
        if total < 0.0 or s["still"] >= length:
            total = 0.0
        s["value"] = math.sqrt(total)
        s["per_sample"] = math.sqrt(total / length)


SPEC = IndicatorSpec(
    name="realised_volatility",
    title="Realised volatility of the window, as a fraction, not annualised",
    params={"length": Param(20, 1, 100_000, "log returns summed")},
    outputs=("value", "per_sample"),
    state=(("squares", SUM), ("last", "f8"), ("still", "i8"), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]) + 1,
    formula=(
        "value = sqrt(sum_n(ln(C_t / C_{t-1})^2)); per_sample = value / sqrt(n);"
        " times sqrt(samples a year) it is annual"
    ),
    reference=(
        "Andersen, Bollerslev, Diebold and Labys (2003), Modeling and Forecasting Realized"
        " Volatility"
    ),
)
