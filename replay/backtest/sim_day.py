# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled turns of the day: the account's row, orders given up, ex-right days, price limits."""

import numpy as np
from numba import njit

from replay.backtest.sim_price import limits_nb
from replay.backtest.sim_records import Why
from replay.backtest.sim_trade import close_trade_nb, end_order_nb, mark_nb, value_slot_nb

_DAY_NS = 86_400 * 10**9
_MEMORY = 0.1
"""Weight of the newest day in the averages that the impact model goes by."""
_EXPIRED = int(Why.EXPIRED)
_NO_TRADING = int(Why.NO_TRADING)
_OPEN_AT_END = int(Why.OPEN_AT_END)


@njit(error_model="numpy")
def write_day_nb(w):
    """Write the account's row of the day at hand, its sums taken anew from the positions."""
    a = w.account[0]
    value = gross = 0.0
    for s in range(w.slots.shape[0]):
        for i in range(w.slots.shape[1]):
            worth = w.slots[s, i]["value"]
            value += worth
            gross += abs(worth)
    a["value"], a["gross"] = value, gross
    row = w.equity[a["days"]]
    row["ts"] = a["ts"]
    row["day"] = a["day"]
    row["positions"] = a["positions"]
    row["equity"] = a["cash"] + value
    row["cash"] = a["cash"]
    row["exposure"] = gross
    row["value"] = value
    row["bought"], row["sold"] = a["bought"], a["sold"]
    row["cost"], row["adjusted"] = a["cost"], a["adjusted"]
    a["bought"], a["sold"], a["cost"], a["adjusted"] = 0.0, 0.0, 0.0, 0.0
    a["days"] += 1


@njit(error_model="numpy")
def give_up_nb(w, i, s, why):
    """End an order that waits; what was filled in part counts as filled."""
    slot = w.slots[s, i]
    end_order_nb(w, i, s, -1 if slot["part"] != 0 else why)


@njit(error_model="numpy")
def _end_orders_nb(w, g, day):
    """Give up a calendar's orders whose day is over; those that came too late for it wait on."""
    st, group = w.settings[0], w.groups[g]
    for i in range(w.market.shape[0]):
        if w.market[i]["waiting"] == 0 or w.facts[i]["group"] != g:
            continue
        for s in range(w.slots.shape[0]):
            slot = w.slots[s, i]
            if slot["side"] == 0:
                continue
            if slot["live_day"] < 0 and not slot["placed"] < group["last_ns"]:
                slot["live_day"] = day
                continue
            ends = slot["quantity"] * slot["side"] < 0.0
            gtc = st["exit_gtc"] if ends else st["entry_gtc"]
            if gtc == 0 and slot["own"] == 0:
                give_up_nb(w, i, s, slot["why"])
            elif group["last_ns"] - slot["placed"] > st["order_life_ns"]:
                give_up_nb(w, i, s, _EXPIRED)
            else:
                slot["live_day"] = day


@njit(error_model="numpy")
def _learn_nb(m):
    """Take a finished day into the averages of volume and of squared returns."""
    if not m["volume"] > 0.0 or not m["close_before"] > 0.0:
        return
    change = np.log(m["last"] / m["close_before"])
    if m["mean_volume"] > 0.0:
        m["variance"] += _MEMORY * (change * change - m["variance"])
        m["mean_volume"] += _MEMORY * (m["volume"] - m["mean_volume"])
    else:
        m["variance"] = change * change
        m["mean_volume"] = m["volume"]


@njit(error_model="numpy")
def _adjust_nb(w, i, pre_close):
    """Give positions what an ex-right day gives, so that it is neither profit nor loss."""
    a, m, facts = w.account[0], w.market[i], w.facts[i]
    ratio = m["last"] / pre_close
    for s in range(w.slots.shape[0]):
        slot = w.slots[s, i]
        held = slot["quantity"]
        if held == 0.0:
            continue
        value_slot_nb(w, slot, m["last"], facts["multiplier"])
        due = held
        if w.settings[0]["ex_right"] == 1:
            due = held * ratio
            slot["quantity"] = np.trunc(due + np.sign(due) * 1e-9) if facts["lot"] > 0.0 else due
            money = (due - slot["quantity"]) * pre_close * facts["multiplier"]
        else:
            money = held * (m["last"] - pre_close) * facts["multiplier"]
        a["cash"] += money
        a["adjusted"] += money
        slot["adjusted"] += money
        _keep_worth_nb(w, slot, pre_close, money, facts["multiplier"])


@njit(error_model="numpy")
def _keep_worth_nb(w, slot, price, money, multiplier):
    """Value a position at its ex-right price; money received counts to its worth."""
    slot["peak"] -= money
    slot["drawdown"], before = 0.0, slot["drawdown"]
    value_slot_nb(w, slot, price, multiplier)
    slot["drawdown"] = before


