"""What a sweep came to: the best trials, and how far the best is more than the luckiest of many."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.backtest.metrics import DAYS_PER_YEAR
from replay.backtest.overfitting import BLOCKS, probability_of_overfitting, usable_blocks
from replay.backtest.sharpe import Deflated, deflated_sharpe, moments
from replay.sweep.objective import Objective
from replay.sweep.trial import Outcome

TOP: Final = 10
"""Trials shown in a terminal."""
_LEAST_BLOCKS: Final = 2


@dataclass(frozen=True)
class Verdict:
    """A sweep judged, all its trials counted.

    Attributes:
        objective: What trials are judged by.
        outcomes: Every trial.
        ranked: Those with a value, the best first.
        deflated: Of the best trial by the Sharpe ratios of all; None without a value.
        pbo: Probability of backtest overfitting; NaN with too few days or trials.
        blocks: Into which the days were cut for it; 0 if they could not be.
    """

    objective: Objective
    outcomes: Sequence[Outcome]
    ranked: Sequence[Outcome]
    deflated: Deflated | None
    pbo: float
    blocks: int

    @property
    def best(self) -> Outcome | None:
        """The best trial."""
        return self.ranked[0] if self.ranked else None

    @property
    def refused(self) -> dict[str, int]:
        """Trials without a result, by the reason."""
        return dict(Counter(one.error for one in self.outcomes if one.error))

    @property
    def compiled(self) -> int:
        """Functions compiled during trials."""
        return sum(outcome.compiled for outcome in self.outcomes)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, every trial in it but without its days."""
        best, deflated = self.best, self.deflated
        year = math.sqrt(DAYS_PER_YEAR)
        return {
            "objective": self.objective.metric,
            "maximised": self.objective.maximise,
            "trials": len(self.outcomes),
            "with_value": len(self.ranked),
            "refused": self.refused,
            "compiled": self.compiled,
            "best": None if best is None else _told(best),
            "deflated_sharpe": None if deflated is None else deflated.probability,
            "hurdle_sharpe": None if deflated is None else deflated.hurdle * year,
            "trials_counted": None if deflated is None else deflated.trials,
            "pbo": self.pbo,
            "pbo_blocks": self.blocks,
            "ranked": [outcome.number for outcome in self.ranked],
            "all": [_told(outcome) for outcome in self.outcomes],
        }


def judge(outcomes: Sequence[Outcome], objective: Objective) -> Verdict:
    """Judge the best trial by all that were made.

    A trial that never traded, or was refused, counts as one of Sharpe ratio 0.
    """
    ranked = objective.ranked(outcomes)
    if not ranked:
        return Verdict(objective, outcomes, ranked, None, math.nan, 0)
    best = np.array(ranked[0].returns)
    deflated = deflated_sharpe(best, np.array([_daily_sharpe(one) for one in outcomes]))
    pbo, blocks = _overfitting(outcomes)
    return Verdict(objective, outcomes, ranked, deflated, pbo, blocks)


def _daily_sharpe(outcome: Outcome) -> float:
    return moments(np.array(outcome.returns)).sharpe


def returns_matrix(outcomes: Sequence[Outcome]) -> npt.NDArray[np.float64]:
    """Return daily returns, shape (D, T), of the trials with the days that most of them have."""
    days = Counter(outcome.days for outcome in outcomes if outcome.days)
    if not days:
        return np.zeros((0, 0))
    ((shared, _),) = days.most_common(1)
    return np.array([one.returns for one in outcomes if one.days == shared]).T


def _overfitting(outcomes: Sequence[Outcome]) -> tuple[float, int]:
    returns = returns_matrix(outcomes)
    blocks = usable_blocks(len(returns), BLOCKS)
    if blocks < _LEAST_BLOCKS or returns.shape[1] < 2 or not np.isfinite(returns).all():
        return math.nan, 0
    return probability_of_overfitting(returns, blocks).pbo, blocks


def _told(outcome: Outcome) -> dict[str, Any]:
    return {
        "number": outcome.number,
        "params": outcome.params,
        "metrics": outcome.metrics,
        "digest": outcome.digest,
        "error": outcome.error,
        "wall_s": outcome.wall_s,
    }
