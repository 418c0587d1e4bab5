"""How many standard deviations the close lies from its mean."""

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
    """Add one close; O(1). Where all closes of the window are equal the score is 0."""
    length = p["length"]
    m = s["moments"]
    if moments_add_nb(m, ring, base, length, x["close"]):
        s["ready"] = 1
    if s["ready"]:
        variance = moments_variance_nb(m, length)
        s["value"] = 0.0
        if variance > 0.0:
            s["value"] = (x["close"] - moments_mean_nb(m)) / math.sqrt(variance)


SPEC = IndicatorSpec(
    name="zscore",
    title="Z-score of the close against its window",
    params={"length": Param(20, 2, 100_000, "samples of mean and deviation")},
    outputs=("value",),
    state=(("moments", MOMENTS),),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="z = (C - mean_n(C)) / sd_n(C), ddof 0; 0 where sd = 0",
    reference="Kreyszig (1979), Advanced Engineering Mathematics: standard score",
)
