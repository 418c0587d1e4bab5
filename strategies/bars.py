"""Time, tick, volume and turnover bars, built from samples one at a time.

A sample is a tick or a finer bar, so bars of bars need no code of their own. Rules:

- A time bar covers [start, start + interval); starts are whole multiples of the interval since
  1970-01-01 00:00 at the venue, so since midnight for an interval that divides the day. It is
  closed by the first sample at or after its end, before that sample counts, or by a heartbeat, or
  by a recorded bar that reaches its end, which it contains whole. An interval without a price makes
  no bar. Time never goes back: a sample whose event time lies before the interval being gathered
  counts into it, and one whose own interval was closed already into the next.
- A tick, volume or turnover bar is closed by the sample that fills it, which it contains whole.
- Prices come from trades; from mids while an instrument has not traded (``basis`` auto).
- Quotes add their order-flow imbalance whether or not they give a price; what a time interval
  without a price gathered is forgotten. The bar ends with the last top of book.
"""

from typing import Final

import numpy as np
from numba import njit

from engine.core.records import BAR
from strategies.bar_spec import BarKind, PriceBasis
from strategies.sample import book_into_sample_nb

BAR_STATE: Final = np.dtype([("cur", BAR), ("end", "i8"), ("closed", "i8")], align=True)
"""The open bar (``cur.count`` is 0 when there is none). For a time bar, ``end``: that of the
interval being gathered, ``closed``: that of the last closed bar; 0 before the first."""

BAR_PARAMS: Final = np.dtype(
    [
        ("interval_ns", "i8"),
        ("size", "f8"),
        ("kind", "i4"),
        ("basis", "i4"),
        ("spec", "i4"),
        ("emit", "i4"),
    ],
    align=True,
)
"""``interval_ns`` for time bars, ``size`` for the others; ``spec`` is the bar's index; ``emit``:
whether closed bars leave the kernel."""

_TIME: Final = int(BarKind.TIME)
_TICK: Final = int(BarKind.TICK)
_VOLUME: Final = int(BarKind.VOLUME)
_TRADE_BASIS: Final = int(PriceBasis.TRADE)
_MID_BASIS: Final = int(PriceBasis.MID)


@njit(error_model="numpy", forceinline=True)
def bar_due_nb(b, p, ts_ns):
    """Say whether a time bar is open and ends at or before ``ts_ns``."""
    return p["kind"] == _TIME and b["cur"]["count"] > 0 and ts_ns >= b["end"]


@njit(error_model="numpy", forceinline=True)
def bar_close_nb(b, p, m, ts_recv):
    """Complete the open bar.

    It gets the book at its close and ``ts_recv``, the time when it was known to be closed; a time
    bar gets its end as event time.
    """
    cur = b["cur"]
    book_into_sample_nb(m, cur)
    cur["spec"] = p["spec"]
    cur["ts_recv"] = ts_recv
    if p["kind"] == _TIME:
        cur["ts_event"] = max(b["end"], cur["ts_event"])


@njit(error_model="numpy", forceinline=True)
def bar_clear_nb(b):
    """Forget the closed bar."""
    b["closed"] = b["end"]
    cur = b["cur"]
    cur["count"] = 0
    cur["trades"] = 0
    cur["volume"] = 0.0
    cur["turnover"] = 0.0
    cur["buy_volume"] = 0.0
    cur["sell_volume"] = 0.0
    cur["ofi"] = 0.0


@njit(error_model="numpy", forceinline=True)
def _interval_end_nb(p, ts_ns, day_offset_ns):
    local = ts_ns + day_offset_ns
    interval = p["interval_ns"]
    return local - local % interval + interval - day_offset_ns


@njit(error_model="numpy", forceinline=True)
def _gather_nb(b, p, x, day_offset_ns):
    """Set which interval a time bar gathers; a later one starts without order flow."""
    end = _interval_end_nb(p, x["ts_open"], day_offset_ns)
    if end <= b["closed"]:
        end = _interval_end_nb(p, b["closed"], day_offset_ns)
    if end > b["end"]:
        b["end"] = end
        b["cur"]["ofi"] = 0.0


@njit(error_model="numpy", forceinline=True)
def _open_nb(b, p, x):
    cur = b["cur"]
    cur["ts_open"] = b["end"] - p["interval_ns"] if p["kind"] == _TIME else x["ts_open"]
    cur["open"] = x["open"]
    cur["high"] = x["high"]
    cur["low"] = x["low"]
    cur["instrument"] = x["instrument"]
    cur["session"] = x["session"]
    cur["pre_close"] = x["pre_close"]
    cur["flags"] = 0


@njit(error_model="numpy", forceinline=True)
def _has_price_nb(p, m, x):
    basis = p["basis"]
    traded = x["trades"] > 0 or x["volume"] > 0.0
    if basis == _TRADE_BASIS:
        return traded
    if basis == _MID_BASIS:
        return True
    return traded or m["traded"] == 0


@njit(error_model="numpy", forceinline=True)
def bar_add_nb(b, p, m, x, day_offset_ns):
    """Add a sample that has a price; return whether that completed the bar."""
    cur = b["cur"]
    kind = p["kind"]
    if kind == _TIME and cur["count"] == 0:
        _gather_nb(b, p, x, day_offset_ns)
    cur["ofi"] += x["ofi"]
    if not _has_price_nb(p, m, x):
        return False
    mid = p["basis"] == _MID_BASIS
    close = 0.5 * (x["bid"] + x["ask"]) if mid else x["close"]
    if np.isnan(close):
        return False
    if cur["count"] == 0:
        _open_nb(b, p, x)
        if mid:
            cur["open"] = close
            cur["high"] = close
            cur["low"] = close
    cur["high"] = max(cur["high"], close if mid else x["high"])
    cur["low"] = min(cur["low"], close if mid else x["low"])
    cur["close"] = close
    cur["ts_event"] = x["ts_event"]
    cur["ts_recv"] = x["ts_recv"]
    cur["count"] += 1
    cur["trades"] += x["trades"]
    cur["volume"] += x["volume"]
    cur["turnover"] += x["turnover"]
    cur["buy_volume"] += x["buy_volume"]
    cur["sell_volume"] += x["sell_volume"]
    if kind == _TIME:
        return x["ts_event"] >= b["end"]
    filled = cur["turnover"]
    if kind == _TICK:
        filled = float(cur["count"])
    elif kind == _VOLUME:
        filled = cur["volume"]
    return filled >= p["size"]
