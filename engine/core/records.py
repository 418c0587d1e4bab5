"""The fixed-size records that cross the wire, lie on disk and enter the kernel.

All are little-endian, aligned and readable with ``numpy.frombuffer``. Prices are float64 in the
instrument's quote currency, sizes float64 in its unit of trading, times int64 nanoseconds since
the Unix epoch (UTC). A quantity that the venue did not give is NaN for prices and 0 for sizes.
"""

from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAGIC: Final = 0x31514548
"""``b"HEQ1"`` read as a little-endian u4."""
VERSION: Final = 1
HEADER_BYTES: Final = 64
MAX_FRAME_RECORDS: Final = 256
"""Most records of a sequenced schema in one frame, on the wire and on disk."""
MAX_FRAME_BYTES: Final = HEADER_BYTES + MAX_FRAME_RECORDS * 160
"""Largest frame of a sequenced schema; a RAW frame may be as long as MAX_RAW_BYTES says."""
MAX_RAW_BYTES: Final = 1 << 20
ALL_INSTRUMENTS: Final = 0xFFFF_FFFF
"""The instrument of a record that concerns every instrument (heartbeat, gap)."""
MAX_INSTRUMENTS: Final = 65_536


class Schema(IntEnum):
    """What a frame's records are."""

    INSTRUMENTS = 1
    TICK = 2
    BAR = 3
    DEPTH5 = 4
    DEPTH10 = 5
    RAW = 6
    """Bytes as a venue sent them, kept for later decoding: ``count`` is their length."""


SEQUENCED: Final = frozenset({Schema.TICK, Schema.BAR, Schema.DEPTH5, Schema.DEPTH10})
"""Schemas whose records consume sequence numbers. A frame of any other schema carries the
sequence number of the next sequenced record in ``first_seq`` and consumes none."""


class TickKind(IntEnum):
    """Which fields of a TICK record mean something."""

    HEARTBEAT = 0
    """Time passed at the gateway: only the times count; instrument is ALL_INSTRUMENTS."""
    TRADE = 1
    """price, size, turnover, side."""
    QUOTE = 2
    """bid, ask, bid_size, ask_size: the top of book from now on."""
    SNAPSHOT = 3
    """Both: the top of book, and the trading since the previous snapshot (price is the last
    price; size and turnover are sums and may be 0)."""
    GAP = 4
    """Records were lost before this one. Made by the receiver, never sent: no sequence number."""


class TickFlag(IntFlag):
    """Facts about a tick that is kept although something about it is odd."""

    CROSSED = 1
    """bid > ask."""
    LOCKED = 2
    """bid == ask."""
    ONE_SIDED = 4
    """Only one side of the book is known (the other price is NaN)."""
    TIME_BACK = 8
    """The event time is earlier than that instrument's previous one."""
    DUPLICATE_ID = 16
    """The venue's own sequence number or trade id was seen before."""
    OUT_OF_SESSION = 32
    """Outside the venue's continuous trading session."""
    ODD_CONDITION = 64
    """The venue or vendor marked the print as irregular or suspicious."""
    AUCTION = 128
    """Indicative or call-auction price."""
    HALTED = 256
    """The instrument was not trading."""
    NO_SIZE = 512
    """The source gives quotes without sizes; sizes are 0."""
    RESENT = 1024
    """Came again after a loss; accepted for the first time."""
    UNCERTAIN = 2048
    """Depth only: it reaches beyond the prices that its book's snapshot covered, so levels may be
    missing from it."""


class Board(IntEnum):
    """The rulebook an instrument trades under."""

    CRYPTO = 0
    US_EQUITY = 1
    FX = 2
    FUTURES = 3
    CN_MAIN = 10
    CN_MAIN_ST = 11
    CN_CHINEXT = 12
    CN_STAR = 13
    CN_BEIJING = 14
    OTHER = 99


FRAME_HEADER: Final = np.dtype(
    {
        "names": [
            "magic", "version", "schema", "epoch", "first_seq", "count", "flags", "ts_send",
            "ts_intended", "gateway", "record_bytes", "reserved", "crc",
        ],
        "formats": [
            "<u4", "<u2", "<u2", "<u8", "<u8", "<u4", "<u4", "<i8", "<i8", "<u4", "<u2", "<u2",
            "<u4",
        ],
        "offsets": [0, 4, 6, 8, 16, 24, 28, 32, 40, 48, 52, 54, 60],
        "itemsize": HEADER_BYTES,
    }
)  # fmt: skip
"""``ts_send``: the gateway's wall clock when the frame left; ``ts_intended``: when it should have
left (a paced player sets it; otherwise equal to ts_send). ``crc``: CRC-32 (zlib's) over header
bytes 0 to 59 followed by the records. Bytes 56 to 59 are zero."""


