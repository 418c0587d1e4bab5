"""What one line of a Binance WebSocket capture says; pure, so that garbage can be thrown at it."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

_NS_LINE: Final = re.compile(rb"(\d{1,19}) (.*)", re.DOTALL)
_SECONDS_LINE: Final = re.compile(rb"(\d{1,10})\.(\d{1,9}): (.*)", re.DOTALL)
_CONNECTION: Final = (b"wss://", b"ws://", b"https://", b"http://")
_PARTIAL_BOOK: Final = re.compile(r"@depth(5|10|20)(@|$)")
_MAGNITUDES: Final = ((10**17, 1), (10**14, 10**3), (10**11, 10**6))
"""A clock reading from the first number on counts in so many nanoseconds (from 1973 on)."""
_SYMBOL_LETTERS: Final = 18
_LATEST_MS: Final = 7_258_118_400_000
_LATEST_NS: Final = _LATEST_MS * 10**6


class LineFault(StrEnum):
    """Why a line is refused."""

    BLANK_LINE = "blank_line"
    NOT_A_CAPTURE_LINE = "not_a_capture_line"
    """Neither ``<clock> <payload>`` nor ``<seconds>.<fraction>: <payload>``."""
    NOT_A_MARKET_FRAME = "not_a_market_frame"
    """The recorder's own note of a connection or of what it sent."""
    BAD_LOCAL_TIME = "bad_local_time"
    """The clock's unit differs from that of the file's first line, or it is no date."""
    BAD_JSON = "bad_json"
    BAD_FIELDS = "bad_fields"
    """A trade or bookTicker without the fields it must have."""


class Frame(NamedTuple):
    """One received frame.

    Args:
        ts_recv: The recorder's clock, ns.
        payload: What the venue sent.
    """

    ts_recv: int
    payload: bytes


class LineClock:
    """Splits lines into clock and payload; the file's first line fixes the clock's unit."""

    __slots__ = ("_unit_ns",)

    def __init__(self) -> None:
        self._unit_ns = 0

    def split(self, line: bytes) -> Frame | LineFault:
        """Read one line, without its newline."""
        if not line.strip():
            return LineFault.BLANK_LINE
        if match := _NS_LINE.fullmatch(line):
            return self._whole(int(match[1]), match[2])
        if match := _SECONDS_LINE.fullmatch(line):
            ts_recv = int(match[1]) * 10**9 + int(match[2].ljust(9, b"0"))
            return Frame(ts_recv, match[3]) if ts_recv else LineFault.BAD_LOCAL_TIME
        if line.startswith(_CONNECTION):
            return LineFault.NOT_A_MARKET_FRAME
        return LineFault.NOT_A_CAPTURE_LINE

    def _whole(self, reading: int, payload: bytes) -> Frame | LineFault:
        unit_ns = next((unit for least, unit in _MAGNITUDES if reading >= least), 0)
        self._unit_ns = self._unit_ns or unit_ns
        if not unit_ns or unit_ns != self._unit_ns or reading * unit_ns >= _LATEST_NS:
            return LineFault.BAD_LOCAL_TIME
        return Frame(reading * unit_ns, payload)


class Venue(StrEnum):
    """Binance's markets, as the venue of a symbol."""

    SPOT = "BINANCE"
    USDM = "BINANCE_USDM"
    COINM = "BINANCE_COINM"
    US = "BINANCE_US"


