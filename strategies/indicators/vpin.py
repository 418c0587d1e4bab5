"""VPIN: volume-synchronised probability of informed trading."""

import math

from numba import njit

from strategies.indicators._rolling import SUM, sum_add_nb, sum_renew_nb
from strategies.spec import IndicatorSpec, Param


@njit(error_model="numpy", forceinline=True)
def close_bucket_nb(s, ring, base, buckets, imbalance):
    """Add one full bucket's absolute imbalance to the window."""
    at = s["next"]
    sum_add_nb(s["sum"], ring, base + at, imbalance)
    at += 1
    if at == buckets:
        at = 0
        sum_renew_nb(s["sum"])
        s["ready"] = 1
    s["next"] = at


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one sample's trading by side; O(1) and O(1) a bucket, at most ``buckets`` of them.

    A sample that overflows its bucket is divided, its sides in proportion. A sample of which no
    side is known is left out.
    """
    volume = x["buy_volume"] + x["sell_volume"]
    if not volume > 0.0:
        return
    size = p["bucket_volume"]
    net_share = (x["buy_volume"] - x["sell_volume"]) / volume
    room = size - s["filled"]
    if volume < room:
        s["filled"] += volume
        s["net"] += volume * net_share
        return
    buckets = p["buckets"]
    close_bucket_nb(s, ring, base, buckets, abs(s["net"] + room * net_share))
    rest = volume - room
    whole = math.floor(min(rest / size, 1e15))
    for _ in range(min(whole, buckets)):
        close_bucket_nb(s, ring, base, buckets, size * abs(net_share))
    left = rest - whole * size
    s["filled"] = left if 0.0 < left < size else 0.0
    s["net"] = s["filled"] * net_share
    if s["ready"]:
        share = s["sum"]["total"] / (buckets * size)
        s["value"] = min(max(share, 0.0), 1.0)


SPEC = IndicatorSpec(
    name="vpin",
    title="VPIN: mean imbalance of the last volume buckets, 0 to 1",
    params={
        "bucket_volume": Param(1_000.0, 1e-9, 1e15, "volume of one bucket, in the unit of size"),
        "buckets": Param(50, 1, 100_000, "full buckets averaged"),
    },
    outputs=("value",),
    state=(("sum", SUM), ("filled", "f8"), ("net", "f8"), ("next", "i8")),
    ring=lambda p: int(p["buckets"]),
    update=update_nb,
    warm_up=lambda p: int(p["buckets"]),
    formula=(
        "VPIN = sum over the last n buckets of |Vb - Vs| / (n V); sides as the exchange or the"
        " quote rule gives them, not bulk classification; warm-up counts full buckets"
    ),
    reference=(
        "Easley, Lopez de Prado and O'Hara (2012), Flow Toxicity and Liquidity in a"
        " High-Frequency World"
    ),
    needs=("buy_volume", "sell_volume"),
)
