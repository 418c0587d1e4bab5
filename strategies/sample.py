"""A tick into the sample that indicators read: book, last price, flow, trading day.

The state kept here is the first part of every instrument's row. All functions are inlined into
the fused kernel.
"""

from typing import Final

import numpy as np
from numba import njit

from engine.core.records import BAR, TickKind

_TRADE: Final = int(TickKind.TRADE)
_QUOTE: Final = int(TickKind.QUOTE)

MARKET: Final = np.dtype(
    [
        ("bid", "f8"),
        ("ask", "f8"),
        ("bid_size", "f8"),
        ("ask_size", "f8"),
        ("last", "f8"),
        ("session_turnover", "f8"),
        ("ts_quote", "i8"),
        ("session_end_ns", "i8"),
        ("session", "i4"),
        ("flags", "u2"),
        ("side", "i1"),
        ("traded", "u1"),
    ],
    align=True,
)
"""What is known of an instrument's market: the top of book (NaN if unknown), the last trade's price
(NaN before the first), the day's turnover, the last classified aggressor side, and whether it ever
traded."""

FACTS: Final = np.dtype([("day_offset_ns", "i8"), ("pre_close", "f8")], align=True)
"""An instrument's definitions that the kernel needs, a row an instrument."""

_DAY_NS: Final = 86_400 * 10**9


@njit(error_model="numpy", forceinline=True)
def flow_imbalance_nb(m, bid, ask, bid_size, ask_size):
    """Return e of Cont, Kukanov and Stoikov (2014) for a move of the book; 0 without both books.

    e = 1[Pb >= Pb'] qb - 1[Pb <= Pb'] qb' - 1[Pa <= Pa'] qa + 1[Pa >= Pa'] qa'
    """
    if np.isnan(m["bid"]) or np.isnan(m["ask"]) or np.isnan(bid) or np.isnan(ask):
        return 0.0
    e = 0.0
    if bid >= m["bid"]:
        e += bid_size
    if bid <= m["bid"]:
        e -= m["bid_size"]
    if ask <= m["ask"]:
        e -= ask_size
    if ask >= m["ask"]:
        e += m["ask_size"]
    return e


@njit(error_model="numpy", forceinline=True)
def classify_side_nb(m, price):
    """Return the aggressor's side of an unmarked trade: quote rule, then tick rule.

    Lee and Ready (1991), Inferring Trade Direction from Intraday Data: above the mid a buy, below
    a sell; at the mid, or without a book, the direction of the last price change.
    """
    mid = 0.5 * (m["bid"] + m["ask"])
    if price > mid:
        return 1
    if price < mid:
        return -1
    if price > m["last"]:
        return 1
    if price < m["last"]:
        return -1
    return m["side"]


@njit(error_model="numpy", forceinline=True)
def _trade_nb(m, x, t, side):
    size = t["size"]
    turnover = t["turnover"] if t["turnover"] > 0.0 else t["price"] * size
    x["volume"] = size
    x["turnover"] = turnover
    x["buy_volume"] = size if side > 0 else 0.0
    x["sell_volume"] = size if side < 0 else 0.0
    x["trades"] = 1 if size > 0.0 or t["kind"] == _TRADE else 0
    m["session_turnover"] += turnover
    m["last"] = t["price"]
    m["traded"] = 1
    m["side"] = side


@njit(error_model="numpy", forceinline=True)
def _quote_nb(m, x, t):
    bid, ask = t["bid"], t["ask"]
    x["ofi"] = flow_imbalance_nb(m, bid, ask, t["bid_size"], t["ask_size"])
    m["bid"] = bid
    m["ask"] = ask
    m["bid_size"] = t["bid_size"]
    m["ask_size"] = t["ask_size"]
    m["ts_quote"] = t["ts_event"]


@njit(error_model="numpy", forceinline=True)
def _price_nb(x, price):
    x["open"] = price
    x["high"] = price
    x["low"] = price
    x["close"] = price


@njit(error_model="numpy", forceinline=True)
def book_into_sample_nb(m, x):
    """Copy the top of book into a sample or bar."""
    x["bid"] = m["bid"]
    x["ask"] = m["ask"]
    x["bid_size"] = m["bid_size"]
    x["ask_size"] = m["ask_size"]


