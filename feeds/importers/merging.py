"""Merges batches of several sources into one order of receive time, with bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Instruments, Ticks, empty_ticks

AT_ONCE: Final = -(2**63)
"""``not_before`` of a source whose first time is unknown."""


class Batch(NamedTuple):
    """Ticks of one or more sources, and where each came from.

    Args:
        ticks: TICK records, shape (N,), ``ts_recv`` not decreasing within a source.
        rows: Row number of each in its place, shape (N,), from 1.
        places: The report's number of each tick's place, shape (N,).
        definitions: INSTRUMENT rows that hold from this batch on.
    """

    ticks: Ticks
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]
    definitions: tuple[Instruments, ...] = ()


class Source(NamedTuple):
    """One file to merge.

    Args:
        batches: Opens it; called when its turn may have come.
        not_before: No record of it is received earlier, ns; AT_ONCE if unknown.
    """

    batches: Callable[[], Iterator[Batch]]
    not_before: int = AT_ONCE


@dataclass(slots=True)
class _Head:
    rank: int
    batches: Iterator[Batch]
    batch: Batch
    start: int = 0

    def last(self) -> int:
        return int(self.batch.ticks["ts_recv"][-1])

    def take(self, cut: int, *, inclusive: bool) -> Batch | None:
        times = self.batch.ticks["ts_recv"]
        stop = int(np.searchsorted(times, cut, "right" if inclusive else "left"))
        if stop <= self.start:
            return None
        part = slice(self.start, stop)
        definitions = self.batch.definitions if self.start == 0 else ()
        self.start = stop
        ticks, rows, places, _ = self.batch
        return Batch(ticks[part], rows[part], places[part], definitions)

    def spent(self) -> bool:
        return self.start == len(self.batch.ticks)

    def refill(self) -> bool:
        for batch in self.batches:
            if len(batch.ticks):
                self.batch, self.start = batch, 0
                return True
        return False


_NOTHING: Final = Batch(empty_ticks(0), np.empty(0, np.int64), np.empty(0, np.int32))


def merge_sources(sources: Sequence[Source]) -> Iterator[Batch]:
    """Yield all records in order of (ts_recv, source, row); sources open as their time comes.

    Each step emits everything up to the earliest end of the batches at hand: no source can still
    hold an earlier record.
    """
    waiting = sorted(enumerate(sources), key=lambda item: (item[1].not_before, item[0]))
    heads: list[_Head] = []
    while waiting or heads:
        while waiting and (not heads or waiting[0][1].not_before <= _first_end(heads)[0]):
            rank, source = waiting.pop(0)
            head = _Head(rank, source.batches(), _NOTHING)
            if head.refill():
                heads.append(head)
        if heads:
            yield _emit(heads)
            heads = [head for head in heads if not head.spent() or head.refill()]


def _first_end(heads: list[_Head]) -> tuple[int, int]:
    return min((head.last(), head.rank) for head in heads)


def _emit(heads: list[_Head]) -> Batch:
    cut, rank = _first_end(heads)
    heads.sort(key=lambda head: head.rank)
    parts = [head.take(cut, inclusive=head.rank <= rank) for head in heads]
    found = [part for part in parts if part is not None]
    if len(found) == 1:
        return found[0]
    ticks = np.concatenate([part.ticks for part in found])
    order = np.argsort(ticks["ts_recv"], kind="stable")
    return Batch(
        ticks[order],
        np.concatenate([part.rows for part in found])[order],
        np.concatenate([part.places for part in found])[order],
        tuple(row for part in found for row in part.definitions),
    )
