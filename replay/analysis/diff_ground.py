"""Which records a replay went through: from a record's number in its stream to its place. Pure."""

from bisect import bisect_right
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import TickKind


class Where(Enum):
    """Where a record is, seen from a recording."""

    WITHIN = "within"
    BEFORE = "before"
    AFTER = "after"
    HOLE = "hole"


class Spot(NamedTuple):
    """Where a record is; ``place``: its own, or the one at which it should have been."""

    where: Where
    place: int


class Stretch(NamedTuple):
    """Records whose numbers and places run in step."""

    epoch: int
    first_seq: int
    last_seq: int
    place: int


class Ground:
    """All records taken so far.

    Attributes:
        taken: How many, gaps among them.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.stretches: list[Stretch] = []
        self._by_epoch: dict[int, list[Stretch]] = {}

    def add(self, records: npt.NDArray[np.void], origins: npt.NDArray[np.void], count: int) -> None:
        """Take the first ``count`` records of a burst, with their origins."""
        rows = np.arange(count)
        if records.dtype.names is not None and "kind" in records.dtype.names:
            rows = np.flatnonzero(records["kind"][:count] != TickKind.GAP)
        if len(rows):
            self._add(rows, origins["epoch"][rows], origins["seq"][rows].astype(np.int64))
        self.taken += count

    def _add(
        self,
        rows: npt.NDArray[np.int64],
        epochs: npt.NDArray[np.uint64],
        seqs: npt.NDArray[np.int64],
    ) -> None:
        steps = (np.diff(seqs) != 1) | (np.diff(epochs) != 0) | (np.diff(rows) != 1)
        begins = [0, *(np.flatnonzero(steps) + 1).tolist()]
        ends = [*(begin - 1 for begin in begins[1:]), len(rows) - 1]
        for begin, end in zip(begins, ends, strict=True):
            place = self.taken + int(rows[begin])
            self._note(Stretch(int(epochs[begin]), int(seqs[begin]), int(seqs[end]), place))

    def _note(self, new: Stretch) -> None:
        known = self._by_epoch.setdefault(new.epoch, [])
        last = known[-1] if known else None
        if (
            last is not None
            and last == self.stretches[-1]
            and new.first_seq - last.first_seq == new.place - last.place == length_of(last)
        ):
            known[-1] = self.stretches[-1] = last._replace(last_seq=new.last_seq)
            return
        known.append(new)
        self.stretches.append(new)

    @property
    def epochs(self) -> list[int]:
        """The epochs of all records."""
        return list(self._by_epoch)

    def find(self, epoch: int, seq: int) -> Spot:
        """Return where a record is."""
        known = self._by_epoch.get(epoch)
        if not self.stretches:
            return Spot(Where.BEFORE, -1)
        if not known:
            return self._outside(epoch)
        at = bisect_right(known, seq, key=lambda one: one.first_seq) - 1
        if at < 0:
            first = known[0]
            begins = first == self.stretches[0]
            return Spot(Where.BEFORE if begins else Where.HOLE, first.place - begins)
        found = known[at]
        if seq <= found.last_seq:
            return Spot(Where.WITHIN, found.place + seq - found.first_seq)
        if found == self.stretches[-1]:
            return Spot(Where.AFTER, self.taken)
        return Spot(Where.HOLE, found.place + length_of(found))

    def _outside(self, epoch: int) -> Spot:
        """Epochs of streams are ordered: they are the times at which the streams began."""
        later = [one for one in self.stretches if one.epoch > epoch]
        if not later:
            return Spot(Where.AFTER, self.taken)
        first = later[0] == self.stretches[0]
        return Spot(Where.BEFORE if first else Where.HOLE, later[0].place - first)


def length_of(stretch: Stretch) -> int:
    """Return how many records a stretch has."""
    return stretch.last_seq - stretch.first_seq + 1
