"""Choosing strategies over validation spans, and what the chosen came to on untouched tests.

Pure: a backtest over a span is a function that is handed in. Of a test span only the one candidate
is ever run that was chosen before it; the tests' accounts go on from each other, so that together
they are one history.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from replay.backtest.folds import Fold, Span
from replay.backtest.metrics import (
    DAYS_PER_YEAR,
    Floats,
    account_metrics,
    daily_returns,
    daily_sharpe,
    trade_metrics,
)
from replay.backtest.overfitting import Overfitting, probability_of_overfitting, usable_blocks
from replay.backtest.records import EQUITY, FILL, TRADE, BacktestResult
from replay.backtest.sharpe import Deflated, deflated_sharpe
from replay.backtest.tables import midnights_ns

Objective = Literal[
    "sharpe", "sortino", "calmar", "cumulative_return", "profit_loss_ratio", "win_rate",
    "avg_return", "profit_factor",
]  # fmt: skip
"""What candidates are ranked by; more is better."""
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)
_OF_TRADES: Final = frozenset({"profit_loss_ratio", "win_rate", "avg_return", "profit_factor"})

Run = Callable[[int, Span, float], BacktestResult]
"""Runs a candidate over a span, beginning flat with so much cash."""


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """How candidates are ranked.

    Attributes:
        objective: The number that decides.
        min_trades: Finished trades without which a candidate is not eligible.
        least_value: Of the objective, below which a candidate is not eligible.
        days_per_year: To annualise by.
        other_trials: Trials that were made elsewhere to come to these candidates.
    """

    objective: Objective = "sharpe"
    min_trades: int = 1
    least_value: float = -math.inf
    days_per_year: float = DAYS_PER_YEAR
    other_trials: int = 0


class Ranked(NamedTuple):
    """A candidate over a validation span.

    Attributes:
        candidate: Its number.
        value: Of the objective; NaN if there is none, infinite where nothing was lost.
        trades: Finished inside the span.
        purged: Still open at its end: what becomes of them, later prices decide.
        eligible: Whether it could be chosen: enough trades, and a finite value.
    """

    candidate: int
    value: float
    trades: int
    purged: int
    eligible: bool


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's ranking, best first, and the test of the first if it was eligible."""

    fold: Fold
    ranking: tuple[Ranked, ...]
    test: BacktestResult | None

    @property
    def chosen(self) -> int | None:
        """The candidate's number; None: none was eligible, and the account lay still."""
        return self.ranking[0].candidate if self.test is not None else None


@dataclass(frozen=True)
class Selection:
    """What came of it.

    Attributes:
        names: Of the candidates.
        folds: In order.
        tested: All tests as one account.
        returns: Daily, of every candidate over the validation days, shape (D, C); the overlap of
            two folds is there once, as the earlier fold had it.
        deflated: The Sharpe ratio of the candidate chosen last, over those days, among all.
        overfitting: Of choosing by Sharpe ratio over those days; None if they are too few, or
            there is nothing to choose from.
    """

    names: tuple[str, ...]
    folds: tuple[FoldOutcome, ...]
    tested: BacktestResult
    returns: Floats
    deflated: Deflated | None
    overfitting: Overfitting | None

    def trial_sharpes(self) -> Floats:
        """Return every candidate's Sharpe ratio over the validation days, per day, shape (C,)."""
        return np.array([daily_sharpe(column) for column in self.returns.T])


def select(
    names: Sequence[str],
    folds: Sequence[Fold],
    days: npt.NDArray[np.int64],
    run: Run,
    cash: float,
    rules: SelectionRules,
    progress: Callable[[int], None] | None = None,
) -> Selection:
    """Choose in every fold, then test what was chosen.

    Args:
        names: The candidates'.
        folds: From ``walk_forward``.
        days: yyyymmdd of all trading days, shape (D,).
        run: Runs one candidate over one span.
        cash: What accounts begin with; the tests' goes on from one to the next.
        rules: How to rank.
        progress: Called with backtests done.
    """
    chooser = _Chooser(names, days, run, cash, rules, progress)
    outcomes = tuple(chooser.fold(fold) for fold in folds)
    returns = np.concatenate(chooser.returns)
    return Selection(
        names=tuple(names),
        folds=outcomes,
        tested=joined(chooser.tests, cash),
        returns=returns,
        deflated=_deflated(returns, outcomes, rules),
        overfitting=_overfitting(returns),
    )


