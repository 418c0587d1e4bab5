# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled walk over ticks: what they show, fill, and make of positions."""

import numpy as np
from numba import njit

from engine.core.records import TickFlag, TickKind
from replay.backtest.sim_day import begin_day_nb, forget_book_nb
from replay.backtest.sim_orders import (
    end_held_nb,
    is_due_nb,
    is_open_nb,
    may_print_nb,
    take_orders_nb,
)
from replay.backtest.sim_records import Why
from replay.backtest.sim_trade import Offer, fill_nb, mark_nb

_HEARTBEAT = int(TickKind.HEARTBEAT)
_GAP = int(TickKind.GAP)
_TRADE = int(TickKind.TRADE)
_QUOTE = int(TickKind.QUOTE)
_HALTED_FLAG = int(TickFlag.HALTED)
_AUCTION_FLAG = int(TickFlag.AUCTION)
_OUT_FLAG = int(TickFlag.OUT_OF_SESSION)
_CROSSED_FLAG = int(TickFlag.CROSSED)
_ODD_FLAGS = int(TickFlag.ODD_CONDITION) | _CROSSED_FLAG
_NO_SIZE = int(TickFlag.NO_SIZE)

_FITS = -1
_HALTED = int(Why.HALTED)
_OUT_OF_SESSION = int(Why.OUT_OF_SESSION)
_AUCTION = int(Why.AUCTION)
_IRREGULAR = int(Why.IRREGULAR)
_NO_PRICE = int(Why.NO_PRICE)
_NO_REFERENCE = int(Why.NO_REFERENCE)
_LIMIT_UP = int(Why.LIMIT_UP)
_LIMIT_DOWN = int(Why.LIMIT_DOWN)
_BEYOND = int(Why.BEYOND_LIMIT)
_ONE_AUCTION_NS = 60 * 10**9
"""Prints so close to an auction's first are that auction's."""


@njit(error_model="numpy")
def _is_print_nb(t):
    """Tell whether a tick shows what an auction traded, not what it might have."""
    flags = t["flags"]
    if not flags & _AUCTION_FLAG or flags & (_ODD_FLAGS | _HALTED_FLAG) or t["kind"] == _QUOTE:
        return False
    return t["price"] > 0.0 and t["size"] > 0.0


@njit(error_model="numpy")
def _tick_problem_nb(w, i, t, placed):
    """Return why a tick fills no order that was placed at a time, -1 if it may.

    Only what came to the market before an auction printed takes part in it.
    """
    m, st = w.market[i], w.settings[0]
    flags = t["flags"]
    if flags & _HALTED_FLAG:
        return _HALTED
    if flags & _AUCTION_FLAG:
        if st["auctions"] == 0:
            return _AUCTION
        if not may_print_nb(w, i, t["ts_event"]):
            return _OUT_OF_SESSION
    elif (st["sessions"] != 0 and flags & _OUT_FLAG) or not is_open_nb(w, i, t["ts_event"]):
        return _OUT_OF_SESSION
    if flags & _ODD_FLAGS:
        return _IRREGULAR
    if flags & _AUCTION_FLAG and not (_is_print_nb(t) and placed < m["print_ns"]):
        return _AUCTION
    if st["reference"] != 0 and _is_limited_nb(w, i) and not _has_limits_nb(m):
        return _NO_REFERENCE
    return _FITS


@njit(error_model="numpy")
def _is_limited_nb(w, i):
    return w.settings[0]["limits"] != 0 and w.market[i]["limited"] != 0


@njit(error_model="numpy")
def _has_limits_nb(m):
    return m["limit_up"] < np.inf and m["limit_down"] > 0.0


@njit(error_model="numpy")
def _touch_nb(m, t, side):
    """Return the price and size on the side to be taken, and the spread; NaN where there is none.

    A market without a book shows its last trade, an auction its one price.
    """
    if t["flags"] & _AUCTION_FLAG:
        return t["price"], t["size"], np.nan
    bid, ask = m["bid"], m["ask"]
    sizes = not t["flags"] & _NO_SIZE
    has_bid = bid == bid and not (sizes and m["bid_size"] == 0.0 < m["ask_size"])
    has_ask = ask == ask and not (sizes and m["ask_size"] == 0.0 < m["bid_size"])
    if not has_bid and not has_ask:
        traded = t["kind"] != _QUOTE and t["price"] > 0.0
        return (t["price"] if traded else np.nan), t["size"], np.nan
    spread = ask - bid if has_bid and has_ask else np.nan
    if side > 0:
        return (ask if has_ask else np.nan), m["ask_size"], spread
    return (bid if has_bid else np.nan), m["bid_size"], spread


