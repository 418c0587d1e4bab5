# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled trading: an order's size, its fill, what it pays, and the round trip it belongs to."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from replay.backtest.sim_price import charge_nb, slip_nb, whole_lots_nb
from replay.backtest.sim_records import Why

_DONE = -1
_FILLED = -2
_PARTLY = -3
_T_PLUS_1 = int(Why.T_PLUS_1)
_NO_ESTIMATE = int(Why.NO_ESTIMATE)
_NO_VOLUME = int(Why.NO_VOLUME)
_BELOW_LOT = int(Why.BELOW_LOT)
_NO_CASH = int(Why.NO_CASH)
_MAX_POSITIONS = int(Why.MAX_POSITIONS)
_SHORT = int(Why.SHORT_NOT_ALLOWED)

Table = npt.NDArray[np.void]


class World(NamedTuple):
    """Everything the simulator works on. I instruments, S strategies, G calendars."""

    account: Table
    """ACCOUNT, shape (1,)."""
    settings: Table
    """SETTINGS, shape (1,)."""
    market: Table
    """MARKET, shape (I,)."""
    facts: Table
    """FACTS, shape (I,)."""
    slots: Table
    """SLOT, shape (S, I)."""
    groups: Table
    """GROUP, shape (G,)."""
    boards: Table
    """BOARD."""
    rules: Table
    """RULE, the boards' one after the other."""
    fees: Table
    """FEE, shape (rules, 2, MAX_FEES): of buying, of selling."""
    edges: npt.NDArray[np.int64]
    """When sessions open and close in turn, the groups' one after the other."""
    unfilled: npt.NDArray[np.int64]
    """Counts by Why."""
    fills: Table
    trades: Table
    equity: Table


class Offer(NamedTuple):
    """What the market offers an order.

    ``ts``: time of the fill; ``price``: as shown; ``spread``: NaN without a book; ``available``:
    units to be had at most, before ``participation``.
    """

    ts: int
    price: float
    spread: float
    available: float


@njit(error_model="numpy")
def lots_nb(w, i, quantity):
    """Return the largest legal order size up to ``quantity``."""
    rule = w.rules[w.market[i]["rule"]]
    if w.settings[0]["lots"] == 0:
        return whole_lots_nb(quantity, 0.0, 0.0)
    if rule["has_lot"] != 0:
        return whole_lots_nb(quantity, rule["lot_minimum"], rule["lot_step"])
    lot = w.facts[i]["lot"]
    return whole_lots_nb(quantity, lot, lot)


@njit(error_model="numpy")
def charges_nb(w, i, side, notional):
    """Return commission, tax and transfer fee of one fill."""
    row = w.market[i]["rule"]
    if side > 0:
        return charge_nb(w.fees[row, 0], w.rules[row]["buy_fees"], notional)
    return charge_nb(w.fees[row, 1], w.rules[row]["sell_fees"], notional)


@njit(error_model="numpy")
def value_slot_nb(w, slot, price, multiplier):
    """Value a position at a price; the account's sums and the trade's drawdown follow."""
    a = w.account[0]
    value = slot["quantity"] * price * multiplier
    a["value"] += value - slot["value"]
    a["gross"] += abs(value) - abs(slot["value"])
    slot["value"] = value
    worth = slot["put_in"] + slot["flows"] + value
    if worth > slot["peak"]:
        slot["peak"] = worth
    elif slot["peak"] > 0.0:
        slot["drawdown"] = max(slot["drawdown"], (slot["peak"] - worth) / slot["peak"])


@njit(error_model="numpy")
def mark_nb(w, i, price):
    """Value all positions in an instrument at a price."""
    for s in range(w.slots.shape[0]):
        slot = w.slots[s, i]
        if slot["quantity"] != 0.0:
            value_slot_nb(w, slot, price, w.facts[i]["multiplier"])