class _Chooser:
    def __init__(
        self,
        names: Sequence[str],
        days: npt.NDArray[np.int64],
        run: Run,
        cash: float,
        rules: SelectionRules,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.names, self.days, self.run = names, days, run
        self.cash, self.rules, self.progress = cash, rules, progress
        self.account = cash
        self.tests: list[BacktestResult] = []
        self.returns: list[Floats] = []
        self.seen = 0
        self.done = 0

    def fold(self, fold: Fold) -> FoldOutcome:
        results = [
            self._backtest(number, fold.validation, self.cash) for number in range(len(self.names))
        ]
        self._keep_returns(fold, results)
        ranking = rank(results, self.rules)
        test = None
        if ranking[0].eligible and self.account > 0.0:
            test = self._backtest(ranking[0].candidate, fold.test, self.account)
        self.tests.append(self._idle(fold.test, results[0]) if test is None else test)
        self.account = float(self.tests[-1].equity["equity"][-1])
        return FoldOutcome(fold, ranking, test)

    def _backtest(self, candidate: int, span: Span, cash: float) -> BacktestResult:
        result = self.run(candidate, span, cash)
        told, expected = result.equity["day"].tolist(), self.days[slice(*span)].tolist()
        if told != expected:
            raise ValueError(f"days {expected[0]} to {expected[-1]} were asked, {told} were run")
        self.done += 1
        if self.progress is not None:
            self.progress(self.done)
        return result

    def _keep_returns(self, fold: Fold, results: Sequence[BacktestResult]) -> None:
        """Keep the days that no earlier fold had."""
        new = max(fold.validation.start, self.seen)
        columns = [daily_returns(result)[new - fold.validation.start :] for result in results]
        self.returns.append(np.column_stack(columns))
        self.seen = fold.validation.stop

    def _idle(self, span: Span, like: BacktestResult) -> BacktestResult:
        rows = np.zeros(span.days, EQUITY)
        rows["day"] = self.days[slice(*span)]
        rows["ts"] = midnights_ns(rows["day"])
        rows["equity"] = rows["cash"] = self.account
        return replace(
            like, cash=self.account, fills=np.zeros(0, FILL), trades=np.zeros(0, TRADE),
            equity=rows, signals=0, unfilled={}, refusals={}, wall_s=0.0, filled=0, notes={},
        )  # fmt: skip


def rank(results: Sequence[BacktestResult], rules: SelectionRules) -> tuple[Ranked, ...]:
    """Rank candidates by their validation, best first; of equals the first comes first."""
    ranked = [_judge(number, result, rules) for number, result in enumerate(results)]
    ranked.sort(key=lambda one: (not one.eligible, -one.value if one.eligible else 0.0))
    return tuple(ranked)


def _judge(number: int, result: BacktestResult, rules: SelectionRules) -> Ranked:
    finished = result.trades[result.trades["open"] == 0]
    if rules.objective in _OF_TRADES:
        value = getattr(trade_metrics(finished), rules.objective)
    else:
        value = getattr(account_metrics(result, rules.days_per_year), rules.objective)
    valued = math.isfinite(value) and value >= rules.least_value
    eligible = valued and len(finished) >= rules.min_trades
    return Ranked(number, value, len(finished), len(result.trades) - len(finished), eligible)


def joined(parts: Sequence[BacktestResult], cash: float) -> BacktestResult:
    """Return accounts that went on from each other as one.

    Args:
        parts: In order of time, at least one; each begins with what the one before ended with.
        cash: What the first began with.
    """
    names = list(dict.fromkeys(name for part in parts for name in part.strategies))
    trades: list[npt.NDArray[np.void]] = []
    fills: list[npt.NDArray[np.void]] = []
    offset = 0
    for part in parts:
        numbers = np.array([names.index(name) for name in part.strategies], np.uint32)
        for table, into in ((part.trades.copy(), trades), (part.fills.copy(), fills)):
            table["strategy"] = numbers[table["strategy"]] if len(table) else 0
            into.append(table)
        fills[-1]["trade"] += offset
        offset += len(part.trades)
    return replace(
        parts[0],
        cash=cash,
        fills=np.concatenate(fills),
        trades=np.concatenate(trades),
        equity=np.concatenate([part.equity for part in parts]),
        strategies=tuple(names),
        records=max(part.records for part in parts),
        signals=sum(part.signals for part in parts),
        unfilled=_added([part.unfilled for part in parts]),
        refusals=_added([part.refusals for part in parts]),
        filled=sum(part.filled for part in parts),
        notes=_added([part.notes for part in parts]),
        wall_s=sum(part.wall_s for part in parts),
    )


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = sorted({name for one in counts for name in one})
    return {name: sum(one.get(name, 0) for one in counts) for name in names}


def _deflated(
    returns: Floats, outcomes: Sequence[FoldOutcome], rules: SelectionRules
) -> Deflated | None:
    chosen = next((one.chosen for one in reversed(outcomes) if one.chosen is not None), None)
    if chosen is None:
        return None
    ratios = np.array([daily_sharpe(column) for column in returns.T])
    return deflated_sharpe(returns[:, chosen], ratios, rules.other_trials)


def _overfitting(returns: Floats) -> Overfitting | None:
    days, trials = returns.shape
    blocks = usable_blocks(days)
    if trials < 2 or not blocks:
        return None
    return probability_of_overfitting(returns, blocks)