@njit(error_model="numpy")
def _is_locked_nb(w, i, t, side, price):
    """Tell whether the limit leaves nobody to trade with.

    That is so without a price on the side to be taken while the other side or the last price is at
    the limit; and, in a market without a book and in an auction, at a trade at the limit.
    """
    m = w.market[i]
    half = 0.5 * w.facts[i]["tick"]
    blind = (t["flags"] & _AUCTION_FLAG) != 0 or not (m["bid"] == m["bid"] or m["ask"] == m["ask"])
    if price == price and not blind:
        return False
    seen = price
    if not blind:
        other = m["bid"] if side > 0 else m["ask"]
        seen = m["last"] if other != other else side * max(side * other, side * m["last"])
    if side > 0:
        return seen > m["limit_up"] - half
    return seen < m["limit_down"] + half


@njit(error_model="numpy")
def _tick_offer_nb(w, i, t, side, placed):
    """Return why a tick fills no such order, -1 if it does, and what it offers."""
    m = w.market[i]
    price, available, spread = _touch_nb(m, t, side)
    offer = Offer(t["ts_recv"], price, spread, available)
    why = _tick_problem_nb(w, i, t, placed)
    if why >= 0:
        return why, offer
    if _is_limited_nb(w, i):
        half = 0.5 * w.facts[i]["tick"]
        if _is_locked_nb(w, i, t, side, price):
            return (_LIMIT_UP if side > 0 else _LIMIT_DOWN), offer
        if price == price and not m["limit_down"] - half < price < m["limit_up"] + half:
            return _BEYOND, offer
    return (_FITS if price == price else _NO_PRICE), offer


@njit(error_model="numpy")
def _fill_at_tick_nb(w, i, t):
    for s in range(w.slots.shape[0]):
        if not is_due_nb(w, i, s, t["ts_recv"]):
            continue
        slot = w.slots[s, i]
        why, offer = _tick_offer_nb(w, i, t, slot["side"], slot["placed"])
        if why >= 0:
            slot["why"] = why
        else:
            fill_nb(w, i, s, offer, True, True)


@njit(error_model="numpy")
def _see_tick_nb(m, t):
    """Take what a tick shows."""
    kind = t["kind"]
    if kind != _TRADE:
        m["bid"], m["ask"] = t["bid"], t["ask"]
        m["bid_size"], m["ask_size"] = t["bid_size"], t["ask_size"]
    if t["flags"] & _ODD_FLAGS:
        if t["flags"] & _CROSSED_FLAG:
            forget_book_nb(m)
        return
    if kind != _QUOTE and t["price"] > 0.0:
        m["last"] = t["price"]
        m["volume"] += t["size"]
        m["traded"] = 1
    elif m["traded"] == 0:
        middle = 0.5 * (t["bid"] + t["ask"])
        if middle == middle:
            m["last"] = middle


@njit(error_model="numpy")
def _see_print_nb(m, t):
    """Take note of an auction's first print."""
    if _is_print_nb(t):
        ts = min(t["ts_event"], t["ts_recv"])
        if ts - m["print_ns"] > _ONE_AUCTION_NS:
            m["print_ns"] = ts


@njit(error_model="numpy")
def run_ticks_nb(w, orders, ticks, start, stop):
    """Walk over ticks [start, stop); return where it stopped: there a table was full.

    Args:
        w: World.
        orders: ORDER, by row.
        ticks: TICK.
        start: First row.
        stop: One past the last row.
    """
    a = w.account[0]
    strategies = w.slots.shape[0]
    for k in range(start, stop):
        t = ticks[k]
        kind, i = t["kind"], np.int64(t["instrument"])
        if kind != _HEARTBEAT and kind != _GAP and i < w.market.shape[0]:
            full = a["fills"] + 2 * strategies > w.fills.shape[0]
            if full or a["days"] + 2 > w.equity.shape[0]:
                return k
            m = w.market[i]
            if t["ts_event"] >= m["day_end_ns"]:
                begin_day_nb(w, i, t["ts_event"], np.nan)
            w.groups[w.facts[i]["group"]]["last_ns"] = t["ts_recv"]
            a["ts"] = t["ts_recv"]
            _see_tick_nb(m, t)
            _see_print_nb(m, t)
            if m["held"] != 0 and w.settings[0]["max_hold_ns"] > 0:
                end_held_nb(w, i, t["ts_recv"])
            if m["waiting"] != 0:
                _fill_at_tick_nb(w, i, t)
            if m["held"] != 0:
                mark_nb(w, i, m["last"])
        elif kind == _GAP:
            for j in range(w.market.shape[0]):
                forget_book_nb(w.market[j])
        take_orders_nb(w, orders, k + 1)
    return stop
