"""The cleaning rules, compiled: which ticks and bars are refused, and which are flagged.

Self-contained, like every file with a cached kernel; a test holds the repeated constants to
``engine.core.records``.
"""

from enum import IntEnum
from typing import Final

import numpy as np
from numba import njit

ALL: Final = 0xFFFF_FFFF
HEARTBEAT: Final = 0
TRADE: Final = 1
QUOTE: Final = 2
SNAPSHOT: Final = 3
CROSSED: Final = 1
LOCKED: Final = 2
ONE_SIDED: Final = 4
TIME_BACK: Final = 8
NO_SIZE: Final = 512
AHEAD_NS: Final = 86_400_000_000_000
"""An event time further than this ahead of the receive time is refused: one day."""


class TickFault(IntEnum):
    """Why a tick or a bar is refused; the first that applies, in the order asked."""

    NONE = 0
    UNKNOWN_KIND = 1
    """Not a heartbeat, trade, quote or snapshot (a gap is never sent)."""
    NO_TIME = 2
    """``ts_event`` or ``ts_recv`` is zero or negative."""
    TIME_AHEAD = 3
    """``ts_event`` is more than a day ahead of ``ts_recv``."""
    UNKNOWN_INSTRUMENT = 4
    """Not in the stream's definitions; a heartbeat must carry ALL_INSTRUMENTS."""
    NAN = 5
    """NaN or infinite where the kind needs a number."""
    NEGATIVE = 6
    """A negative price, size or turnover."""
    ZERO_PRICE = 7
    """A price of zero; a missing side of the book is NaN."""
    NO_SIDE = 8
    """A quote with neither side, or a snapshot with neither side nor last price."""
    UNKNOWN_SIDE = 9
    """The aggressor's side is not -1, 0 or +1."""
    BAD_RANGE = 10
    """A bar whose high is below, or low above, one of its other prices."""


@njit(error_model="numpy", nogil=True, forceinline=True)
def _amount_fault_nb(value):  # type: ignore[no-untyped-def] # compiled
    """Fault of a size or turnover: finite and not negative is good."""
    if not np.isfinite(value):
        return 5
    return 6 if value < 0.0 else 0


@njit(error_model="numpy", nogil=True, forceinline=True)
def _price_fault_nb(price):  # type: ignore[no-untyped-def] # compiled
    """Fault of a price that must be there."""
    fault = _amount_fault_nb(price)
    return 7 if fault == 0 and price == 0.0 else fault


@njit(error_model="numpy", nogil=True, forceinline=True)
def _side_fault_nb(price, size):  # type: ignore[no-untyped-def] # compiled
    """Fault of one side of the book: a NaN price is a missing side."""
    fault = _amount_fault_nb(size)
    if fault == 0 and not np.isnan(price):
        fault = _price_fault_nb(price)
    return fault


@njit(error_model="numpy", nogil=True, forceinline=True)
def _trade_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _price_fault_nb(tick["price"])
    if fault == 0:
        fault = _amount_fault_nb(tick["size"])
    if fault == 0:
        fault = _amount_fault_nb(tick["turnover"])
    if fault == 0 and not -1 <= tick["side"] <= 1:
        fault = 9
    return fault


@njit(error_model="numpy", nogil=True, forceinline=True)
def _book_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _side_fault_nb(tick["bid"], tick["bid_size"])
    if fault == 0:
        fault = _side_fault_nb(tick["ask"], tick["ask_size"])
    return fault


@njit(error_model="numpy", nogil=True, forceinline=True)
def _snapshot_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _book_fault_nb(tick)
    if fault != 0:
        return fault
    if not np.isnan(tick["price"]):
        return _trade_fault_nb(tick)
    if tick["size"] != 0.0 or tick["turnover"] != 0.0:
        return 5
    return 8 if np.isnan(tick["bid"]) and np.isnan(tick["ask"]) else 0


@njit(error_model="numpy", nogil=True, forceinline=True)
def fault_nb(tick, known):  # type: ignore[no-untyped-def] # compiled
    """Return the TickFault of one TICK record, 0 if it is good.

    Args:
        tick: One TICK record; only the fields its kind gives a meaning to are asked.
        known: Instruments defined: ids 0 to known - 1 are good.
    """
    kind = tick["kind"]
    if kind > 3:
        return 1
    if tick["ts_event"] <= 0 or tick["ts_recv"] <= 0:
        return 2
    if tick["ts_event"] - tick["ts_recv"] > AHEAD_NS:
        return 3
    if kind == HEARTBEAT:
        return 0 if tick["instrument"] == ALL else 4
    if tick["instrument"] >= known:
        return 4
    if kind == TRADE:
        return _trade_fault_nb(tick)
    if kind == SNAPSHOT:
        return _snapshot_fault_nb(tick)
    if np.isnan(tick["bid"]) and np.isnan(tick["ask"]):
        return 8
    return _book_fault_nb(tick)


