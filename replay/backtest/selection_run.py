"""Runs candidates over spans of trading days: from a flat account, on logs that end with the span.

What comes before a span warms the indicators. What comes after it is not in the records that a
backtest is given, so neither a signal nor the value of a position can know it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.composition import Blueprint, resolve
from engine.config import Config
from engine.core.errors import ConfigError
from replay.backtest.folds import Span
from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult
from replay.backtest.run import backtest
from replay.backtest.sim_records import Why
from replay.backtest.trading_days import TradingDays, before


@dataclass(frozen=True)
class Candidate:
    """A configuration that may be chosen."""

    name: str
    blueprint: Blueprint


def each_strategy(config: Config) -> list[Candidate]:
    """Make a candidate of every strategy of a configuration, each by itself.

    Raises:
        ConfigError: there is none, or one cannot be used.
    """
    if not config.active_strategies:
        raise ConfigError("configuration", "strategies", [], "give at least one to choose from")
    return [
        Candidate(entry.name, resolve(config.model_copy(update={"strategies": (entry,)})))
        for entry in config.active_strategies
    ]


class SpanRunner:
    """Runs one candidate over one span; as ``selection.Run``.

    Args:
        prepared: The logs.
        days: Their trading days.
        candidates: By number.
    """

    def __init__(
        self, prepared: Prepared, days: TradingDays, candidates: Sequence[Candidate]
    ) -> None:
        self._prepared = prepared
        self._days = days
        self._candidates = candidates

    def __call__(self, candidate: int, span: Span, cash: float) -> BacktestResult:
        """Run it, beginning with so much cash.

        Returns:
            The span's days and no others. Signals before it are not counted; refusals and notes,
            which cannot be told apart by their time, not at all.

        Raises:
            CheckFailedError: the result does not add up.
        """
        blueprint = self._candidates[candidate].blueprint
        known = before(self._prepared, self._days, span.stop)
        settings = blueprint.config.backtest.model_copy(update={"cash": cash})
        result = backtest(known, blueprint, settings, span=self._days.times_ns(span))
        result.check()
        inside = result.equity["day"] >= self._days.days[span.start]
        unfilled = dict(result.unfilled)
        signals = result.signals - unfilled.pop(Why.OUTSIDE_SPAN.name, 0)
        return replace(
            result, equity=result.equity[inside], signals=signals, unfilled=unfilled, refusals={},
            notes={},
        )  # fmt: skip