@njit(error_model="numpy")
def _book_nb(w, i, s, side, quantity, price, offer):
    """Write one fill, move the cash, pay the fees."""
    a, slot = w.account[0], w.slots[s, i]
    multiplier = w.facts[i]["multiplier"]
    notional = quantity * price * multiplier
    commission, tax, transfer = charges_nb(w, i, side, notional)
    cost = commission + tax + transfer
    f = w.fills[a["fills"]]
    f["ts"] = offer.ts
    f["ts_signal"] = slot["ts_signal"]
    f["instrument"] = i
    f["strategy"] = s
    f["side"] = side
    f["trade"] = slot["trade"]
    f["quantity"] = quantity
    f["price"] = price
    f["slippage"] = abs(price - offer.price) * quantity * multiplier
    f["commission"] = commission
    f["tax"] = tax
    f["transfer_fee"] = transfer
    a["fills"] += 1
    a["cash"] -= side * notional + cost
    a["cost"] += cost
    if side > 0:
        a["bought"] += notional
    else:
        a["sold"] += notional
    slot["flows"] -= side * notional
    slot["cost"] += cost
    slot["quantity"] += side * quantity
    return notional


@njit(error_model="numpy")
def close_trade_nb(w, i, s, ts, price_exit, still_open):
    """Complete the row of a round trip; the slot is flat afterwards, unless it is still open."""
    slot = w.slots[s, i]
    t = w.trades[slot["trade"]]
    t["ts_exit"] = ts
    t["open"] = still_open
    t["quantity"] = slot["entry_quantity"]
    t["price_exit"] = price_exit
    t["cost"] = slot["cost"]
    t["pnl"] = slot["flows"] + slot["value"] - slot["cost"] + slot["adjusted"]
    t["return"] = t["pnl"] / slot["put_in"]
    t["drawdown"] = slot["drawdown"]
    t["adjusted"] = slot["adjusted"]


@njit(error_model="numpy")
def _exit_nb(w, i, s, offer):
    """Fill an order against the position it ends; return what came of it."""
    a, m, slot = w.account[0], w.market[i], w.slots[s, i]
    st = w.settings[0]
    rule = w.rules[m["rule"]]
    side = slot["side"]
    held = abs(slot["quantity"])
    if st["settlement"] != 0 and rule["t_plus"] > 0 and slot["bought_day"] == m["day"] and side < 0:
        return _T_PLUS_1
    quantity = held
    if st["participation"] > 0.0 and st["participation"] * offer.available < held:
        quantity = lots_nb(w, i, st["participation"] * offer.available)
        if quantity <= 0.0:
            return _NO_VOLUME
    price = slip_nb(st, m, w.facts[i]["tick"], side, offer.price, offer.spread, quantity)
    if price != price:
        return _NO_ESTIMATE
    multiplier = w.facts[i]["multiplier"]
    slot["exit_notional"] += _book_nb(w, i, s, side, quantity, price, offer)
    slot["exit_quantity"] += quantity
    if quantity < held:
        value_slot_nb(w, slot, price, multiplier)
        return _PARTLY
    slot["quantity"] = 0.0
    value_slot_nb(w, slot, price, multiplier)
    average = slot["exit_notional"] / (slot["exit_quantity"] * multiplier)
    close_trade_nb(w, i, s, offer.ts, average, 0)
    m["held"] -= 1
    a["positions"] -= 1
    return _FILLED


@njit(error_model="numpy")
def _affordable_nb(w, i, side, quantity, price):
    """Return the largest legal size up to ``quantity`` that the account can pay."""
    a = w.account[0]
    unit = price * w.facts[i]["multiplier"]
    room = w.settings[0]["leverage"] * (a["cash"] + a["value"]) - a["gross"]
    for _ in range(64):
        if quantity <= 0.0:
            return 0.0
        commission, tax, transfer = charges_nb(w, i, side, quantity * unit)
        cost = commission + tax + transfer
        if quantity * unit + cost <= room + 1e-6:
            return quantity
        less = min((room - cost) / unit, quantity * (1.0 - 1e-9))
        smaller = lots_nb(w, i, less)
        quantity = smaller if smaller < quantity else 0.0
    return 0.0


@njit(error_model="numpy")
def _wanted_nb(w, i, offer):
    """Return the size that the settings ask for, before lots."""
    a, st = w.account[0], w.settings[0]
    if st["by"] == 1:
        return st["amount"]
    money = st["amount"]
    if st["by"] == 2:
        money *= a["cash"] + a["value"]
    return money / (offer.price * w.facts[i]["multiplier"])


