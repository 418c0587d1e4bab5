"""Bollinger bands."""

import math

from numba import njit

from strategies.indicators._rolling import (
    MOMENTS,
    moments_add_nb,
    moments_mean_nb,
    moments_variance_nb,
)
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1)."""
    length = p["length"]
    m = s["moments"]
    if moments_add_nb(m, ring, base, length, x["close"]):
        s["ready"] = 1
    if s["ready"]:
        middle = moments_mean_nb(m)
        sd = math.sqrt(moments_variance_nb(m, length))
        s["middle"] = middle
        s["upper"] = middle + p["width"] * sd
        s["lower"] = middle - p["width"] * sd
        s["sd"] = sd


SPEC = IndicatorSpec(
    name="bollinger",
    title="Bollinger bands of the close, and the standard deviation behind them",
    params={
        "length": Param(20, 2, 100_000, "samples of mean and deviation"),
        "width": Param(2.0, 0.0, 100.0, "standard deviations between middle and band"),
    },
    outputs=("middle", "upper", "lower", "sd"),
    state=(("moments", MOMENTS),),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="middle = SMA_n(C); sd = sqrt(mean((C - middle)^2)), ddof 0; bands = middle ± width sd",
    reference="Bollinger (2001), Bollinger on Bollinger Bands; TA-Lib 0.6, BBANDS",
)
