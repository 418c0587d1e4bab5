"""Where the proposals of two runs first differ, strategy by strategy. Pure."""

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

import numpy as np

from replay.analysis.lookahead_run import Proposal
from replay.analysis.lookahead_tape import Tape

_TOLD: Final = ("id", "side", "strength", "confidence", "price", "edge_bps")
_NUMBERS: Final = frozenset({"strength", "confidence", "price", "edge_bps"})


class Difference(NamedTuple):
    """The first proposal of a strategy that is not as it was."""

    strategy: str
    instrument: str
    epoch: int
    seq: int
    ts_event: int
    problem: str


class Places:
    """Finds the place in a log of the record behind a proposal."""

    def __init__(self, tape: Tape) -> None:
        ticks, bars = tape.order()
        epochs = np.concatenate([tape.tick_origins["epoch"], tape.bar_origins["epoch"]])
        seqs = np.concatenate([tape.tick_origins["seq"], tape.bar_origins["seq"]])
        places = np.concatenate([ticks, bars])
        self._by_epoch: dict[int, tuple[list[int], list[int]]] = {}
        for epoch in np.unique(epochs).tolist():
            own = np.flatnonzero(epochs == epoch)
            order = own[np.argsort(seqs[own], kind="stable")]
            self._by_epoch[int(epoch)] = seqs[order].tolist(), places[order].tolist()
        self._cache: dict[tuple[int, int], int] = {}

    def of(self, proposal: Proposal) -> int:
        """Return the place of the record that caused a proposal."""
        key = proposal.epoch, proposal.seq
        if key not in self._cache:
            seqs, places = self._by_epoch[proposal.epoch]
            self._cache[key] = places[int(np.searchsorted(seqs, proposal.seq))]
        return self._cache[key]

    def before(self, proposals: Iterable[Proposal], cut: int) -> list[Proposal]:
        """Return the proposals that records before a cut caused."""
        return [one for one in proposals if self.of(one) < cut]


def first_differences(
    base: Iterable[Proposal], other: Iterable[Proposal], places: Places, *, outcomes: bool = True
) -> list[Difference]:
    """Return each strategy's first difference, the earliest first.

    Args:
        base: Proposals in order.
        other: Those of another run.
        places: Of the records behind them.
        outcomes: Whether it counts what the risk gate made of a proposal.
    """
    ours, theirs = _by_strategy(base), _by_strategy(other)
    found = [
        (places.of(at), difference)
        for name in sorted({*ours, *theirs})
        for at, difference in _first(ours.get(name, []), theirs.get(name, []), places, outcomes)
    ]
    return [difference for _, difference in sorted(found, key=lambda pair: pair[0])]


def _by_strategy(proposals: Iterable[Proposal]) -> dict[str, list[Proposal]]:
    found: dict[str, list[Proposal]] = {}
    for one in proposals:
        found.setdefault(one.strategy, []).append(one)
    return found


def _first(
    ours: Sequence[Proposal], theirs: Sequence[Proposal], places: Places, outcomes: bool
) -> list[tuple[Proposal, Difference]]:
    for mine, other in zip_longest(ours, theirs):
        if mine is None or other is None:
            at = other if mine is None else mine
            return [(at, _told(at, _LOST if other is None else _NEW))]
        if mine.id != other.id:
            lost = places.of(mine) <= places.of(other)
            at = mine if lost else other
            return [(at, _told(at, _LOST if lost else _NEW))]
        problem = _changes(mine, other, outcomes)
        if problem:
            return [(mine, _told(mine, problem))]
    return []


_LOST: Final = "it proposes {side} only on the log as it is"
_NEW: Final = "it proposes {side}, which it does not on the log as it is"


def _told(at: Proposal, problem: str) -> Difference:
    problem = problem.replace("{side}", at.side)
    return Difference(at.strategy, at.instrument, at.epoch, at.seq, at.ts_event, problem)


def _changes(mine: Proposal, other: Proposal, outcomes: bool) -> str:
    names = [*_TOLD, "outcome"] if outcomes else list(_TOLD)
    told = []
    for name in names:
        was, is_now = getattr(mine, name), getattr(other, name)
        same = was == is_now
        if name in _NUMBERS:
            both = mine.outcome == other.outcome
            same = not both or _alike(was, is_now)
        if not same:
            told.append(f"{name} {was} becomes {is_now}")
    return ", ".join(told)


def _alike(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
