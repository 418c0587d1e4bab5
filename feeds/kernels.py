"""Compiled CRC-32, cleaning rules and frame decoding: all that runs once a tick on the way in.

One file on purpose: a cached kernel may only call functions of its own file, or an edit to the
other file would go unnoticed. For the same reason the wire's constants are repeated here; a test
holds them to ``engine.core.records``.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
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


def _crc_tables() -> npt.NDArray[np.uint32]:
    tables = np.zeros((16, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB8_8320 if crc & 1 else 0)
        tables[0, byte] = crc
    for row in range(1, 16):
        tables[row] = (tables[row - 1] >> 8) ^ tables[0][tables[row - 1] & 0xFF]
    return tables


_T: Final = _crc_tables()
_S8: Final = np.uint64(8)
_S16: Final = np.uint64(16)
_S24: Final = np.uint64(24)
_S32: Final = np.uint64(32)
_S40: Final = np.uint64(40)
_S48: Final = np.uint64(48)
_S56: Final = np.uint64(56)


@njit(error_model="numpy", cache=True, nogil=True)
def _crc_words_nb(words, start, stop, crc):  # type: ignore[no-untyped-def] # compiled
    """Advance a raw (inverted) CRC over whole u8 words, two at a time (Intel's slicing-by-16)."""
    c = np.uint64(crc)
    i = start
    while i + 2 <= stop:
        a = words[i] ^ c
        b = words[i + 1]
        c = np.uint64(
            _T[15, np.uint8(a)] ^ _T[14, np.uint8(a >> _S8)]
            ^ _T[13, np.uint8(a >> _S16)] ^ _T[12, np.uint8(a >> _S24)]
            ^ _T[11, np.uint8(a >> _S32)] ^ _T[10, np.uint8(a >> _S40)]
            ^ _T[9, np.uint8(a >> _S48)] ^ _T[8, np.uint8(a >> _S56)]
            ^ _T[7, np.uint8(b)] ^ _T[6, np.uint8(b >> _S8)]
            ^ _T[5, np.uint8(b >> _S16)] ^ _T[4, np.uint8(b >> _S24)]
            ^ _T[3, np.uint8(b >> _S32)] ^ _T[2, np.uint8(b >> _S40)]
            ^ _T[1, np.uint8(b >> _S48)] ^ _T[0, np.uint8(b >> _S56)]
        )  # fmt: skip
        i += 2
    if i < stop:
        a = words[i] ^ c
        c = np.uint64(
            _T[7, np.uint8(a)] ^ _T[6, np.uint8(a >> _S8)]
            ^ _T[5, np.uint8(a >> _S16)] ^ _T[4, np.uint8(a >> _S24)]
            ^ _T[3, np.uint8(a >> _S32)] ^ _T[2, np.uint8(a >> _S40)]
            ^ _T[1, np.uint8(a >> _S48)] ^ _T[0, np.uint8(a >> _S56)]
        )  # fmt: skip
    return c


@njit(error_model="numpy", cache=True, nogil=True)
def crc32_nb(buf, start, stop, crc):  # type: ignore[no-untyped-def] # compiled
    """Return zlib's CRC-32 of ``buf[start:stop]``, going on from ``crc`` (0 to begin).

    Args:
        buf: u1, shape (N,), its first byte at an address that is a multiple of 8.
        start: First byte.
        stop: One past the last byte.
        crc: CRC of what came before.
    """
    c = np.uint64(crc) ^ np.uint64(0xFFFF_FFFF)
    i = start
    while i < stop and i % 8 != 0:
        c = np.uint64(_T[0, np.uint8(c) ^ buf[i]]) ^ (c >> _S8)
        i += 1
    count = (stop - i) // 8
    words = buf[i : i + count * 8].view(np.uint64)
    c = np.uint64(_crc_words_nb(words, 0, count, c))
    for k in range(i + count * 8, stop):
        c = np.uint64(_T[0, np.uint8(c) ^ buf[k]]) ^ (c >> _S8)
    return np.uint32(c ^ np.uint64(0xFFFF_FFFF))


@njit(error_model="numpy", cache=True, nogil=True)
def _amount_fault_nb(value):  # type: ignore[no-untyped-def] # compiled
    """Fault of a size or turnover: finite and not negative is good."""
    if not np.isfinite(value):
        return 5
    return 6 if value < 0.0 else 0


@njit(error_model="numpy", cache=True, nogil=True)
def _price_fault_nb(price):  # type: ignore[no-untyped-def] # compiled
    """Fault of a price that must be there."""
    fault = _amount_fault_nb(price)
    return 7 if fault == 0 and price == 0.0 else fault


@njit(error_model="numpy", cache=True, nogil=True)
def _side_fault_nb(price, size):  # type: ignore[no-untyped-def] # compiled
    """Fault of one side of the book: a NaN price is a missing side."""
    fault = _amount_fault_nb(size)
    if fault == 0 and not np.isnan(price):
        fault = _price_fault_nb(price)
    return fault


@njit(error_model="numpy", cache=True, nogil=True)
def _trade_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _price_fault_nb(tick["price"])
    if fault == 0:
        fault = _amount_fault_nb(tick["size"])
    if fault == 0:
        fault = _amount_fault_nb(tick["turnover"])
    if fault == 0 and not -1 <= tick["side"] <= 1:
        fault = 9
    return fault


@njit(error_model="numpy", cache=True, nogil=True)
def _book_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _side_fault_nb(tick["bid"], tick["bid_size"])
    if fault == 0:
        fault = _side_fault_nb(tick["ask"], tick["ask_size"])
    return fault


@njit(error_model="numpy", cache=True, nogil=True)
def _snapshot_fault_nb(tick):  # type: ignore[no-untyped-def] # compiled
    fault = _book_fault_nb(tick)
    if fault != 0:
        return fault
    if not np.isnan(tick["price"]):
        return _trade_fault_nb(tick)
    if tick["size"] != 0.0 or tick["turnover"] != 0.0:
        return 5
    return 8 if np.isnan(tick["bid"]) and np.isnan(tick["ask"]) else 0


@njit(error_model="numpy", cache=True, nogil=True)
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


@njit(error_model="numpy", cache=True, nogil=True)
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


@njit(error_model="numpy", cache=True, nogil=True)
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


@njit(error_model="numpy", cache=True, nogil=True)
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