class FrameFlag(IntFlag):
    """Facts about a frame as a whole."""

    RESEND = 1
    """Sent before; sent again on request."""


TICK: Final = np.dtype(
    [
        ("ts_event", "<i8"),
        ("ts_recv", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("turnover", "<f8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("bid_size", "<f8"),
        ("ask_size", "<f8"),
        ("instrument", "<u4"),
        ("kind", "u1"),
        ("side", "i1"),
        ("flags", "<u2"),
    ],
    align=True,
)
"""80 bytes. ``ts_event``: the venue's time; ``ts_recv``: the gateway's receive time. ``turnover``:
sum of price times size over the trading the record covers, without a contract multiplier.
``side``: the aggressor's, +1 buy, -1 sell, 0 unknown. ``flags``: TickFlag."""

BAR: Final = np.dtype(
    [
        ("ts_open", "<i8"),
        ("ts_event", "<i8"),
        ("ts_recv", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<f8"),
        ("turnover", "<f8"),
        ("buy_volume", "<f8"),
        ("sell_volume", "<f8"),
        ("ofi", "<f8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("bid_size", "<f8"),
        ("ask_size", "<f8"),
        ("pre_close", "<f8"),
        ("instrument", "<u4"),
        ("spec", "<u2"),
        ("flags", "<u2"),
        ("count", "<u4"),
        ("trades", "<u4"),
        ("session", "<i4"),
        ("reserved", "<i4"),
    ],
    align=True,
)
"""160 bytes. A bar of any kind, and also the *sample* an indicator reads: a tick is a sample with
open = high = low = close. ``ts_event``: the close time (the interval's end for a time bar, the last
tick's event time otherwise). ``buy_volume``/``sell_volume``: by the aggressor's side. ``ofi``: the
sum of the order-flow imbalance of the quotes inside. ``bid`` to ``ask_size``: the top of book at
the close (NaN/0 if unknown). ``pre_close``: the exchange's ex-right reference price, NaN if
unknown. ``spec``: the bar specification's index. ``count``: samples inside; ``trades``: trades
inside. ``session``: the trading day, in days since 1970-01-01 at the venue."""


def _depth(levels: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("ts_event", "<i8"),
            ("ts_recv", "<i8"),
            ("update_id", "<u8"),
            ("instrument", "<u4"),
            ("flags", "<u2"),
            ("levels", "<u2"),
            ("bid", "<f8", (levels,)),
            ("ask", "<f8", (levels,)),
            ("bid_size", "<f8", (levels,)),
            ("ask_size", "<f8", (levels,)),
        ],
        align=True,
    )


DEPTH5: Final = _depth(5)
DEPTH10: Final = _depth(10)
"""Best first; unused levels are NaN with size 0. ``update_id``: the venue's number of the book's
last change, 0 if it gives none. ``levels``: levels in use on the side that has more; 0 says that
from here on the book is not known. ``flags``: TickFlag of the book."""

INSTRUMENT: Final = np.dtype(
    [
        ("id", "<u4"),
        ("board", "<u2"),
        ("price_decimals", "<u2"),
        ("symbol", "S32"),
        ("calendar", "S16"),
        ("tick_size", "<f8"),
        ("lot", "<f8"),
        ("multiplier", "<f8"),
        ("pre_close", "<f8"),
        ("limit_up", "<f8"),
        ("limit_down", "<f8"),
        ("day_offset_s", "<i4"),
        ("flags", "<u4"),
    ],
    align=True,
)
"""112 bytes. ``id``: dense, from 0. ``symbol``: ``SYMBOL.VENUE``, ASCII. ``calendar``: the name of
a trading calendar (an exchange's MIC as exchange_calendars has it, or ``24/7``). ``tick_size`` and
``lot``: 0 if unknown. ``pre_close``, ``limit_up``, ``limit_down``: NaN if unknown.
``day_offset_s``: seconds added to UTC so that whole days are the venue's trading days."""

RECORD_DTYPES: Final[dict[Schema, np.dtype[Any]]] = {
    Schema.INSTRUMENTS: INSTRUMENT,
    Schema.TICK: TICK,
    Schema.BAR: BAR,
    Schema.DEPTH5: DEPTH5,
    Schema.DEPTH10: DEPTH10,
    Schema.RAW: np.dtype("u1"),
}

CANDIDATE: Final = np.dtype(
    [
        ("row", "<i8"),
        ("ts_event", "<i8"),
        ("ts_recv", "<i8"),
        ("price", "<f8"),
        ("strength", "<f8"),
        ("confidence", "<f8"),
        ("edge_bps", "<f8"),
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("bid_size", "<f8"),
        ("ask_size", "<f8"),
        ("pre_close", "<f8"),
        ("session_turnover", "<f8"),
        ("ts_quote", "<i8"),
        ("window", "<i8"),
        ("instrument", "<u4"),
        ("strategy", "<u2"),
        ("flags", "<u2"),
        ("side", "i1"),
        ("model", "<i2"),
        ("session", "<i4"),
    ],
    align=True,
)
"""What a rule proposes, before the risk gate. ``row``: the index in the burst of the tick that
caused it (the shell turns it into a sequence number). ``price``: the reference price (last trade,
or mid where the instrument has only quotes). ``edge_bps``: the rule's own expected move in basis
points, NaN if it has no estimate. ``flags``: TickFlag of the last tick of the instrument.
``ts_quote``: event time of the book's last change, 0 if there is no book. ``session_turnover``:
traded value since the trading day began. ``side``: +1 buy, -1 sell, 0 if a model is to say.
``model``: the model whose score it waits for, -1 for none. ``window``: the number of the newest row
of the feature window to be scored, 0 if the window is not whole."""

Ticks = npt.NDArray[np.void]
"""A structured array of TICK, shape (N,)."""
Bars = npt.NDArray[np.void]
"""A structured array of BAR, shape (N,)."""
Instruments = npt.NDArray[np.void]
"""A structured array of INSTRUMENT, shape (I,), ordered by id, ids dense from 0."""


def empty_ticks(count: int) -> Ticks:
    """Make ``count`` zeroed TICK records whose prices are NaN."""
    ticks = np.zeros(count, TICK)
    for name in ("price", "bid", "ask"):
        ticks[name] = np.nan
    return ticks


def empty_bars(count: int) -> Bars:
    """Make ``count`` zeroed BAR records whose prices are NaN."""
    bars = np.zeros(count, BAR)
    for name in ("open", "high", "low", "close", "bid", "ask", "pre_close"):
        bars[name] = np.nan
    return bars


def id_bound(instruments: Instruments) -> int:
    """Return one more than the highest id, 0 if there are no instruments."""
    return int(instruments["id"].max()) + 1 if len(instruments) else 0


def instrument_row(
    symbol: str,
    *,
    id: int = 0,  # noqa: A002 - the field's name
    board: Board = Board.OTHER,
    calendar: str = "24/7",
    tick_size: float = 0.0,
    lot: float = 0.0,
    multiplier: float = 1.0,
    price_decimals: int = 2,
    pre_close: float = float("nan"),
    limit_up: float = float("nan"),
    limit_down: float = float("nan"),
    day_offset_s: int = 0,
) -> Instruments:
    """Make one INSTRUMENT record, shape (1,).

    Raises:
        ValueError: symbol or calendar is not ASCII or too long for its field.
    """
    if not symbol.isascii() or not 0 < len(symbol) <= INSTRUMENT["symbol"].itemsize:
        raise ValueError(f"symbol {symbol!r} must be 1 to 32 ASCII characters")
    if not calendar.isascii() or not 0 < len(calendar) <= INSTRUMENT["calendar"].itemsize:
        raise ValueError(f"calendar {calendar!r} must be 1 to 16 ASCII characters")
    row = np.zeros(1, INSTRUMENT)
    row["id"] = id
    row["board"] = board
    row["price_decimals"] = price_decimals
    row["symbol"] = symbol.encode()
    row["calendar"] = calendar.encode()
    row["tick_size"] = tick_size
    row["lot"] = lot
    row["multiplier"] = multiplier
    row["pre_close"] = pre_close
    row["limit_up"] = limit_up
    row["limit_down"] = limit_down
    row["day_offset_s"] = day_offset_s
    return row