@njit(error_model="numpy", nogil=True, forceinline=True)
def book_flags_nb(tick):  # type: ignore[no-untyped-def] # compiled
    """Return the flags that the book of a good quote or snapshot calls for, 0 for other kinds."""
    if tick["kind"] != QUOTE and tick["kind"] != SNAPSHOT:
        return 0
    bid = tick["bid"]
    ask = tick["ask"]
    if np.isnan(bid) or np.isnan(ask):
        return 0 if np.isnan(bid) and np.isnan(ask) else ONE_SIDED
    if bid < ask:
        return 0
    return CROSSED if bid > ask else LOCKED


@njit(error_model="numpy", nogil=True, forceinline=True)
def _normalise_nb(tick):  # type: ignore[no-untyped-def] # compiled
    """Write a missing side or last price, given as 0, as NaN; a missing side has no size."""
    if tick["bid"] == 0.0:
        tick["bid"] = np.nan
    if tick["ask"] == 0.0:
        tick["ask"] = np.nan
    if np.isnan(tick["bid"]):
        tick["bid_size"] = 0.0
    if np.isnan(tick["ask"]):
        tick["ask_size"] = 0.0
    if tick["kind"] == SNAPSHOT and tick["price"] == 0.0 and tick["size"] == 0.0:
        tick["price"] = np.nan


@njit(error_model="numpy", nogil=True, forceinline=True)
def _without_size_nb(tick):  # type: ignore[no-untyped-def] # compiled
    """Whether a book has a side, but no size on either."""
    if np.isnan(tick["bid"]) and np.isnan(tick["ask"]):
        return False
    return tick["bid_size"] == 0.0 and tick["ask_size"] == 0.0


@njit(error_model="numpy", cache=True, nogil=True)
def clean_nb(last_event, refused, ticks, count, known):  # type: ignore[no-untyped-def] # compiled
    """Drop the faulty ticks in place and flag the odd ones; return how many are kept.

    Args:
        last_event: i8, shape (I,): last event time of each instrument, updated.
        refused: i8, shape (TickFault,): refusals by fault, counted up.
        ticks: TICK, shape (N,): the kept ones are moved to the front.
        count: Ticks to look at.
        known: Instruments defined.
    """
    kept = 0
    for i in range(count):
        tick = ticks[i]
        kind = tick["kind"]
        if kind in (QUOTE, SNAPSHOT):
            _normalise_nb(tick)
        fault = fault_nb(tick, known)
        if fault != 0:
            refused[fault] += 1
            continue
        flags = tick["flags"] | book_flags_nb(tick)
        if kind != HEARTBEAT:
            instrument = np.int64(tick["instrument"])
            if tick["ts_event"] < last_event[instrument]:
                flags |= TIME_BACK
            else:
                last_event[instrument] = tick["ts_event"]
        if kind in (QUOTE, SNAPSHOT) and _without_size_nb(tick):
            flags |= NO_SIZE
        tick["flags"] = flags
        if kept != i:
            ticks[kept] = tick
        kept += 1
    return kept


@njit(error_model="numpy", nogil=True, forceinline=True)
def bar_fault_nb(bar, known):  # type: ignore[no-untyped-def] # compiled
    """Return the TickFault of one BAR record, 0 if it is good."""
    if bar["ts_event"] <= 0 or bar["ts_recv"] <= 0:
        return 2
    if bar["ts_event"] - bar["ts_recv"] > AHEAD_NS:
        return 3
    if bar["instrument"] >= known:
        return 4
    low = bar["low"]
    high = bar["high"]
    fault = max(_price_fault_nb(low), _price_fault_nb(high))
    fault = max(fault, _price_fault_nb(bar["open"]), _price_fault_nb(bar["close"]))
    fault = max(fault, _amount_fault_nb(bar["volume"]), _amount_fault_nb(bar["turnover"]))
    if fault == 0 and (
        high < max(low, bar["open"], bar["close"]) or low > min(bar["open"], bar["close"])
    ):
        fault = 10
    return fault


@njit(error_model="numpy", cache=True, nogil=True)
def faults_nb(ticks, known, faults):  # type: ignore[no-untyped-def] # compiled
    """Normalise ticks in place and write the TickFault of each; drops and counts nothing.

    Args:
        ticks: TICK, shape (N,), normalised as by ``clean_nb``.
        known: Instruments defined.
        faults: u1, shape (N,), written; 0 where the tick is good.
    """
    for i in range(len(ticks)):
        tick = ticks[i]
        if tick["kind"] in (QUOTE, SNAPSHOT):
            _normalise_nb(tick)
        faults[i] = fault_nb(tick, known)
