"""One book of price levels, bounded, with its best levels at hand."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from feeds.books.book_kernel import ASKS, BIDS, CHANGED, COUNTS, DROPPED, apply_nb, cut_nb

CAPACITY: Final = 8192
"""Most levels of a side by default; the farthest one makes room for a nearer one."""
Levels = npt.NDArray[np.float64]
"""Price and size, shape (N, 2)."""
NO_LEVELS: Final[Levels] = np.zeros((0, 2))


class Best(NamedTuple):
    """The top of a book; a side that is empty is NaN with size 0."""

    bid: float
    ask: float
    bid_size: float
    ask_size: float


class LevelBook:
    """Sizes by price on two sides; one owner.

    Args:
        depth: Levels of each side in ``top``.
        capacity: Most levels of a side.

    Attributes:
        top: f8, shape (4, depth): prices of bids and asks, sizes of bids and asks, best first;
            unused levels are NaN with size 0.
        flags: What is odd about the top: TickFlag CROSSED, LOCKED, ONE_SIDED, UNCERTAIN.
    """

    __slots__ = ("_counts", "_cover", "_levels", "flags", "top")

    def __init__(self, depth: int = 10, capacity: int = CAPACITY) -> None:
        if not 0 < depth <= capacity:
            raise ValueError(f"depth {depth} must be 1 to the capacity of {capacity}")
        self._levels = np.zeros((2, 2, capacity))
        self._counts = np.zeros(COUNTS, np.int64)
        self._cover = np.full(2, -np.inf)
        self.top = np.zeros((4, depth))
        self.top[:2] = np.nan
        self.flags = 0

    def reset(self, bids: Levels, asks: Levels, *, whole: bool = True) -> bool:
        """Begin anew with the levels of a snapshot, in any order; tell whether the top changed.

        Args:
            bids: Shape (N, 2).
            asks: Shape (M, 2).
            whole: The snapshot holds every level there is; if not, nothing is known of the prices
                beyond its farthest, and a top that reaches there is flagged UNCERTAIN.
        """
        self._counts[:2] = 0
        self._cover[:] = -np.inf
        changed = self.apply(_worst_first(bids, BIDS), _worst_first(asks, ASKS))
        if not whole:
            farthest = self._levels[:, 0, 0]
            known = np.where(self._counts[:2] > 0, farthest, np.inf)
            np.maximum(self._cover, known, out=self._cover)
            changed |= self.apply(NO_LEVELS, NO_LEVELS)
        return changed

    def clear(self) -> None:
        """Forget every level."""
        self.reset(NO_LEVELS, NO_LEVELS)

    def apply(self, bids: Levels, asks: Levels) -> bool:
        """Set sizes, 0 to remove a level, of one price the last; tell whether the top changed."""
        found = int(apply_nb(self._levels, self._counts, self._cover, bids, asks, self.top))
        return self._saw(found)

    def cut(self, side: int, price: float) -> bool:
        """Remove a side's levels from the best up to a price, all if it is not finite.

        Args:
            side: BIDS or ASKS.
            price: The last price removed.
        """
        found = int(cut_nb(self._levels, self._counts, self._cover, side, price, self.top))
        return self._saw(found)

    def best(self) -> Best:
        """Return the top of the book."""
        return Best(*self.top[:, 0].tolist())

    @property
    def used(self) -> int:
        """Levels of ``top`` in use, on the side that has more."""
        return min(int(self._counts[:2].max()), self.top.shape[1])

    @property
    def dropped(self) -> int:
        """Levels given up because their side was full."""
        return int(self._counts[DROPPED])

    def side(self, side: int) -> Levels:
        """Return all levels of BIDS or ASKS, best first, shape (N, 2)."""
        count = int(self._counts[side])
        levels = self._levels[side, :, :count].T[::-1].copy()
        levels[:, 0] *= 1 if side == BIDS else -1
        return levels

    def _saw(self, found: int) -> bool:
        self.flags = found & (CHANGED - 1)
        return found >= CHANGED


def _worst_first(levels: Levels, side: int) -> Levels:
    """Sort so that each level goes on the end; of one price the last one given stays last."""
    keys = levels[:, 0] if side == BIDS else -levels[:, 0]
    return np.ascontiguousarray(levels[np.argsort(keys, kind="stable")])
