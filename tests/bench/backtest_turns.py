"""Engines' backtests in turns, and the figures that come of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from bench.backtest_rules import Filled, MismatchError, Played
from bench.bench_nautilus import quiet_collector
from bench.measuring import Figure, Outcome, say
from bench.ours_backtest import Ours, filled_of

from replay.backtest.metrics import measure
from replay.backtest.records import BacktestResult

T = TypeVar("T")

OURS_A_TURN: Final = 5
WANTED: Final = 25.0
"""How many times an event-driven peer's time ours has to fit into."""


@dataclass
class Peer:
    """One engine to be compared with.

    Attributes:
        name: As it stands in the table.
        run: Runs it once.
        check: Compares its fills, the second argument, with ours; raises MismatchError.
        records: How many bars or ticks one run takes.
        prepare_s: What making its objects took, before any clock.
        wanted: The least speed-up over it; None: it is told only.
        complete: Whether its time holds statistics, so that ours gets them too.
    """

    name: str
    run: Callable[[], Played]
    check: Callable[[BacktestResult, Filled], None]
    records: int
    prepare_s: float
    wanted: float | None = WANTED
    complete: bool = False
    seconds: list[float] = field(default_factory=list)


@dataclass
class OurTurns:
    """Our seconds turn by turn: alone, and with the metrics of a report."""

    seconds: list[float] = field(default_factory=list)
    complete: list[float] = field(default_factory=list)


def prepared(make: Callable[[], T]) -> tuple[T, float]:
    """Return what is made, and the seconds that took."""
    began = time.perf_counter()
    made = make()
    return made, time.perf_counter() - began


def take_turns(ours: Ours, peers: Sequence[Peer], turns: int) -> tuple[OurTurns, BacktestResult]:
    """Run all of them, one after the other, so many times; every run's fills are compared.

    Raises:
        MismatchError: an engine traded otherwise, or our result does not add up.
    """
    taken = OurTurns()
    _, result = ours.run()
    result.check()
    measure(result)
    for turn in range(turns):
        with quiet_collector():
            runs = [_run_ours(ours, result) for _ in range(OURS_A_TURN)]
        taken.seconds.append(statistics.median(alone for alone, _ in runs))
        taken.complete.append(statistics.median(whole for _, whole in runs))
        told = [f"HEQIS {taken.seconds[-1]:.3f} s"]
        for peer in peers:
            with quiet_collector():
                played = peer.run()
            peer.check(result, played.filled)
            peer.seconds.append(played.seconds)
            told.append(f"{peer.name} {played.seconds:.2f} s")
        say(f"turn {turn + 1}: {', '.join(told)}")
    return taken, result


def _run_ours(ours: Ours, before: BacktestResult) -> tuple[float, float]:
    seconds, result = ours.run()
    began = time.perf_counter()
    measure(result)
    if filled_of(result).tobytes() != filled_of(before).tobytes():
        raise MismatchError("two runs of HEQIS traded differently")
    return seconds, seconds + time.perf_counter() - began


def add_figures(
    outcome: Outcome, taken: OurTurns, peers: Sequence[Peer], records: int, unit: str
) -> None:
    """Add rates, speed-ups and what came before the clock."""
    rate = f"{unit}s/s"
    outcome.figures.append(Figure.of("HEQIS", [records / s for s in taken.seconds], rate))
    for peer in peers:
        outcome.figures.append(Figure.of(peer.name, [peer.records / s for s in peer.seconds], rate))
    for peer in peers:
        own = taken.complete if peer.complete else taken.seconds
        ratios = [
            (theirs / peer.records) / (ours / records)
            for ours, theirs in zip(own, peer.seconds, strict=True)
        ]
        outcome.figures.append(
            Figure.of(f"speed-up over {peer.name}", ratios, "x", at_least=peer.wanted)
        )
    outcome.figures.append(Figure.of("HEQIS, one backtest", taken.seconds, "s"))
    outcome.figures.append(Figure.of("HEQIS, one backtest and its metrics", taken.complete, "s"))
    outcome.figures += [
        Figure.of(f"preparation: {peer.name}", [peer.prepare_s], "s")
        for peer in peers
        if not peer.complete
    ]
