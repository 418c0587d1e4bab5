# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled walk over recorded bars: what they show, fill, and make of positions.

Bars that close together are one moment: all orders meet their opening prices before any position is
valued at their close, those that end a position before those that begin one.
"""

import numpy as np
from numba import njit

from engine.core.records import TickFlag
from replay.backtest.sim_day import begin_day_nb
from replay.backtest.sim_orders import end_held_nb, is_due_nb, is_open_nb, take_orders_nb
from replay.backtest.sim_records import Why
from replay.backtest.sim_trade import Offer, fill_nb, mark_nb

_HALTED_FLAG = int(TickFlag.HALTED)
_LONG_BAR_NS = 4 * 3600 * 10**9
"""A bar so long with a single price is a day without a market."""

_FITS = -1
_HALTED = int(Why.HALTED)
_OUT_OF_SESSION = int(Why.OUT_OF_SESSION)
_NO_REFERENCE = int(Why.NO_REFERENCE)
_LIMIT_UP = int(Why.LIMIT_UP)
_LIMIT_DOWN = int(Why.LIMIT_DOWN)
_ONE_PRICE = int(Why.ONE_PRICE)
_BEYOND = int(Why.BEYOND_LIMIT)


@njit(error_model="numpy")
def _shown_nb(w, b):
    """Return the price at which a bar fills."""
    kind = w.settings[0]["fill"]
    if kind == 1:
        return b["close"]
    if kind == 2 and b["volume"] > 0.0 and b["turnover"] > 0.0:
        return min(max(b["turnover"] / b["volume"], b["low"]), b["high"])
    return b["open"]


@njit(error_model="numpy")
def _limit_problem_nb(w, i, b, side, shown):
    """Return why limits stop an order at a bar, -1 if they do not, and its price.

    A bar that opens at the limit and trades below it later fills a buyer at the limit, for every
    order at that price was served before.
    """
    m, st = w.market[i], w.settings[0]
    up, down = m["limit_up"], m["limit_down"]
    if st["limits"] == 0 or m["limited"] == 0:
        return _FITS, shown
    if not (up < np.inf and down > 0.0):
        return (_NO_REFERENCE if st["reference"] != 0 else _FITS), shown
    half = 0.5 * w.facts[i]["tick"]
    if b["high"] > up + half or b["low"] < down - half:
        up, down = m["first_up"], m["first_down"]
        if not (b["high"] < up + half and b["low"] > down - half):
            return _BEYOND, shown
    opens = st["fill"] == 0
    if side > 0 and shown > up - half:
        return (_FITS, up) if opens and b["low"] < up - half else (_LIMIT_UP, shown)
    if side < 0 and shown < down + half:
        return (_FITS, down) if opens and b["high"] > down + half else (_LIMIT_DOWN, shown)
    one_price = b["high"] - b["low"] < half and b["ts_event"] - b["ts_open"] >= _LONG_BAR_NS
    if one_price and side * (b["close"] - m["pre_close"]) > half:
        return _ONE_PRICE, shown
    return _FITS, shown


@njit(error_model="numpy")
def _fill_at_bar_nb(w, i, b, exits):
    st = w.settings[0]
    for s in range(w.slots.shape[0]):
        slot = w.slots[s, i]
        if slot["side"] == 0 or (slot["quantity"] * slot["side"] < 0.0) != exits:
            continue
        if not is_due_nb(w, i, s, b["ts_open"] + st["grace_ns"]):
            continue
        if b["flags"] & _HALTED_FLAG or not b["volume"] > 0.0:
            slot["why"] = _HALTED
            continue
        if not is_open_nb(w, i, b["ts_open"]):
            slot["why"] = _OUT_OF_SESSION
            continue
        why, price = _limit_problem_nb(w, i, b, slot["side"], _shown_nb(w, b))
        if why >= 0:
            slot["why"] = why
            continue
        ts = b["ts_event"] if st["fill"] == 1 else max(b["ts_open"], slot["placed"])
        fill_nb(w, i, s, Offer(ts, price, np.nan, b["volume"]), exits, not exits)


@njit(error_model="numpy")
def _open_bar_nb(w, b):
    """Let a bar begin: its day, and the end of what was held for long enough."""
    i = np.int64(b["instrument"])
    if b["ts_open"] >= w.market[i]["day_end_ns"]:
        begin_day_nb(w, i, b["ts_open"], b["pre_close"])
    group = w.groups[w.facts[i]["group"]]
    group["last_ns"] = max(group["last_ns"], b["ts_open"])
    if w.market[i]["held"] != 0 and w.settings[0]["max_hold_ns"] > 0:
        end_held_nb(w, i, b["ts_open"])


@njit(error_model="numpy")
def _close_bar_nb(w, b):
    i = np.int64(b["instrument"])
    m = w.market[i]
    m["last"] = b["close"]
    m["volume"] += b["volume"]
    m["traded"] = 1
    w.account[0]["ts"] = b["ts_event"]
    if m["held"] != 0:
        mark_nb(w, i, b["close"])


@njit(error_model="numpy")
def _bar_moment_nb(w, bars, start, stop):
    """Take bars that close together."""
    known = w.market.shape[0]
    for k in range(start, stop):
        if bars[k]["instrument"] < known:
            _open_bar_nb(w, bars[k])
    for exits in (True, False):
        for k in range(start, stop):
            i = np.int64(bars[k]["instrument"])
            if i < known and w.market[i]["waiting"] != 0:
                _fill_at_bar_nb(w, i, bars[k], exits)
    for k in range(start, stop):
        if bars[k]["instrument"] < known:
            _close_bar_nb(w, bars[k])


@njit(error_model="numpy")
def run_bars_nb(w, orders, bars, start, stop):
    """Walk over recorded bars [start, stop), as ``run_ticks_nb``; stops between moments."""
    a = w.account[0]
    k = start
    while k < stop:
        end = k + 1
        while end < stop and bars[end]["ts_event"] == bars[k]["ts_event"]:
            end += 1
        most = 2 * w.slots.shape[0] * (end - k)
        if a["fills"] + most > w.fills.shape[0] or a["days"] + end - k + 1 > w.equity.shape[0]:
            return k
        _bar_moment_nb(w, bars, k, end)
        take_orders_nb(w, orders, end)
        k = end
    return stop
