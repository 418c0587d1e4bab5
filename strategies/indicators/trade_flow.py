"""Signed trade flow: volume that buyers started less volume that sellers started."""

import numpy as np
from numba import njit

from strategies.spec import IndicatorSpec, Param

SIDE = np.dtype([("total", "f8"), ("fresh", "f8"), ("held", "i8")])
"""Sum of one side's volume over the ring, that since it began anew, and its samples above 0."""


@njit(error_model="numpy", forceinline=True)
def side_add_nb(side, ring, at, volume):
    """Put a volume in place of the oldest; a side without volume in the ring sums to exactly 0."""
    old = ring[at]
    ring[at] = volume
    side["held"] += int(volume > 0.0) - int(old > 0.0)
    total = side["total"] + (volume - old)
    side["total"] = total if side["held"] > 0 and total > 0.0 else 0.0
    side["fresh"] += volume


@njit(error_model="numpy", forceinline=True)
def side_renew_nb(side):
    """Begin anew; call it each time the ring has filled, so that rounding errors end."""
    side["total"] = side["fresh"]
    side["fresh"] = 0.0


@njit(error_model="numpy", forceinline=True)
def update_nb(s, p, ring, base, x):
    """Add one sample's trading by side; O(1).

    A sample without trading counts as 0. One with volume of which no side is known is left out.
    Not ready before there was volume in a full window; 0 in a later window without any.
    """
    buy, sell = x["buy_volume"], x["sell_volume"]
    if x["volume"] > 0.0 and not buy + sell > 0.0:
        return
    length = p["length"]
    at = s["next"]
    side_add_nb(s["buy"], ring, base + at, buy)
    side_add_nb(s["sell"], ring, base + length + at, sell)
    at += 1
    if at == length:
        at = 0
        side_renew_nb(s["buy"])
        side_renew_nb(s["sell"])
        s["full"] = 1
    s["next"] = at
    if s["full"] == 0:
        return
    bought, sold = s["buy"]["total"], s["sell"]["total"]
    traded = bought + sold
    if traded > 0.0:
        s["ready"] = 1
        s["value"] = bought - sold
        s["normalised"] = (bought - sold) / traded
    elif s["ready"]:
        s["value"] = 0.0
        s["normalised"] = 0.0


SPEC = IndicatorSpec(
    name="trade_flow",
    title="Signed trade flow of the window, in size and from -1 (all sells) to 1 (all buys)",
    params={"length": Param(50, 1, 100_000, "samples summed")},
    outputs=("value", "normalised"),
    state=(("buy", SIDE), ("sell", SIDE), ("next", "i8"), ("full", "i8")),
    ring=lambda p: 2 * int(p["length"]),
    update=update_nb,
    warm_up=lambda p: int(p["length"]),
    formula="value = sum_n(buy - sell volume); normalised = value / sum_n(buy + sell volume)",
    reference="Chordia, Roll and Subrahmanyam (2002), Order Imbalance, Liquidity, and Returns",
    needs=("volume", "buy_volume", "sell_volume"),
)
