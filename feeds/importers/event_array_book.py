"""The book that an event array's rows change, and what it makes of them."""

from collections import Counter
from typing import Final

import numpy as np
import numpy.typing as npt

from feeds.books.book_kernel import ASKS, BIDS
from feeds.books.depth_records import DepthRecords, depth_record
from feeds.books.level_book import NO_LEVELS, LevelBook, Levels
from feeds.importers.event_kinds import EventFlag, EventKind

_KIND_BITS: Final = 0xFF
_LEVEL_KINDS: Final = (int(EventKind.DEPTH), int(EventKind.SNAPSHOT))


class EventBook:
    """One instrument's book; one owner.

    Args:
        depth: Levels of the depth records, 0 for none.

    Attributes:
        levels: The levels.
    """

    def __init__(self, depth: int) -> None:
        self.levels = LevelBook(depth or 1)
        self._depth = depth
        self._changed = False
        self._changes = 0

    def apply(self, events: npt.NDArray[np.void]) -> bool:
        """Put the good rows of one instant on the book; tell whether its best is another.

        Args:
            events: Rows with the fields ev, px and qty, shape (N,), N >= 1.
        """
        before = self.levels.top.copy()
        kinds = events["ev"] & np.uint64(_KIND_BITS)
        plain = np.isin(kinds, _LEVEL_KINDS)
        at = 0
        for odd in [*np.flatnonzero(~plain).tolist(), len(events)]:
            if odd > at:
                part = events[at:odd]
                self.levels.apply(*_sides(part))
            if odd < len(events):
                self._cut(events[odd], int(kinds[odd]))
            at = odd + 1
        self._changes += 1
        self._changed = not np.array_equal(before, self.levels.top, equal_nan=True)
        return not np.array_equal(before[:, 0], self.levels.top[:, 0], equal_nan=True)

    def depth_record(self, instrument: int, ts_event: int, ts_recv: int) -> DepthRecords | None:
        """Return a record of the levels, None if the last change left them as they were."""
        if not (self._changed and self._depth):
            return None
        return depth_record(
            self.levels.top,
            used=self.levels.used,
            instrument=instrument,
            update_id=0,
            ts_event=ts_event,
            ts_recv=ts_recv,
            flags=self.levels.flags,
        )

    def counts(self) -> Counter[str]:
        """Return what it has seen, by name, without what never came."""
        return +Counter(applied=self._changes, levels_dropped=self.levels.dropped)

    def _cut(self, event: np.void, kind: int) -> None:
        flags, price = int(event["ev"]), float(event["px"])
        buys, sells = bool(flags & EventFlag.BUY), bool(flags & EventFlag.SELL)
        if not buys and not sells:
            self.levels.clear()
            return
        self.levels.cut(BIDS if buys else ASKS, price)
        if kind == EventKind.BEST:
            level = np.array([[price, float(event["qty"])]])
            self.levels.apply(*((level, NO_LEVELS) if buys else (NO_LEVELS, level)))


def _sides(events: npt.NDArray[np.void]) -> tuple[Levels, Levels]:
    levels = np.column_stack([events["px"], events["qty"]])
    buys = (events["ev"] & np.uint64(EventFlag.BUY)) != 0
    return np.ascontiguousarray(levels[buys]), np.ascontiguousarray(levels[~buys])
