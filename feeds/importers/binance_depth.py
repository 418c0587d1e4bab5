"""Depth diffs and snapshots of a Binance capture, and the books rebuilt from them on its way in."""

from collections import Counter
from typing import Any, Final

import numpy as np

from engine.core.records import TickFlag
from feeds.books.binance_book import BinanceBook, BookChange
from feeds.books.binance_rules import DepthDiff, DepthSnapshot
from feeds.books.depth_records import DepthRecords, depth_record
from feeds.books.level_book import NO_LEVELS, Best, Levels
from feeds.importers.binance_frames import DepthFrame
from feeds.tick_check import AHEAD_NS

_CUTS: Final = frozenset((5, 10, 20, 50, 100, 500, 1000, 5000))
"""Numbers of levels a snapshot may have been asked for; one with as many on a side was cut."""
_LATEST_MS: Final = 7_258_118_400_000
_MOST_ID: Final = 1 << 62


def read_diff(data: dict[str, Any], ts_recv: int) -> DepthDiff:
    """Read a ``depthUpdate``.

    Args:
        data: The payload.
        ts_recv: The recorder's clock, ns.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of another type.
        ValueError: a number is none, out of range, or the time more than a day ahead.
    """
    first, final = _id(data["U"]), _id(data["u"])
    if first > final:
        raise ValueError(f"U {first} is above u {final}")
    previous = _id(data["pu"]) if "pu" in data else None
    ts_event = _time_ns(data.get("T", data.get("E")), ts_recv)
    return DepthDiff(first, final, previous, ts_event, _levels(data["b"]), _levels(data["a"]))


def read_snapshot(data: dict[str, Any], ts_recv: int) -> DepthSnapshot:
    """Read a snapshot as the REST interface gives it.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of another type.
        ValueError: a number is none, out of range, or the time more than a day ahead.
    """
    bids, asks = _levels(data["bids"]), _levels(data["asks"])
    ts_event = _time_ns(data.get("T", data.get("E")), ts_recv)
    whole = len(bids) not in _CUTS and len(asks) not in _CUTS
    return DepthSnapshot(_id(data["lastUpdateId"]), ts_event, bids, asks, whole)


def first_price(data: dict[str, Any]) -> str:
    """Return the text of a payload's first price, "" if it holds no level."""
    for side in ("b", "a", "bids", "asks"):
        levels = data.get(side)
        if isinstance(levels, list) and levels and isinstance(levels[0], list) and levels[0]:
            return str(levels[0][0])
    return ""


def _levels(pairs: object) -> Levels:
    if not isinstance(pairs, list):
        raise TypeError(pairs)
    if not pairs:
        return NO_LEVELS
    levels = np.array([(float(pair[0]), float(pair[1])) for pair in pairs])
    if not np.isfinite(levels).all() or levels[:, 0].min() <= 0 or levels[:, 1].min() < 0:
        raise ValueError("a price or size that cannot be")
    return levels


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(value)
    if not 0 <= value < _MOST_ID:
        raise ValueError(value)
    return value


def _time_ns(value: object, ts_recv: int) -> int:
    if value is None:
        return ts_recv
    time_ns = _id(value) * 10**6
    if not 0 < time_ns < _LATEST_MS * 10**6 or time_ns - ts_recv > AHEAD_NS:
        raise ValueError(value)
    return time_ns


class DepthBooks:
    """The books of one import, by instrument; turns what changes their tops into depth records.

    Args:
        levels: Levels of the records, 5 or 10.
    """

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._books: dict[int, BinanceBook] = {}
        self._latest: dict[int, int] = {}
        self.counts: Counter[str] = Counter()

    def on_frame(self, number: int, frame: DepthFrame, ts_recv: int) -> DepthRecords | None:
        """Take a diff or a snapshot of an instrument; return a record if its top changed."""
        if frame.is_partial:
            self.counts["partial_books"] += 1
            return None
        book = self._book(number)
        try:
            if frame.is_snapshot:
                change = book.on_snapshot(read_snapshot(frame.data, ts_recv))
            else:
                change = book.on_diff(read_diff(frame.data, ts_recv))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            change = book.on_bad()
        return self._record(number, book, change, ts_recv)

    def on_ticker(
        self, number: int, update_id: int, best: Best, ts_recv: int
    ) -> DepthRecords | None:
        """Compare a bookTicker with its book, if it has one; return a record if that loses it."""
        book = self._books.get(number)
        if book is None:
            return None
        return self._record(number, book, book.on_ticker(update_id, best), ts_recv)

    def totals(self) -> Counter[str]:
        """Return what all books have seen, by name, without what never came."""
        totals = Counter(self.counts)
        for book in self._books.values():
            counts = book.counts
            for name in counts.__slots__:
                totals[name] += getattr(counts, name)
            totals["still_waiting"] += book.waiting
            totals["levels_dropped"] += book.levels.dropped
            totals["compared"] += book.check.compared
            totals["different"] += book.check.different
        return +totals

    def _book(self, number: int) -> BinanceBook:
        if number not in self._books:
            self._books[number] = BinanceBook(self._levels)
        return self._books[number]

    def _record(
        self, number: int, book: BinanceBook, change: BookChange, ts_recv: int
    ) -> DepthRecords | None:
        if change is BookChange.NONE:
            return None
        flags = book.levels.flags
        if book.ts_event < self._latest.get(number, 0):
            flags |= TickFlag.TIME_BACK
        self._latest[number] = max(self._latest.get(number, 0), book.ts_event)
        return depth_record(
            book.levels.top,
            used=book.levels.used,
            instrument=number,
            update_id=book.last_id,
            ts_event=book.ts_event,
            ts_recv=ts_recv,
            flags=flags,
        )