@njit(error_model="numpy")
def _enter_nb(w, i, s, offer):
    """Open a position; return what came of it."""
    a, m, slot = w.account[0], w.market[i], w.slots[s, i]
    st = w.settings[0]
    side = slot["side"]
    if side < 0 and st["settlement"] != 0 and w.rules[m["rule"]]["long_only"] != 0:
        return _SHORT
    if st["max_positions"] > 0 and a["positions"] >= st["max_positions"]:
        return _MAX_POSITIONS
    wanted = _wanted_nb(w, i, offer)
    most = st["participation"] * offer.available if st["participation"] > 0.0 else np.inf
    quantity = lots_nb(w, i, min(wanted, most))
    if quantity <= 0.0:
        return _NO_VOLUME if most < wanted else _BELOW_LOT
    price = slip_nb(st, m, w.facts[i]["tick"], side, offer.price, offer.spread, quantity)
    if price != price:
        return _NO_ESTIMATE
    quantity = _affordable_nb(w, i, side, quantity, price)
    if quantity <= 0.0:
        return _NO_CASH
    _begin_trade_nb(w, i, s, offer.ts)
    notional = _book_nb(w, i, s, side, quantity, price, offer)
    slot["put_in"] = notional + slot["cost"]
    slot["peak"] = slot["put_in"]
    slot["entry_quantity"] = quantity
    slot["entry_notional"] = notional
    slot["bought_day"] = m["day"]
    t = w.trades[slot["trade"]]
    t["side"] = side
    t["price_entry"] = price
    t["quantity"] = quantity
    m["held"] += 1
    a["positions"] += 1
    value_slot_nb(w, slot, price, w.facts[i]["multiplier"])
    return _FILLED


@njit(error_model="numpy")
def _begin_trade_nb(w, i, s, ts):
    a, slot = w.account[0], w.slots[s, i]
    slot["trade"] = a["trades"]
    slot["ts_entry"] = ts
    slot["flows"] = 0.0
    slot["cost"] = 0.0
    slot["adjusted"] = 0.0
    slot["drawdown"] = 0.0
    slot["exit_quantity"] = 0.0
    slot["exit_notional"] = 0.0
    a["trades"] += 1
    t = w.trades[slot["trade"]]
    t["ts_entry"] = ts
    t["instrument"] = i
    t["strategy"] = s


@njit(error_model="numpy")
def end_order_nb(w, i, s, why):
    """Take a slot's order off; ``why`` counts it, -1: it was filled."""
    a, slot = w.account[0], w.slots[s, i]
    own = slot["own"] != 0
    if own and why >= 0:
        a["own_unfilled"] += 1
    elif own:
        a["own_filled"] += 1
    elif why >= 0:
        w.unfilled[why] += 1
    else:
        a["filled"] += 1
    slot["side"] = 0
    w.market[i]["waiting"] -= 1


@njit(error_model="numpy")
def fill_nb(w, i, s, offer, exits, entries):
    """Let an order that may trade take what is offered.

    Args:
        w: World.
        i: Instrument.
        s: Strategy, whose slot has an order.
        offer: Offer.
        exits: Whether orders that end a position are meant.
        entries: Whether orders that begin one are; what ends one and begins the opposite is both.
    """
    slot = w.slots[s, i]
    st = w.settings[0]
    side = slot["side"]
    filled = False
    if slot["quantity"] * side < 0.0:
        if not exits:
            return
        came = _exit_nb(w, i, s, offer)
        if came >= 0:
            slot["why"] = came
            return
        if came == _PARTLY:
            slot["why"] = _NO_VOLUME
            slot["part"] = 1
            return
        filled = True
        if slot["own"] != 0 or st["both_ways"] == 0 or _is_long_only_nb(w, i):
            end_order_nb(w, i, s, _DONE)
            return
        slot["part"] = 1
    if not entries:
        return
    came = _enter_nb(w, i, s, offer)
    done = came == _FILLED or filled or slot["part"] != 0
    end_order_nb(w, i, s, _DONE if done else came)


@njit(error_model="numpy")
def _is_long_only_nb(w, i):
    rule = w.rules[w.market[i]["rule"]]
    return w.settings[0]["settlement"] != 0 and rule["long_only"] != 0