_HOSTS: Final = (
    (b"fstream.binance.com", Venue.USDM),
    (b"dstream.binance.com", Venue.COINM),
    (b"stream.binance.us", Venue.US),
    (b"stream.binance.com", Venue.SPOT),
)
_NAMES: Final = (
    ("usdm", Venue.USDM),
    ("futures", Venue.USDM),
    ("coinm", Venue.COINM),
    ("delivery", Venue.COINM),
    ("cm_", Venue.COINM),
    ("binance_us", Venue.US),
    ("spot", Venue.SPOT),
)


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade or aggregated trade.

    Args:
        symbol: As the venue writes it.
        stream: ``trade`` or ``aggTrade``.
        id: The venue's number.
        ts_event: Transaction time, ns.
        price: In the quote currency, as text and as number.
        size: In the base currency, or contracts.
        side: The aggressor's.
        odd: Not an ordinary match, such as INSURANCE_FUND.
    """

    symbol: str
    stream: str
    id: int
    ts_event: int
    price_text: str
    price: float
    size: float
    side: int
    odd: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """A bookTicker: the top of book.

    Args:
        symbol: As the venue writes it.
        id: The book's update number.
        ts_event: Transaction time, ns; None on spot, which does not send it.
        bid_text: The bid as written.
        bid: Best bid.
        ask: Best ask.
        bid_size: Size at the bid.
        ask_size: Size at the ask.
    """

    symbol: str
    id: int
    ts_event: int | None
    bid_text: str
    bid: float
    ask: float
    bid_size: float
    ask_size: float


class Other(NamedTuple):
    """A frame kept as it came.

    Args:
        known: It is of Binance: another stream of the envelope.
    """

    known: bool


class DepthFrame(NamedTuple):
    """A payload of depth, not yet looked into.

    Args:
        stream: Name of its stream, "" for a snapshot fetched over REST.
        symbol: As the venue writes it, "" if the payload does not say.
        data: The payload, without the envelope.
    """

    stream: str
    symbol: str
    data: dict[str, Any]

    @property
    def is_partial(self) -> bool:
        """A stream of the best 5, 10 or 20 levels: neither diff nor the whole book."""
        return _PARTIAL_BOOK.search(self.stream) is not None

    @property
    def is_snapshot(self) -> bool:
        """A whole book, or as much of it as was asked for."""
        return "lastUpdateId" in self.data


def parse_payload(payload: bytes) -> Trade | Quote | DepthFrame | Other | LineFault:
    """Read one JSON payload."""
    try:
        outer = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return LineFault.BAD_JSON
    if not isinstance(outer, dict):
        return Other(known=False)
    data = outer.get("data") if "stream" in outer else outer
    if not isinstance(data, dict):
        return Other(known="stream" in outer)
    try:
        return _parse_event(outer, data)
    except (KeyError, TypeError, ValueError):
        return LineFault.BAD_FIELDS


def _parse_event(outer: dict[str, Any], data: dict[str, Any]) -> Trade | Quote | DepthFrame | Other:
    event = data.get("e") or str(outer.get("stream", "")).partition("@")[2]
    if event in ("trade", "aggTrade"):
        return Trade(
            symbol=_symbol(data),
            stream=event,
            id=_id(data["t" if event == "trade" else "a"]),
            ts_event=_time_ns(data["T"] if "T" in data else data["E"]),
            price_text=str(data["p"]),
            price=float(data["p"]),
            size=float(data["q"]),
            side=-1 if _maker(data["m"]) else 1,
            odd=data.get("X", "MARKET") != "MARKET",
        )
    if event == "bookTicker":
        time = data.get("T", data.get("E"))
        return Quote(
            symbol=_symbol(data),
            id=_id(data["u"]),
            ts_event=None if time is None else _time_ns(time),
            bid_text=str(data["b"]),
            bid=float(data["b"]),
            ask=float(data["a"]),
            bid_size=float(data["B"]),
            ask_size=float(data["A"]),
        )
    if event == "depthUpdate" or "lastUpdateId" in data:
        return _depth_frame(str(outer.get("stream", "")), data)
    return Other(known="stream" in outer)


def _depth_frame(stream: str, data: dict[str, Any]) -> DepthFrame:
    symbol = data.get("s", data.get("symbol", stream.partition("@")[0].upper()))
    return DepthFrame(stream, symbol if _is_symbol(symbol) else "", data)


def _is_symbol(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and 0 < len(value) <= _SYMBOL_LETTERS


def _symbol(data: dict[str, Any]) -> str:
    symbol = data["s"]
    if not _is_symbol(symbol):
        raise ValueError(symbol)
    return str(symbol)


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    return value


def _maker(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _time_ns(value: object) -> int:
    time_ms = _id(value)
    if not 0 < time_ms < _LATEST_MS:
        raise ValueError(value)
    return time_ms * 10**6


def guess_venue(lines: list[bytes], name: str) -> Venue | None:
    """Tell the market of a capture from its first lines, else from its file's name.

    The address connected to decides; then fields that only one market sends (``ps``: coin-margined;
    ``pu``, ``X`` or a bookTicker with ``e``: dollar-margined; a trade's ``M`` or a bookTicker
    without ``e``: spot, of Binance US if the name says so); then the name.
    """
    for line in lines:
        for host, venue in _HOSTS:
            if line.startswith(_CONNECTION) and host in line:
                return venue
    by_name = next((venue for part, venue in _NAMES if part in name.lower()), None)
    for line in lines:
        venue_seen = _venue_of(line)
        if venue_seen is not None:
            is_us = venue_seen is Venue.SPOT and by_name is Venue.US
            return Venue.US if is_us else venue_seen
    return by_name


def _venue_of(line: bytes) -> Venue | None:
    frame = LineClock().split(line)
    if not isinstance(frame, Frame):
        return None
    try:
        outer = orjson.loads(frame.payload)
    except orjson.JSONDecodeError:
        return None
    data = outer.get("data") if isinstance(outer, dict) and "stream" in outer else None
    if not isinstance(data, dict):
        return None
    if "ps" in data:
        return Venue.COINM
    is_ticker = str(outer["stream"]).endswith("@bookTicker")
    if "pu" in data or "X" in data or (is_ticker and "e" in data):
        return Venue.USDM
    return Venue.SPOT if is_ticker or (data.get("e") == "trade" and "M" in data) else None
