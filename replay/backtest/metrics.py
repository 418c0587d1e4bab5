"""What a backtest came to, in numbers: the account's and the trades'.

What empyrical-reloaded has comes from there; what a trade is, it does not know. All ratios are
fractions, drawdowns are positive, and what has no answer is NaN: docs/metrics.md defines each.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.backtest.records import BacktestResult
from replay.backtest.sharpe import (
    deflated_sharpe,
    least_track_record,
    moments,
    probabilistic_sharpe,
)

Floats = npt.NDArray[np.float64]
DAYS_PER_YEAR: Final = 252.0
LEAST_DAYS: Final = 20
"""Fewest trading days, a month, from which a return is projected to a year."""
_NS_PER_S: Final = 1e9
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class AccountMetrics:
    """What became of the account, from its daily equity.

    Attributes:
        first_day: yyyymmdd; 0 if there is none.
        last_day: yyyymmdd.
        days: Trading days.
        final_equity: Money.
        cumulative_return: Over the whole time.
        annual_return: Compounded; NaN for fewer than LEAST_DAYS, which say nothing of a year.
        annual_volatility: Of daily returns, times the square root of days a year.
        sharpe: Annualised, without a risk-free rate.
        sortino: The same over the deviation of losses alone.
        calmar: Annual return over the deepest drawdown.
        max_drawdown: The deepest fall of the equity from its highest so far, as a share of that.
        drawdown_days: Most days in a row below an earlier height.
        turnover_yearly: Half of what was bought and sold in a year, in mean equities.
        exposure_mean: Value of all positions at the day's end over the equity, on average.
        exposure_max: And at most.
        time_in_market: Share of the days that ended with a position.
        cost: Fees and taxes, money.
    """

    first_day: int
    last_day: int
    days: int
    final_equity: float
    cumulative_return: float
    annual_return: float
    annual_volatility: float
    sharpe: float
    sortino: float
    calmar: float
    max_drawdown: float
    drawdown_days: int
    turnover_yearly: float
    exposure_mean: float
    exposure_max: float
    time_in_market: float
    cost: float


@dataclass(frozen=True, slots=True)
class TradeMetrics:
    """What became of the round trips, after costs; those still open count at the last price.

    Attributes:
        num_trades: Round trips.
        open_trades: Of them, still open at the end.
        win_rate: Share with a profit; one that made nothing is no win.
        profit_loss_ratio: Mean profit of the winners over mean loss of the losers, in money;
            infinite without a loser, 0 without a winner.
        profit_factor: Sum of profits over sum of losses.
        avg_return: Mean return of a trade on the money put in.
        best_return: Of the best trade.
        worst_return: Of the worst.
        max_trade_drawdown: The deepest fall of a single trade from its highest value.
        mean_holding_s: Seconds from entry to exit, on average.
        losing_streak: Most losers in a row, in order of their ends.
    """

    num_trades: int
    open_trades: int
    win_rate: float
    profit_loss_ratio: float
    profit_factor: float
    avg_return: float
    best_return: float
    worst_return: float
    max_trade_drawdown: float
    mean_holding_s: float
    losing_streak: int


_NO_TRADES: Final = TradeMetrics(
    num_trades=0, open_trades=0, win_rate=math.nan, profit_loss_ratio=math.nan,
    profit_factor=math.nan, avg_return=math.nan, best_return=math.nan, worst_return=math.nan,
    max_trade_drawdown=math.nan, mean_holding_s=math.nan, losing_streak=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SkillMetrics:
    """How much of the Sharpe ratio is to be believed.

    Attributes:
        sharpe_probability: That the true ratio is above 0, were this the only trial.
        deflated_sharpe: That it is above what luck brings the best of all trials.
        hurdle_sharpe: What luck brings it, annualised.
        trials: How many were made.
        track_record_days: Days it takes to say with 95 % that the true ratio is above 0; infinite
            if this one is not.
    """

    sharpe_probability: float
    deflated_sharpe: float
    hurdle_sharpe: float
    trials: int
    track_record_days: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """All of them."""

    account: AccountMetrics
    trades: TradeMetrics
    skill: SkillMetrics

    def as_dict(self) -> dict[str, Any]:
        """Return them for JSON, in one table."""
        return {**asdict(self.account), **asdict(self.trades), **asdict(self.skill)}


def measure(
    result: BacktestResult,
    trial_sharpes: Floats | None = None,
    days_per_year: float = DAYS_PER_YEAR,
    other_trials: int = 0,
) -> Metrics:
    """Return what a backtest came to.

    Args:
        result: Of the backtest.
        trial_sharpes: Sharpe ratio of every trial that was made, this one too, per day (from
            ``daily_sharpe``), shape (T,); None if this was the only one.
        days_per_year: Trading days of a year, to annualise by.
        other_trials: Trials whose ratios are not known; they are taken to spread as the others.
    """
    returns = daily_returns(result)
    return Metrics(
        account_metrics(result, days_per_year),
        trade_metrics(result.trades),
        _skill(returns, trial_sharpes, days_per_year, other_trials),
    )


def daily_returns(result: BacktestResult) -> Floats:
    """Return the account's return of every trading day, shape (D,).

    From the day on which nothing is left, the return is -1 and then 0: a ruined account stays so.
    """
    equity = np.concatenate(([result.cash], result.equity["equity"]))
    ruined = np.flatnonzero(equity <= 0.0)
    if len(ruined):
        equity[ruined[0] :] = 0.0
    before, after = equity[:-1], equity[1:]
    return np.divide(after, before, out=np.ones_like(after), where=before > 0.0) - 1.0


def daily_sharpe(returns: Floats) -> float:
    """Return the Sharpe ratio of a day, not annualised; NaN if the returns do not vary."""
    return moments(returns).sharpe


def account_metrics(result: BacktestResult, days_per_year: float = DAYS_PER_YEAR) -> AccountMetrics:
    """Return what became of the account."""
    rows, returns = result.equity, daily_returns(result)
    total = float(np.prod(1.0 + returns)) - 1.0
    deepest = max_drawdown(returns)
    yearly = _annual_return(returns, days_per_year)
    return AccountMetrics(
        first_day=int(rows["day"][0]) if len(rows) else 0,
        last_day=int(rows["day"][-1]) if len(rows) else 0,
        days=len(rows),
        final_equity=float(rows["equity"][-1]) if len(rows) else result.cash,
        cumulative_return=total,
        annual_return=yearly,
        **_risk(returns, days_per_year),
        calmar=yearly / deepest if deepest > 0.0 else math.nan,
        max_drawdown=deepest,
        drawdown_days=_drawdown_days(returns),
        **_activity(rows, days_per_year),
    )


def max_drawdown(returns: Floats) -> float:
    """Return the deepest fall from the highest value so far, what it began with included."""
    import empyrical

    return -float(empyrical.max_drawdown(returns)) + 0.0 if len(returns) else 0.0


def underwater(returns: Floats) -> Floats:
    """Return how far below its highest so far the account was at every day's end; at most 0."""
    value = np.concatenate(([1.0], np.cumprod(1.0 + returns)))
    below: Floats = (value / np.maximum.accumulate(value) - 1.0)[1:]
    return below