@njit(error_model="numpy", forceinline=True)
def roll_session_nb(m, ts_ns, day_offset_ns):
    """Begin a new trading day at the first sample at or after the end of the last one.

    The day is counted from 1970-01-01 at the venue; its turnover starts again.
    """
    if ts_ns >= m["session_end_ns"]:
        session = (ts_ns + day_offset_ns) // _DAY_NS
        m["session"] = session
        m["session_end_ns"] = (session + 1) * _DAY_NS - day_offset_ns
        m["session_turnover"] = 0.0


@njit(error_model="numpy", forceinline=True)
def apply_tick_nb(m, x, t, facts):
    """Take one TRADE, QUOTE or SNAPSHOT tick into the market record and the sample.

    The price of a trade is its price; of a quote the mid; of a snapshot its last price, or the
    mid where it has none.

    Returns:
        Whether the sample has a price; one-sided books have none and move no indicator.
    """
    kind = t["kind"]
    ts = t["ts_event"]
    roll_session_nb(m, ts, facts["day_offset_ns"])
    m["flags"] = t["flags"]
    x["ts_open"] = ts
    x["ts_event"] = ts
    x["ts_recv"] = t["ts_recv"]
    x["instrument"] = t["instrument"]
    x["session"] = m["session"]
    x["pre_close"] = facts["pre_close"]
    x["count"] = 1
    x["volume"] = 0.0
    x["turnover"] = 0.0
    x["buy_volume"] = 0.0
    x["sell_volume"] = 0.0
    x["trades"] = 0
    x["ofi"] = 0.0
    priced = kind != _QUOTE and t["price"] > 0.0
    if priced:
        side = t["side"]
        _trade_nb(m, x, t, side if side != 0 else classify_side_nb(m, t["price"]))
    if kind != _TRADE:
        _quote_nb(m, x, t)
    book_into_sample_nb(m, x)
    price = t["price"] if priced else 0.5 * (m["bid"] + m["ask"])
    _price_nb(x, price)
    return not np.isnan(price)


@njit(error_model="numpy", forceinline=True)
def apply_bar_nb(m, x, b, facts):
    """Take one recorded bar into the market record and the sample; it always has a price."""
    roll_session_nb(m, b["ts_open"], facts["day_offset_ns"])
    m["session_turnover"] += b["turnover"]
    m["last"] = b["close"]
    if b["trades"] > 0 or b["volume"] > 0.0:
        m["traded"] = 1
    m["flags"] = b["flags"]
    if not (np.isnan(b["bid"]) and np.isnan(b["ask"])):
        m["bid"] = b["bid"]
        m["ask"] = b["ask"]
        m["bid_size"] = b["bid_size"]
        m["ask_size"] = b["ask_size"]
        m["ts_quote"] = b["ts_event"]
    copy_sample_nb(x, b)
    x["session"] = m["session"]
    if np.isnan(b["pre_close"]):
        x["pre_close"] = facts["pre_close"]
    return True


@njit(error_model="numpy", forceinline=True)
def copy_sample_nb(x, b):
    """Copy a BAR record field by field (a nested record takes no whole assignment)."""
    x["ts_open"] = b["ts_open"]
    x["ts_event"] = b["ts_event"]
    x["ts_recv"] = b["ts_recv"]
    x["open"] = b["open"]
    x["high"] = b["high"]
    x["low"] = b["low"]
    x["close"] = b["close"]
    x["volume"] = b["volume"]
    x["turnover"] = b["turnover"]
    x["buy_volume"] = b["buy_volume"]
    x["sell_volume"] = b["sell_volume"]
    x["ofi"] = b["ofi"]
    x["bid"] = b["bid"]
    x["ask"] = b["ask"]
    x["bid_size"] = b["bid_size"]
    x["ask_size"] = b["ask_size"]
    x["pre_close"] = b["pre_close"]
    x["instrument"] = b["instrument"]
    x["spec"] = b["spec"]
    x["flags"] = b["flags"]
    x["count"] = b["count"]
    x["trades"] = b["trades"]
    x["session"] = b["session"]


SAMPLE: Final = BAR
"""A sample is a BAR record."""
