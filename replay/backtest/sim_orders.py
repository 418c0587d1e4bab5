# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled ways of orders: from signals to the market, and off it unfilled."""

import numpy as np
from numba import njit

from replay.backtest.sim_day import give_up_nb
from replay.backtest.sim_records import Why

_NO_TRADING = int(Why.NO_TRADING)
_ALREADY_HELD = int(Why.ALREADY_HELD)
_NOTHING = int(Why.NOTHING_TO_SELL)
_ALREADY_ORDERED = int(Why.ALREADY_ORDERED)
_REPLACED = int(Why.REPLACED)
_EXPIRED = int(Why.EXPIRED)
_OUTSIDE = int(Why.OUTSIDE_SPAN)


@njit(error_model="numpy")
def _is_within_nb(edges, first, stop, ts):
    """Tell whether a time lies between an opening and a closing edge of edges [first, stop)."""
    lo, hi = first, stop
    while lo < hi:
        middle = (lo + hi) // 2
        if edges[middle] <= ts:
            lo = middle + 1
        else:
            hi = middle
    return (lo - first) % 2 == 1


@njit(error_model="numpy")
def is_open_nb(w, i, ts):
    """Tell whether an instrument's market is open."""
    group = w.groups[w.facts[i]["group"]]
    if w.settings[0]["sessions"] == 0 or group["edge"] < 0:
        return True
    return _is_within_nb(w.edges, group["edge"], group["stop"], ts)


@njit(error_model="numpy")
def may_print_nb(w, i, ts):
    """Tell whether an auction of an instrument's market may print."""
    group = w.groups[w.facts[i]["group"]]
    if w.settings[0]["sessions"] == 0 or group["edge"] < 0:
        return True
    return _is_within_nb(w.edges, group["auction_edge"], group["auction_stop"], ts)


@njit(error_model="numpy")
def _place_nb(w, i, s, side, ts, placed, own):
    slot = w.slots[s, i]
    slot["side"] = side
    slot["ts_signal"] = ts
    slot["placed"] = placed
    slot["live_day"] = -1
    slot["why"] = _NO_TRADING
    slot["own"] = own
    slot["part"] = 0
    w.market[i]["waiting"] += 1
    w.account[0]["own_orders"] += own


@njit(error_model="numpy")
def _take_order_nb(w, o):
    """Let one signal become an order, or count why it does not."""
    st = w.settings[0]
    i, s, side = np.int64(o["instrument"]), np.int64(o["strategy"]), o["side"]
    slot = w.slots[s, i]
    if not st["start_ns"] <= o["ts"] < st["stop_ns"]:
        w.unfilled[_OUTSIDE] += 1
        return
    if slot["side"] == side and slot["live_day"] < 0:
        w.unfilled[_ALREADY_ORDERED] += 1
        return
    if slot["side"] != 0:
        give_up_nb(w, i, s, _REPLACED)
    if slot["quantity"] * side > 0.0:
        w.unfilled[_ALREADY_HELD] += 1
    elif slot["quantity"] == 0.0 and side < 0 and st["both_ways"] == 0:
        w.unfilled[_NOTHING] += 1
    else:
        _place_nb(w, i, s, side, o["ts"], o["ts"] + st["latency_ns"], 0)


@njit(error_model="numpy")
def take_orders_nb(w, orders, before):
    """Take the orders whose records stand before a row."""
    a = w.account[0]
    while a["order"] < orders.shape[0] and orders[a["order"]]["row"] < before:
        _take_order_nb(w, orders[a["order"]])
        a["order"] += 1


@njit(error_model="numpy")
def end_held_nb(w, i, ts):
    """Order the end of positions that were held for as long as they may be."""
    hold = w.settings[0]["max_hold_ns"]
    for s in range(w.slots.shape[0]):
        slot = w.slots[s, i]
        due = slot["ts_entry"] + hold
        if slot["quantity"] != 0.0 and slot["side"] == 0 and ts >= due:
            side = -1 if slot["quantity"] > 0.0 else 1
            _place_nb(w, i, s, side, due, due, 1)


@njit(error_model="numpy")
def is_due_nb(w, i, s, ts):
    """Tell whether an order has come to the market; give up one that waited too long."""
    slot = w.slots[s, i]
    if slot["side"] == 0 or slot["placed"] > ts:
        return False
    if ts - slot["placed"] > w.settings[0]["order_life_ns"]:
        give_up_nb(w, i, s, _EXPIRED)
        return False
    slot["live_day"] = w.market[i]["day"]
    return True
