"""What a trial plays: a backtest over prepared data, measured."""

from dataclasses import asdict, replace
from typing import Final

from engine.composition import Blueprint
from engine.core.errors import ConfigError
from engine.core.suggest import known_names
from replay.backtest.metrics import account_metrics, daily_returns, trade_metrics
from replay.backtest.prepared import Prepared
from replay.backtest.run import backtest
from replay.sweep.sweep import Objective
from replay.sweep.trial import Played, digest_of

MAXIMISED: Final = (
    "sharpe", "sortino", "calmar", "cumulative_return", "annual_return", "win_rate",
    "profit_loss_ratio", "profit_factor", "avg_return",
)  # fmt: skip
"""Metrics of which more is better."""
MINIMISED: Final = ("max_drawdown", "annual_volatility", "drawdown_days", "max_trade_drawdown")
"""Metrics of which less is better."""


def play_backtest(prepared: Prepared, blueprint: Blueprint) -> Played:
    """Run one backtest and measure it.

    Raises:
        CheckFailedError: it does not add up.
    """
    result = backtest(prepared, blueprint)
    result.check()
    measured = {**asdict(account_metrics(result)), **asdict(trade_metrics(result.trades))}
    return Played(
        metrics={name: float(value) for name, value in measured.items()},
        days=tuple(result.equity["day"].tolist()),
        returns=tuple(daily_returns(result).tolist()),
        digest=digest_of(result.fills.tobytes(), result.equity.tobytes()),
    )


def warm_backtest(prepared: Prepared, blueprint: Blueprint) -> None:
    """Have everything compiled that a trial needs, by a backtest of a record of each kind.

    Workers find it on disk then, and none compiles what another is compiling.
    """
    first = {segment.schema: segment for segment in reversed(prepared.segments)}
    few = tuple(
        replace(segment, records=segment.records[:1], origins=segment.origins[:1])
        for segment in first.values()
    )
    backtest(replace(prepared, segments=few), blueprint)


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
