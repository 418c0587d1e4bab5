"""Rate of change."""

from numba import njit

from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one close; O(1). Where the earlier close is 0 the value stays."""
    close = x["close"]
    at = s["next"]
    old = ring[base + at]
    ring[base + at] = close
    at += 1
    s["next"] = 0 if at == p["length"] else at
    if s["full"] and old != 0.0:
        s["value"] = 100.0 * (close / old - 1.0)
        s["ready"] = 1
    elif at == p["length"]:
        s["full"] = 1


SPEC = IndicatorSpec(
    name="roc",
    title="Rate of change of the close, in percent",
    params={"length": Param(10, 1, 100_000, "samples between the two closes")},
    outputs=("value",),
    state=(("next", "i8"), ("full", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]) + 1,
    formula="ROC = 100 (C_t / C_{t-n} - 1)",
    reference="TA-Lib 0.6, ROC",
)
