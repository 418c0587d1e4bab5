"""What trials are judged by: one metric of the backtest, as high or as low as can be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.core.errors import ConfigError
from engine.core.suggest import known_names
from replay.sweep.trial import Outcome

MAXIMISED: Final = (
    "sharpe", "sortino", "calmar", "cumulative_return", "annual_return", "win_rate",
    "profit_loss_ratio", "profit_factor", "avg_return",
)  # fmt: skip
"""Metrics of which more is better."""
MINIMISED: Final = ("max_drawdown", "annual_volatility", "drawdown_days", "max_trade_drawdown")
"""Metrics of which less is better."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What trials are judged by."""

    metric: str
    maximise: bool = True

    def value(self, outcome: Outcome) -> float | None:
        """Return the metric; None where there is none, or it is no finite number."""
        value = outcome.metrics.get(self.metric, math.nan)
        return value if math.isfinite(value) else None

    def ranked(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return those with a value, the best first; the earlier one where values are equal."""
        pairs = [(self.value(outcome), outcome) for outcome in outcomes]
        sign = -1.0 if self.maximise else 1.0
        judged = [(sign * value, one.number, one) for value, one in pairs if value is not None]
        return [one for *_, one in sorted(judged, key=lambda each: each[:2])]


def objective_of(metric: str) -> Objective:
    """Return what trials are judged by.

    Raises:
        ConfigError: there is no such metric.
    """
    names = (*MAXIMISED, *MINIMISED)
    if metric not in names:
        expected = known_names("objectives", names, metric)
        raise ConfigError("command line", "--objective", metric, expected)
    return Objective(metric, maximise=metric in MAXIMISED)