@njit(error_model="numpy")
def _set_limits_nb(w, i, pre_close, stated):
    """Set the day's price limits, as the risk gate does, and those of a first day of listing."""
    m, facts, rule = w.market[i], w.facts[i], w.rules[w.market[i]["rule"]]
    tick = facts["tick"]
    known = pre_close > 0.0
    m["limit_down"], m["limit_up"] = -np.inf, np.inf
    m["first_down"], m["first_up"] = np.nan, np.nan
    m["limited"] = rule["limited"]
    m["pre_close"] = pre_close
    if rule["limited"] != 0 and known:
        limits = limits_nb(pre_close, tick, rule["up_ppm"], rule["down_ppm"])
        m["limit_down"], m["limit_up"] = limits
        if m["listed_late"] != 0 and m["days"] <= rule["first_days"]:
            m["first_down"], m["first_up"] = -np.inf, np.inf
            if rule["first_limited"] != 0:
                limits = limits_nb(pre_close, tick, rule["first_up_ppm"], rule["first_down_ppm"])
                m["first_down"], m["first_up"] = limits
    theirs = facts["pre_close"]
    outdated = stated and pre_close != theirs and (rule["limited"] != 0 or theirs > 0.0)
    if outdated or facts["known"] == 0:
        return
    if facts["limit_up"] > 0.0:
        m["limit_up"] = facts["limit_up"]
        m["limited"] = 1
    if facts["limit_down"] > 0.0:
        m["limit_down"] = facts["limit_down"]
        m["limited"] = 1


@njit(error_model="numpy")
def set_reference_nb(w, i, pre_close, stated):
    """Take the day's reference price: ex-right adjustment and price limits.

    Args:
        w: World.
        i: Instrument.
        pre_close: From the bar or the definition, NaN if unknown.
        stated: Whether a bar said it.
    """
    a, m, facts = w.account[0], w.market[i], w.facts[i]
    known = pre_close > 0.0
    may = stated or facts["ex_right"] != 0
    if known and may and m["days"] > 1 and m["last"] > 0.0:
        fall = m["last"] - pre_close
        if fall > 0.5 * facts["tick"]:
            a["ex_rights"] += 1
            if w.settings[0]["ex_right"] != 0:
                _adjust_nb(w, i, pre_close)
                m["last"] = pre_close
        elif fall < -0.5 * facts["tick"]:
            a["odd_references"] += 1
    m["close_before"] = pre_close if known else m["last"]
    _set_limits_nb(w, i, pre_close, stated)
    if m["limited"] != 0 and not (m["limit_up"] < np.inf and m["limit_down"] > 0.0):
        a["no_reference_days"] += 1


@njit(error_model="numpy")
def forget_book_nb(m):
    """Forget the book: after a night or a gap nobody knows what of it still stands."""
    m["bid"], m["ask"] = np.nan, np.nan
    m["bid_size"], m["ask_size"] = 0.0, 0.0


@njit(error_model="numpy")
def begin_day_nb(w, i, ts, pre_close):
    """Begin an instrument's trading day, and its calendar's and the account's with it.

    Args:
        w: World.
        i: Instrument.
        ts: Time of the day's first record, ns.
        pre_close: Reference price that the record states, NaN if none.
    """
    a, m, facts = w.account[0], w.market[i], w.facts[i]
    day = (ts + facts["offset_ns"]) // _DAY_NS
    group = w.groups[facts["group"]]
    if day > group["day"]:
        if group["day"] >= 0:
            _end_orders_nb(w, facts["group"], day)
        else:
            group["first_day"] = day
        group["day"] = day
    if day > a["day"]:
        if a["day"] >= 0:
            write_day_nb(w)
        a["day"] = day
    if m["days"] == 0:
        m["listed_late"] = day > group["first_day"]
        m["rule"] = w.boards[facts["board"]]["first"]
    elif m["days"] > 0:
        _learn_nb(m)
    stop = w.boards[facts["board"]]["stop"]
    while m["rule"] + 1 < stop and w.rules[m["rule"] + 1]["since"] <= day:
        m["rule"] += 1
    forget_book_nb(m)
    m["volume"] = 0.0
    m["day"] = day
    m["day_end_ns"] = (day + 1) * _DAY_NS - facts["offset_ns"]
    m["days"] += 1
    stated = pre_close > 0.0
    reference = pre_close
    if not stated:
        reference = facts["pre_close"] if facts["known"] != 0 else np.nan
    set_reference_nb(w, i, reference, stated)
    facts["known"] = 0


@njit(error_model="numpy")
def finish_nb(w):
    """End what waits, value what is open, write the last day."""
    a = w.account[0]
    for i in range(w.market.shape[0]):
        m = w.market[i]
        if m["held"] != 0:
            mark_nb(w, i, m["last"])
        for s in range(w.slots.shape[0]):
            slot = w.slots[s, i]
            if slot["side"] != 0:
                tried = slot["why"] != _NO_TRADING
                give_up_nb(w, i, s, slot["why"] if tried else _OPEN_AT_END)
            if slot["quantity"] != 0.0:
                close_trade_nb(w, i, s, a["ts"], m["last"], 1)
    if a["day"] >= 0:
        write_day_nb(w)
