"""Selection: nobody sees the tests before the choice, ranks are right, accounts go on."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from result_cases import CASH, a_result, trade_rows, weekdays

from replay.backtest.folds import Span, walk_forward
from replay.backtest.metrics import daily_returns, daily_sharpe, measure
from replay.backtest.records import BacktestResult
from replay.backtest.selection import (
    OBJECTIVES,
    Selection,
    SelectionRules,
    joined,
    rank,
    select,
)
from replay.backtest.selection_report import BEST_COLUMNS, best_metrics, write_selection
from replay.backtest.sharpe import deflated_sharpe

pytest.importorskip("empyrical")

DAYS = np.array([int(day.strftime("%Y%m%d")) for day in weekdays(120)])
NAMES = ("calm", "wild", "late")


class Market:
    """Runs made-up candidates: each has a return a day, and trades that pay it out."""

    def __init__(self, returns: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
        self.returns = returns
        self.names: tuple[str, ...] = NAMES
        self.calls: list[tuple[int, Span, float]] = []

    def __call__(self, candidate: int, span: Span, cash: float) -> BacktestResult:
        self.calls.append((candidate, span, cash))
        equities = cash * np.cumprod(1.0 + self.returns[slice(*span), candidate])
        changes = np.diff(np.concatenate(([cash], equities)))
        made = a_result(equities.tolist(), trade_rows(changes.tolist(), put_in=cash))
        rows = made.equity.copy()
        rows["day"] = DAYS[slice(*span)]
        return replace(made, equity=rows, cash=cash, strategies=(self.names[candidate],))


def ratios_of(
    returns: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([daily_sharpe(column) for column in returns.T])


def three_candidates(days: int = 120) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Calm earns a little; wild nothing; late loses until day 60 and earns most after it."""
    rng = np.random.default_rng(11)
    returns = rng.normal(0.0, 0.002, (days, 3))
    returns[:, 0] += 0.0004
    returns[:, 1] += rng.normal(0.0, 0.01, days)
    returns[:60, 2] -= 0.004
    returns[60:, 2] += 0.004
    return returns


def choose(market: Market, rules: SelectionRules | None = None, embargo: int = 2) -> Selection:
    folds = walk_forward(len(DAYS), validation=40, test=20, embargo=embargo)
    return select(NAMES, folds, DAYS, market, CASH, rules or SelectionRules())


def test_a_test_is_run_once_for_the_one_that_was_chosen_before() -> None:
    market = Market(three_candidates())
    chosen = choose(market)
    tests = {outcome.fold.test for outcome in chosen.folds}
    asked = [call for call in market.calls if call[1] in tests]
    assert [span for _, span, _ in asked] == [outcome.fold.test for outcome in chosen.folds]
    assert [candidate for candidate, _, _ in asked] == [one.chosen for one in chosen.folds]
    assert len(market.calls) == len(chosen.folds) * (len(NAMES) + 1)


def test_what_happens_in_a_test_cannot_change_what_was_chosen_for_it() -> None:
    returns = three_candidates()
    before = choose(Market(returns))
    for outcome in before.folds:
        changed = returns.copy()
        changed[outcome.fold.validation.stop :] = np.random.default_rng(5).normal(
            0.0, 0.05, changed[outcome.fold.validation.stop :].shape
        )
        number = outcome.fold.number - 1
        after = choose(Market(changed)).folds[number]
        assert (after.chosen, after.ranking) == (outcome.chosen, outcome.ranking)


def test_the_choice_follows_what_was_best() -> None:
    folds = choose(Market(three_candidates())).folds
    assert (folds[0].chosen, folds[-1].chosen) == (0, 2)


def test_the_tests_are_one_account_that_goes_on() -> None:
    market = Market(three_candidates())
    chosen = choose(market)
    tested = chosen.tested
    first = chosen.folds[0].fold.test.start
    assert tested.equity["day"].tolist() == DAYS[first:].tolist()
    expected = np.concatenate(
        [market.returns[slice(*one.fold.test), one.chosen or 0] for one in chosen.folds]
    )
    assert daily_returns(tested) == pytest.approx(expected)
    assert float(tested.trades["pnl"].sum()) == pytest.approx(
        float(tested.equity["equity"][-1]) - CASH
    )
    assert tested.strategies == tuple(dict.fromkeys(NAMES[one.chosen or 0] for one in chosen.folds))


