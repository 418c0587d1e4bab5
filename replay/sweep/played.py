"""What a trial plays: a backtest over prepared data, measured."""

from dataclasses import asdict, replace

from engine.composition import Blueprint
from replay.backtest.metrics import account_metrics, daily_returns, trade_metrics
from replay.backtest.prepared import Prepared
from replay.backtest.run import backtest
from replay.sweep.trial import Played, digest_of


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
