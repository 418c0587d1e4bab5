"""The sweep itself: asks for parameters, has trials run, keeps what came of them, in order.

Outcomes come in any order and are told and kept in the order of their numbers; the next parameters
are asked for when the trial ``window`` places before is told. So what is asked depends on the
window and not on how long a trial took.
"""

from collections.abc import Callable
from typing import Final

from replay.sweep.ledger import Ledger
from replay.sweep.objective import Objective
from replay.sweep.pools import Pool
from replay.sweep.sampling import Asker, SamplerName
from replay.sweep.trial import Outcome

_AHEAD: Final = 4
"""Trials a worker that a sampler which learns nothing may be ahead by."""


def window_of(sampler: SamplerName, jobs: int) -> int:
    """Return how many trials may be under way at a time; with TPE it has a say in what is asked."""
    return jobs if sampler is SamplerName.TPE else jobs * _AHEAD


def run_sweep(
    asker: Asker,
    ledger: Ledger,
    pool: Pool,
    objective: Objective,
    *,
    trials: int,
    window: int,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Run trials until there are so many, those kept before among them; return all of them.

    Args:
        asker: Fresh, made as it was when the study was begun.
        ledger: Keeps them.
        pool: Runs them; is closed by whoever made it.
        objective: What they are judged by.
        trials: How many there are to be.
        window: Most under way at a time.
        progress: Called with the number of trials done.

    Raises:
        HeqisError: the storage failed, or workers keep dying.
    """
    kept = {outcome.number: outcome for outcome in ledger.outcomes}
    total = max(trials, len(kept))
    ready: dict[int, Outcome] = {}
    asked = 0
    for told in range(total):
        while asked < min(told + window, total):
            if asked in kept:
                asker.recall(kept[asked].params)
                ready[asked] = kept[asked]
            else:
                pool.submit((asked, asker.ask()))
            asked += 1
        while told not in ready:
            ready.update((outcome.number, outcome) for outcome in pool.take())
        outcome = ready.pop(told)
        value = objective.value(outcome)
        asker.tell(told, value)
        if told not in kept:
            ledger.add(outcome, value)
        if progress is not None:
            progress(told + 1)
    return ledger.outcomes
