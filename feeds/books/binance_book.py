"""One Binance book kept in step with the venue: snapshot, diffs, breaks, and finding back."""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from feeds.books.binance_rules import DepthDiff, DepthSnapshot, Fit, fit
from feeds.books.level_book import CAPACITY, Best, LevelBook
from feeds.books.ticker_check import TickerCheck

MOST_WAITING: Final = 1024
"""Most diffs kept while there is no book to put them on."""


class BookChange(Enum):
    """What became of a book's top."""

    NONE = "none"
    """It is as it was, or there is still no book."""
    TOP = "top"
    """One of the best levels is another."""
    SYNCED = "synced"
    """There is a book now."""
    LOST = "lost"
    """From here on there is none, until a snapshot fits."""


@dataclass(slots=True)
class BookCounts:
    """What a book has seen.

    Attributes:
        diffs: Diffs given.
        applied: Diffs put on the book.
        stale: Diffs dropped because the book had them.
        forgotten: Diffs dropped because too many waited for a snapshot.
        breaks: Times a diff was missing.
        refuted: Times the book was given up because the venue's ticker said otherwise.
        bad: Frames that were none, each of which lost the book.
        snapshots: Snapshots that made a book.
        snapshots_too_old: Snapshots behind which a diff was missing.
        snapshots_not_needed: Snapshots older than the book there was.
    """

    diffs: int = 0
    applied: int = 0
    stale: int = 0
    forgotten: int = 0
    breaks: int = 0
    refuted: int = 0
    bad: int = 0
    snapshots: int = 0
    snapshots_too_old: int = 0
    snapshots_not_needed: int = 0


class BinanceBook:
    """A book by the rules of ``binance_rules``; one owner.

    Without a book, diffs wait, at most ``MOST_WAITING``, until a snapshot comes behind which they
    fit. A book that a missing diff, a bad one or a disagreeing ticker has made doubtful is given up
    at once.

    Args:
        depth: Levels of its top.
        capacity: Most levels of a side.
        most_waiting: Most diffs that wait.

    Attributes:
        levels: The levels; empty while there is no book.
        check: Comparisons with the venue's tickers.
        counts: What it has seen.
        synced: There is a book.
        last_id: The book's last update.
        ts_event: The venue's time of it, ns.
    """

    __slots__ = (
        "_after_snapshot", "_waiting", "check", "counts", "last_id", "levels", "synced", "ts_event",
    )  # fmt: skip

    def __init__(
        self, depth: int = 10, capacity: int = CAPACITY, most_waiting: int = MOST_WAITING
    ) -> None:
        self.levels = LevelBook(depth, capacity)
        self.check = TickerCheck()
        self.counts = BookCounts()
        self.synced = False
        self.last_id = 0
        self.ts_event = 0
        self._after_snapshot = False
        self._waiting: deque[DepthDiff] = deque(maxlen=most_waiting)

    @property
    def waiting(self) -> int:
        """Diffs that wait for a snapshot."""
        return len(self._waiting)

    def on_diff(self, diff: DepthDiff) -> BookChange:
        """Take the next diff."""
        self.counts.diffs += 1
        return self._put(diff)

    def on_snapshot(self, snapshot: DepthSnapshot) -> BookChange:
        """Take a snapshot; it may be older than the diffs that wait."""
        if self.synced and snapshot.last_id <= self.last_id:
            self.counts.snapshots_not_needed += 1
            return BookChange.NONE
        was_synced = self.synced
        self._drop_stale(snapshot.last_id)
        if self._waiting and not self._fits(self._waiting[0], snapshot.last_id):
            self.counts.snapshots_too_old += 1
            return BookChange.NONE
        self._begin(snapshot)
        held, self._waiting = self._waiting, deque(maxlen=self._waiting.maxlen)
        for diff in held:
            self._put(diff)
        if self.synced:
            return BookChange.SYNCED
        return BookChange.LOST if was_synced else BookChange.NONE

    def on_ticker(self, update_id: int, best: Best) -> BookChange:
        """Compare what the venue says of an update; a book that differs is given up."""
        if self.check.on_ticker(update_id, best) or not self.synced:
            return BookChange.NONE
        self.counts.refuted += 1
        return self._lose()

    def on_bad(self) -> BookChange:
        """Give the book up because a frame of its stream cannot be read."""
        self.counts.bad += 1
        return self._lose() if self.synced else BookChange.NONE

    def _put(self, diff: DepthDiff) -> BookChange:
        if not self.synced:
            self._wait(diff)
            return BookChange.NONE
        place = fit(diff, self.last_id, after_snapshot=self._after_snapshot)
        if place is Fit.STALE:
            self.counts.stale += 1
            return BookChange.NONE
        if place is Fit.BREAK:
            self.counts.breaks += 1
            lost = self._lose()
            self._wait(diff)
            return lost
        changed = self.levels.apply(diff.bids, diff.asks)
        self.counts.applied += 1
        self._after_snapshot = False
        if not self._stands_at(diff.final_id, diff.ts_event):
            self.counts.refuted += 1
            return self._lose()
        return BookChange.TOP if changed else BookChange.NONE

    def _begin(self, snapshot: DepthSnapshot) -> None:
        self.levels.reset(snapshot.bids, snapshot.asks, whole=snapshot.whole)
        self.synced = self._after_snapshot = True
        self.counts.snapshots += 1
        if not self._stands_at(snapshot.last_id, snapshot.ts_event):
            self.counts.refuted += 1
            self._lose()

    def _stands_at(self, update_id: int, ts_event: int) -> bool:
        """Note what the book is as of; tell whether the tickers of that update agree."""
        self.last_id = update_id
        self.ts_event = ts_event
        return self.check.on_top(update_id, self.levels.best())

    def _lose(self) -> BookChange:
        self.synced = False
        self.levels.clear()
        self.check.forget_tops()
        return BookChange.LOST

    def _wait(self, diff: DepthDiff) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self.counts.forgotten += 1
        self._waiting.append(diff)

    def _drop_stale(self, last_id: int) -> None:
        while self._waiting and (fit(self._waiting[0], last_id, after_snapshot=True) is Fit.STALE):
            self._waiting.popleft()
            self.counts.stale += 1

    def _fits(self, diff: DepthDiff, last_id: int) -> bool:
        return fit(diff, last_id, after_snapshot=True) is Fit.NEXT
