"""Mid weighted by the sizes at the top of the book."""

from numba import njit

from strategies.spec import IndicatorSpec


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Take one book; O(1).

    A sample without both sides of the book, without sizes or with a mid of 0 changes nothing.
    """
    bid, ask = x["bid"], x["ask"]
    depth = x["bid_size"] + x["ask_size"]
    mid = 0.5 * (bid + ask)
    if not (depth > 0.0 and abs(mid) > 0.0):
        return
    skew = 0.5 * (ask - bid) * ((x["bid_size"] - x["ask_size"]) / depth)
    s["value"] = mid + skew
    s["deviation_bps"] = 1e4 * skew / mid
    s["ready"] = 1


SPEC = IndicatorSpec(
    name="weighted_mid",
    title="Size-weighted mid, and its deviation from the mid in bps",
    params={},
    outputs=("value", "deviation_bps"),
    update=update_nb,
    warm_up=lambda p: 1,
    formula=(
        "value = (Pa qb + Pb qa) / (qa + qb); deviation_bps = 10^4 (value - mid) / mid;"
        " not Stoikov's micro-price, which adds a fitted adjustment to the mid"
    ),
    reference="Gatheral and Oomen (2010), Zero-Intelligence Realized Variance Estimation",
    needs=("bid", "ask", "bid_size", "ask_size"),
)