def test_fills_point_at_their_own_trades_after_joining() -> None:
    parts = [a_result([CASH] * 3, trade_rows([1.0] * count)) for count in (2, 0, 3)]
    parts[2] = replace(parts[2], strategies=("other", "macd"))
    parts[2].trades["strategy"] = [0, 1, 0]
    whole = joined(parts, CASH)
    assert len(whole.trades) == 5
    assert whole.strategies == ("macd", "donchian", "other")
    assert whole.trades["strategy"].tolist() == [0, 0, 2, 0, 2]
    for trade, row in enumerate(whole.trades):
        times = whole.fills["ts"][whole.fills["trade"] == trade]
        assert {int(row["ts_entry"]), int(row["ts_exit"])} == set(times.tolist())
    assert whole.unfilled == {"LIMIT_UP": 6}


def results_of(pnls: Sequence[Sequence[float]]) -> list[BacktestResult]:
    return [a_result((CASH + np.cumsum([0.0, *each])).tolist(), trade_rows(each)) for each in pnls]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_puts_the_better_first(objective: str) -> None:
    good = [100.0, -50.0, 300.0, -50.0, 200.0] * 4
    bad = [-100.0, 50.0, -300.0, -10.0, -200.0] * 4
    ranked = rank(results_of([bad, good]), SelectionRules(objective=objective))  # type: ignore[arg-type] # each of them
    assert [one.candidate for one in ranked] == [1, 0]
    assert ranked[0].value > ranked[1].value


def test_trades_that_were_open_at_the_end_are_purged() -> None:
    results = results_of([[100.0, 100.0, 900.0], [200.0, 200.0, -900.0]])
    for result in results:
        result.trades["open"][2] = 1
    ranked = rank(results, SelectionRules(objective="avg_return"))
    assert [one.candidate for one in ranked] == [1, 0]
    assert [(one.trades, one.purged) for one in ranked] == [(2, 1), (2, 1)]


def test_a_candidate_with_too_few_trades_is_not_chosen() -> None:
    results = results_of([[500.0], [10.0, -5.0, 10.0]])
    ranked = rank(results, SelectionRules(objective="cumulative_return", min_trades=2))
    assert [(one.candidate, one.eligible) for one in ranked] == [(1, True), (0, False)]


def test_a_candidate_below_the_least_value_is_not_chosen() -> None:
    results = results_of([[-10.0, 5.0], [-20.0, 5.0]])
    for least, eligible in ((-math.inf, [True, True]), (0.0, [False, False])):
        rules = SelectionRules(objective="cumulative_return", least_value=least)
        assert [one.eligible for one in rank(results, rules)] == eligible
    worth = float(np.mean([-10.0, 5.0]) / 10_000.0)
    rules = SelectionRules(objective="avg_return", least_value=worth)
    assert [(one.candidate, one.eligible) for one in rank(results, rules)] == [
        (0, True),
        (1, False),
    ]


def test_a_value_without_end_is_not_chosen() -> None:
    results = results_of([[100.0, 200.0], [10.0, -5.0, 10.0]])
    ranked = rank(results, SelectionRules(objective="profit_loss_ratio"))
    assert [(one.candidate, one.eligible) for one in ranked] == [(1, True), (0, False)]
    assert ranked[1].value == math.inf


def test_of_equals_the_first_is_chosen() -> None:
    assert rank(results_of([[1.0, 2.0]] * 3), SelectionRules())[0].candidate == 0


def test_with_nobody_to_choose_the_account_lies_still() -> None:
    chosen = choose(Market(np.zeros((120, 3))))
    assert [outcome.chosen for outcome in chosen.folds] == [None] * len(chosen.folds)
    assert set(chosen.tested.equity["equity"].tolist()) == {CASH}
    assert len(chosen.tested.trades) == 0
    assert chosen.deflated is None
    best = best_metrics(chosen)
    assert (best["num_trades"], best["cumulative_return_percentage"]) == (0, 0.0)


def test_a_ruined_account_is_not_traded_on() -> None:
    returns = three_candidates()
    returns[45] = -1.0
    chosen = choose(Market(returns), SelectionRules(objective="win_rate", min_trades=0))
    assert chosen.folds[0].chosen is not None
    assert all(outcome.chosen is None for outcome in chosen.folds[1:])
    assert chosen.tested.equity["equity"][-1] == 0.0


def test_every_candidate_is_a_trial_over_the_validation_days() -> None:
    market = Market(three_candidates())
    chosen = choose(market, SelectionRules(other_trials=97))
    last = chosen.folds[-1].fold.validation.stop
    assert chosen.returns == pytest.approx(market.returns[:last])
    assert chosen.trial_sharpes() == pytest.approx(ratios_of(market.returns[:last]))
    assert chosen.deflated is not None
    assert chosen.deflated.trials == 100
    alone = choose(market).deflated
    assert alone is not None
    assert chosen.deflated.probability < alone.probability
    assert chosen.overfitting is not None
    assert chosen.overfitting.trials == 3