def _annual_return(returns: Floats, days_per_year: float) -> float:
    import empyrical

    if len(returns) < LEAST_DAYS:
        return math.nan
    return float(empyrical.annual_return(returns, annualization=days_per_year))


def _risk(returns: Floats, days_per_year: float) -> dict[str, float]:
    """Return what the spread of the returns decides; without one there is no ratio."""
    import empyrical

    if math.isnan(moments(returns).sharpe):
        still = 0.0 if len(returns) > 1 else math.nan
        return {"annual_volatility": still, "sharpe": math.nan, "sortino": math.nan}
    year = {"annualization": days_per_year}
    return {
        "annual_volatility": float(empyrical.annual_volatility(returns, **year)),
        "sharpe": float(empyrical.sharpe_ratio(returns, **year)),
        "sortino": float(empyrical.sortino_ratio(returns, **year)),
    }


def _drawdown_days(returns: Floats) -> int:
    below = np.concatenate(([False], underwater(returns) < -_ROUNDING, [False]))
    return _longest(below)


def _longest(flags: npt.NDArray[np.bool_]) -> int:
    """Return the length of the longest run of True; the ends are False."""
    edges = np.flatnonzero(flags[1:] != flags[:-1])
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _activity(rows: npt.NDArray[np.void], days_per_year: float) -> dict[str, float]:
    if not len(rows):
        names = ("turnover_yearly", "exposure_mean", "exposure_max", "time_in_market")
        return {**dict.fromkeys(names, math.nan), "cost": 0.0}
    solvent = rows["equity"] > 0.0
    shares = rows["exposure"][solvent] / rows["equity"][solvent]
    equity = float(rows["equity"][solvent].mean()) if solvent.any() else math.nan
    traded = float(rows["bought"].sum() + rows["sold"].sum()) / 2.0
    return {
        "turnover_yearly": traded / equity * days_per_year / len(rows),
        "exposure_mean": float(shares.mean()) if len(shares) else math.nan,
        "exposure_max": float(shares.max()) if len(shares) else math.nan,
        "time_in_market": float((rows["positions"] > 0).mean()),
        "cost": float(rows["cost"].sum()),
    }


def trade_metrics(trades: npt.NDArray[np.void]) -> TradeMetrics:
    """Return what became of the round trips, TRADE, shape (T,)."""
    if not len(trades):
        return _NO_TRADES
    pnl, returns = trades["pnl"], trades["return"]
    won, lost = pnl[pnl > 0.0], -pnl[pnl < 0.0]
    held = trades["ts_exit"] - trades["ts_entry"]
    ended = pnl[np.argsort(trades["ts_exit"], kind="stable")]
    return TradeMetrics(
        num_trades=len(trades),
        open_trades=int((trades["open"] != 0).sum()),
        win_rate=len(won) / len(trades),
        profit_loss_ratio=_ratio(_mean(won), _mean(lost)),
        profit_factor=_ratio(float(won.sum()), float(lost.sum())),
        avg_return=float(returns.mean()),
        best_return=float(returns.max()),
        worst_return=float(returns.min()),
        max_trade_drawdown=float(trades["drawdown"].max()),
        mean_holding_s=float(held.mean()) / _NS_PER_S,
        losing_streak=_longest(np.concatenate(([False], ended < 0.0, [False]))),
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ratio(gain: float, loss: float) -> float:
    if loss > 0.0:
        return gain / loss
    return math.inf if gain > 0.0 else math.nan


def _skill(
    returns: Floats, trial_sharpes: Floats | None, days_per_year: float, other_trials: int
) -> SkillMetrics:
    alone = moments(returns)
    ratios = np.array([alone.sharpe]) if trial_sharpes is None else trial_sharpes
    judged = deflated_sharpe(returns, ratios, other_trials)
    return SkillMetrics(
        sharpe_probability=probabilistic_sharpe(alone),
        deflated_sharpe=judged.probability,
        hurdle_sharpe=judged.hurdle * math.sqrt(days_per_year),
        trials=judged.trials,
        track_record_days=least_track_record(alone),
    )
