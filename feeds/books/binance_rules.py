"""Binance's rules for a local order book: what fits behind a snapshot, and what behind a diff.

Spot: of a diff with the update numbers U to u, one with ``u <= lastUpdateId`` is stale; the next
one must have ``U <= lastUpdateId + 1``. Futures send ``pu``, the ``u`` of the diff before: behind a
snapshot a diff with ``u < lastUpdateId`` is stale and the first one must have
``U <= lastUpdateId <= u``; from then on ``pu`` must be the ``u`` before it. A ``pu`` that *is* the
snapshot's number fits as well: nothing happened in between.
"""

from dataclasses import dataclass
from enum import Enum

from feeds.books.level_book import Levels


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """Changed levels, sizes absolute, 0 to remove.

    Args:
        first_id: U, the first update in it.
        final_id: u, the last update in it.
        previous_id: pu, the last update of the diff before; None on spot, which does not send it.
        ts_event: The venue's time, ns.
        bids: Shape (N, 2).
        asks: Shape (M, 2).
    """

    first_id: int
    final_id: int
    previous_id: int | None
    ts_event: int
    bids: Levels
    asks: Levels


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """The levels of a book as of one update.

    Args:
        last_id: lastUpdateId.
        ts_event: The venue's time, ns.
        bids: Shape (N, 2).
        asks: Shape (M, 2).
        whole: It holds every level there is; False if it was cut at a number of levels.
    """

    last_id: int
    ts_event: int
    bids: Levels
    asks: Levels
    whole: bool


class Fit(Enum):
    """How a diff stands to a book."""

    STALE = "stale"
    """All of it is in the book already."""
    NEXT = "next"
    BREAK = "break"
    """At least one diff before it is missing."""


def fit(diff: DepthDiff, last_id: int, *, after_snapshot: bool) -> Fit:
    """Place a diff.

    Args:
        diff: The diff.
        last_id: The book's last update.
        after_snapshot: No diff has been put on the book's snapshot yet.
    """
    if diff.previous_id is None:
        if diff.final_id <= last_id:
            return Fit.STALE
        return Fit.NEXT if diff.first_id <= last_id + 1 else Fit.BREAK
    if diff.previous_id == last_id:
        return Fit.NEXT
    if after_snapshot:
        if diff.final_id < last_id:
            return Fit.STALE
        return Fit.NEXT if diff.first_id <= last_id else Fit.BREAK
    return Fit.STALE if diff.final_id <= last_id else Fit.BREAK