def test_luck_is_chosen_by_its_validation_and_told_by_its_tests() -> None:
    """Thirty candidates of pure noise: the best looks skilled where it was chosen, nowhere else."""
    validated, tested, overfitted, deflated = [], [], [], []
    for seed in range(6):
        market = Market(np.random.default_rng(seed).normal(0.0, 0.01, (120, 30)))
        market.names = tuple(f"noise {number}" for number in range(30))
        folds = walk_forward(len(DAYS), validation=60, test=30)
        chosen = select(market.names, folds, DAYS, market, CASH, SelectionRules())
        validated.append(np.mean([outcome.ranking[0].value for outcome in chosen.folds]))
        tested.append(daily_sharpe(daily_returns(chosen.tested)) * math.sqrt(252))
        assert chosen.overfitting is not None
        overfitted.append(chosen.overfitting.pbo)
        first = daily_returns(market(chosen.folds[0].ranking[0].candidate, Span(0, 60), CASH))
        deflated.append(deflated_sharpe(first, ratios_of(market.returns[:60])).probability)
    assert min(validated) > 2.0
    assert abs(np.mean(tested)) < 1.2
    assert np.mean(overfitted) > 0.3
    assert np.mean(deflated) < 0.7


def test_a_run_of_other_days_than_were_asked_is_an_error() -> None:
    market = Market(three_candidates())

    def short(candidate: int, span: Span, cash: float) -> BacktestResult:
        result = market(candidate, span, cash)
        return replace(result, equity=result.equity[1:])

    folds = walk_forward(len(DAYS), 40, 20)
    with pytest.raises(ValueError, match="were asked"):
        select(NAMES, folds, DAYS, short, CASH, SelectionRules())


def test_best_metrics_has_exactly_its_columns_and_one_row(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    chosen = choose(Market(three_candidates()))
    write_selection(chosen, DAYS, tmp_path)
    text = (tmp_path / "best_metrics.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == (
        "num_trades,cumulative_return_percentage,avg_return_per_trade_percentage,"
        "win_rate_percentage,profit_loss_ratio,max_single_trade_drawdown_percentage"
    )
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) == 2
    trades = chosen.tested.trades
    won, lost = trades["pnl"][trades["pnl"] > 0], trades["pnl"][trades["pnl"] < 0]
    expected = [
        len(trades),
        100 * (chosen.tested.equity["equity"][-1] / CASH - 1),
        100 * trades["return"].mean(),
        100 * len(won) / len(trades),
        won.mean() / -lost.mean(),
        100 * trades["drawdown"].max(),
    ]
    assert [float(value) for value in rows[1]] == pytest.approx(expected)
    assert rows[1][0] == str(len(trades))


def test_what_has_no_answer_is_empty_in_the_file(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    write_selection(choose(Market(np.zeros((120, 3)))), DAYS, tmp_path)
    rows = (tmp_path / "best_metrics.csv").read_text(encoding="utf-8").splitlines()
    assert rows == [",".join(BEST_COLUMNS), "0,0.0,,,,"]


def test_every_fold_and_rank_is_told_for_machines_and_people(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    rules = SelectionRules(other_trials=97, days_per_year=365.0)
    chosen = choose(Market(three_candidates()), rules)
    written = write_selection(chosen, DAYS, tmp_path, rules)
    assert sorted(written) == sorted(tmp_path.iterdir())
    told = json.loads((tmp_path / "selection.json").read_bytes())
    assert [fold["fold"] for fold in told["folds"]] == [1, 2, 3, 4]
    fold = told["folds"][0]
    assert fold["validation"] == [int(DAYS[0]), int(DAYS[39])]
    assert fold["test"] == [int(DAYS[42]), int(DAYS[61])]
    assert fold["chosen"] == fold["ranking"][0]["candidate"]
    assert 0.0 <= told["probability_of_overfitting"] <= 1.0
    ranking = list(csv.DictReader((tmp_path / "ranking.csv").read_text("utf-8").splitlines()))
    assert len(ranking) == 4 * 3
    assert {row["candidate"] for row in ranking} == set(NAMES)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    for part in ("Folds", "Candidates", "Is it luck?", "Ranks out of sample"):
        assert f"<h2>{part}</h2>" in report
    assert told["tested"]["trials"] == 100
    alone = choose(Market(three_candidates())).tested
    yearly = daily_sharpe(daily_returns(alone)) * math.sqrt(365.0)
    assert told["tested"]["sharpe"] == pytest.approx(yearly)
    assert told["tested"]["deflated_sharpe"] < measure(alone).skill.deflated_sharpe
    metrics = json.loads((tmp_path / "metrics.json").read_bytes())
    assert {name: metrics[name] for name in told["tested"]} == told["tested"]
