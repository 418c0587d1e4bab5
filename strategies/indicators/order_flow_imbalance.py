"""Order-flow imbalance over a window, plain and against the depth of the book."""

import math

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one sample's imbalance and depth; O(1).

    A sample without both sides of the book, or without sizes, is left out.
    """
    depth = 0.5 * (x["bid_size"] + x["ask_size"])
    if not (depth > 0.0 and not math.isnan(x["bid"] + x["ask"])):
        return
    length = p["length"]
    at = s["next"]
    sum_add_nb(s["flow"], ring, base + at, x["ofi"])
    sum_add_nb(s["depth"], ring, base + length + at, depth)
    at += 1
    if at == length:
        at = 0
        sum_renew_nb(s["flow"])
        sum_renew_nb(s["depth"])
        s["ready"] = 1
    s["next"] = at
    if s["ready"] and s["depth"]["total"] > 0.0:
        s["value"] = s["flow"]["total"]
        s["per_depth"] = s["flow"]["total"] * length / s["depth"]["total"]


SPEC = IndicatorSpec(
    name="order_flow_imbalance",
    title="Order-flow imbalance of the window, in size and in mean depths",
    params={"length": Param(50, 1, 100_000, "samples summed")},
    outputs=("value", "per_depth"),
    state=(("flow", SUM), ("depth", SUM), ("next", "i8")),
    ring=lambda p: 2 * int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula=(
        "value = sum_n(e), e = 1[Pb >= Pb'] qb - 1[Pb <= Pb'] qb' - 1[Pa <= Pa'] qa"
        " + 1[Pa >= Pa'] qa' of every change of the book (a bar holds their sum);"
        " per_depth = value / mean_n((qb + qa) / 2)"
    ),
    reference="Cont, Kukanov and Stoikov (2014), The Price Impact of Order Book Events",
    needs=("ofi", "bid", "ask", "bid_size", "ask_size"),
)
