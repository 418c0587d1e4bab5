# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled walk over ticks and bars: what they show, fill, and make of positions.

Bars that close together are one moment: all orders meet their opening prices before any position is
valued at their close, those that end a position before those that begin one.
"""

import numpy as np
from numba import njit

from engine.core.records import TickFlag, TickKind
from replay.backtest.sim_day import begin_day_nb, forget_book_nb, give_up_nb
from replay.backtest.sim_records import Why
from replay.backtest.sim_trade import Offer, fill_nb, mark_nb

_HEARTBEAT = int(TickKind.HEARTBEAT)
_GAP = int(TickKind.GAP)
_TRADE = int(TickKind.TRADE)
_QUOTE = int(TickKind.QUOTE)
_HALTED_FLAG = int(TickFlag.HALTED)
_AUCTION_FLAG = int(TickFlag.AUCTION)
_OUT_FLAG = int(TickFlag.OUT_OF_SESSION)
_ODD_FLAGS = int(TickFlag.ODD_CONDITION | TickFlag.CROSSED)
_NO_SIZE = int(TickFlag.NO_SIZE)
_LONG_BAR_NS = 4 * 3600 * 10**9

_FITS = -1
_NO_TRADING = int(Why.NO_TRADING)
_HALTED = int(Why.HALTED)
_OUT_OF_SESSION = int(Why.OUT_OF_SESSION)
_AUCTION = int(Why.AUCTION)
_IRREGULAR = int(Why.IRREGULAR)
_NO_PRICE = int(Why.NO_PRICE)
_NO_REFERENCE = int(Why.NO_REFERENCE)
_LIMIT_UP = int(Why.LIMIT_UP)
_LIMIT_DOWN = int(Why.LIMIT_DOWN)
_ONE_PRICE = int(Why.ONE_PRICE)
_BEYOND = int(Why.BEYOND_LIMIT)
_ALREADY_HELD = int(Why.ALREADY_HELD)
_NOTHING = int(Why.NOTHING_TO_SELL)
_ALREADY_ORDERED = int(Why.ALREADY_ORDERED)
_REPLACED = int(Why.REPLACED)
_EXPIRED = int(Why.EXPIRED)
_OUTSIDE = int(Why.OUTSIDE_SPAN)


@njit(error_model="numpy")
def _is_open_nb(w, i, ts):
    group = w.groups[w.facts[i]["group"]]
    if w.settings[0]["sessions"] == 0 or group["edge"] < 0:
        return True
    lo, hi = group["edge"], group["stop"]
    first = lo
    while lo < hi:
        middle = (lo + hi) // 2
        if w.edges[middle] <= ts:
            lo = middle + 1
        else:
            hi = middle
    return (lo - first) % 2 == 1


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
def _take_orders_nb(w, orders, before):
    """Take the orders whose records stand before a row."""
    a = w.account[0]
    while a["order"] < orders.shape[0] and orders[a["order"]]["row"] < before:
        _take_order_nb(w, orders[a["order"]])
        a["order"] += 1


@njit(error_model="numpy")
def _end_held_nb(w, i, ts):
    """Order the end of positions that were held for as long as they may be."""
    hold = w.settings[0]["max_hold_ns"]
    for s in range(w.slots.shape[0]):
        slot = w.slots[s, i]
        due = slot["ts_entry"] + hold
        if slot["quantity"] != 0.0 and slot["side"] == 0 and ts >= due:
            side = -1 if slot["quantity"] > 0.0 else 1
            _place_nb(w, i, s, side, due, due, 1)


@njit(error_model="numpy")
def _is_due_nb(w, i, s, ts):
    """Tell whether an order has come to the market; give up one that waited too long."""
    slot = w.slots[s, i]
    if slot["side"] == 0 or slot["placed"] > ts:
        return False
    if ts - slot["placed"] > w.settings[0]["order_life_ns"]:
        give_up_nb(w, i, s, _EXPIRED)
        return False
    slot["live_day"] = w.market[i]["day"]
    return True


# ticks


@njit(error_model="numpy")
def _tick_problem_nb(w, i, t):
    """Return why a tick fills no order at all, -1 if it may."""
    m, st = w.market[i], w.settings[0]
    flags = t["flags"]
    if flags & _HALTED_FLAG:
        return _HALTED
    outside = flags & _OUT_FLAG and not flags & _AUCTION_FLAG
    if (st["sessions"] != 0 and outside) or not _is_open_nb(w, i, t["ts_event"]):
        return _OUT_OF_SESSION
    if st["auctions"] == 0 and flags & _AUCTION_FLAG:
        return _AUCTION
    if flags & _ODD_FLAGS:
        return _IRREGULAR
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

    A market without a book shows its last trade.
    """
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
    the limit; and, in a market without a book, at a trade at the limit.
    """
    m = w.market[i]
    half = 0.5 * w.facts[i]["tick"]
    blind = not (m["bid"] == m["bid"] or m["ask"] == m["ask"])
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
def _tick_offer_nb(w, i, t, side):
    """Return why a tick fills no order of this side, -1 if it does, and what it offers."""
    m = w.market[i]
    price, available, spread = _touch_nb(m, t, side)
    offer = Offer(t["ts_recv"], price, spread, available)
    why = _tick_problem_nb(w, i, t)
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
        if not _is_due_nb(w, i, s, t["ts_recv"]):
            continue
        slot = w.slots[s, i]
        why, offer = _tick_offer_nb(w, i, t, slot["side"])
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
            if m["held"] != 0 and w.settings[0]["max_hold_ns"] > 0:
                _end_held_nb(w, i, t["ts_recv"])
            if m["waiting"] != 0:
                _fill_at_tick_nb(w, i, t)
            if m["held"] != 0:
                mark_nb(w, i, m["last"])
        elif kind == _GAP:
            for j in range(w.market.shape[0]):
                forget_book_nb(w.market[j])
        _take_orders_nb(w, orders, k + 1)
    return stop


# bars


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
        if not _is_due_nb(w, i, s, b["ts_open"] + st["grace_ns"]):
            continue
        if b["flags"] & _HALTED_FLAG or not b["volume"] > 0.0:
            slot["why"] = _HALTED
            continue
        if not _is_open_nb(w, i, b["ts_open"]):
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
        _end_held_nb(w, i, b["ts_open"])


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
        _take_orders_nb(w, orders, end)
        k = end
    return stop
