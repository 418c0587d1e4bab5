"""At which places of a log the future is changed. Pure."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from replay.analysis.lookahead_compare import Places
from replay.analysis.lookahead_run import Proposal


def choose_cuts(count: int, cuts: int, proposals: Sequence[Proposal], places: Places) -> list[int]:
    """Return places to change the future at, ascending, within 1 and ``count - 1``.

    Half are right behind records that caused proposals, taken from every strategy in turn and
    evenly over its own; the rest evenly over the log.

    Args:
        count: Records of the log.
        cuts: How many are wanted.
        proposals: Of a run over the whole log.
        places: Of the records behind them.
    """
    by_strategy: dict[str, list[int]] = {}
    for one in proposals:
        by_strategy.setdefault(one.strategy, []).append(places.of(one) + 1)
    wanted = cuts // 2 if by_strategy else 0
    share = max(1, math.ceil(wanted / max(1, len(by_strategy))))
    chosen: list[int] = []
    for turn in _in_turn([_evenly(own, share) for own in by_strategy.values()]):
        if len(chosen) < max(wanted, len(by_strategy)) and 0 < turn < count:
            chosen.append(turn)
    rest = max(1, cuts - len(chosen))
    chosen += [count * (i + 1) // (rest + 1) for i in range(rest)]
    return sorted({cut for cut in chosen if 0 < cut < count})


def _evenly(values: Sequence[int], count: int) -> list[int]:
    at = np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)
    return [values[i] for i in at.tolist()]


def _in_turn(lists: Sequence[Sequence[int]]) -> Iterator[int]:
    for turn in range(max(map(len, lists), default=0)):
        for one in lists:
            if turn < len(one):
                yield one[turn]
