"""Donchian channel."""

from numba import njit

from strategies.indicators._rolling import EXTREMES, extremes_add_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one high and low; O(1) amortised."""
    e = s["extremes"]
    if extremes_add_nb(e, ring, base, p["length"], x["high"], x["low"]):
        s["ready"] = 1
    if s["ready"]:
        s["upper"] = e["high"]
        s["lower"] = e["low"]
        s["middle"] = 0.5 * (e["high"] + e["low"])


SPEC = IndicatorSpec(
    name="donchian",
    title="Donchian channel: highest high, lowest low, their middle",
    params={"length": Param(20, 1, 100_000, "samples of the channel, the newest among them")},
    outputs=("upper", "lower", "middle"),
    state=(("extremes", EXTREMES),),
    ring=lambda p: 2 * int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="upper = max_n(H); lower = min_n(L); middle = (upper + lower) / 2",
    reference="Donchian (1960), High Finance in Copper; TA-Lib 0.6, MAX and MIN",
    needs=("high", "low"),
)
