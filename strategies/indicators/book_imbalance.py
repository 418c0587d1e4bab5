"""Imbalance of the sizes at the top of the book."""

import math

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one book; O(1).

    A sample without both sides of the book, or without sizes, is left out.
    """
    depth = x["bid_size"] + x["ask_size"]
    if not (depth > 0.0 and not math.isnan(x["bid"] + x["ask"])):
        return
    length = p["length"]
    imbalance = (x["bid_size"] - x["ask_size"]) / depth
    at = s["next"]
    sum_add_nb(s["sum"], ring, base + at, imbalance)
    at += 1
    if at == length:
        at = 0
        sum_renew_nb(s["sum"])
        s["ready"] = 1
    s["next"] = at
    if s["ready"]:
        s["value"] = s["sum"]["total"] / length
        s["raw"] = imbalance


SPEC = IndicatorSpec(
    name="book_imbalance",
    title="Imbalance of the top of the book, -1 (all asks) to 1 (all bids)",
    params={"length": Param(1, 1, 100_000, "samples averaged; 1 for the plain imbalance")},
    outputs=("value", "raw"),
    state=(("sum", SUM), ("next", "i8")),
    ring=lambda p: int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="raw = (qb - qa) / (qb + qa); value = mean_n(raw)",
    reference="Gould and Bonart (2016), Queue Imbalance as a One-Tick-Ahead Price Predictor",
    needs=("bid", "ask", "bid_size", "ask_size"),
)
