"""What a selection leaves in a directory: the best's metrics, every ranking, and a report."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from replay.backtest.metrics import TradeMetrics, account_metrics, measure
from replay.backtest.report import ReportOptions, write_report
from replay.backtest.report_text import day, number, percent
from replay.backtest.selection import FoldOutcome, Selection, SelectionRules
from replay.report_page import COLOURS, Plot, Section, Table, Text, Value, new_figure

BEST_COLUMNS: Final = (
    "num_trades",
    "cumulative_return_percentage",
    "avg_return_per_trade_percentage",
    "win_rate_percentage",
    "profit_loss_ratio",
    "max_single_trade_drawdown_percentage",
)
_BINS: Final = 40
_MOST_RANKED: Final = 10


def best_metrics(selection: Selection) -> dict[str, float]:
    """Return what the chosen came to on the tests, by the columns of ``best_metrics.csv``."""
    trades: TradeMetrics = measure(selection.tested).trades
    total = account_metrics(selection.tested).cumulative_return
    values = (
        trades.num_trades,
        100.0 * total,
        100.0 * trades.avg_return,
        100.0 * trades.win_rate,
        trades.profit_loss_ratio,
        100.0 * trades.max_trade_drawdown,
    )
    return dict(zip(BEST_COLUMNS, values, strict=True))


def as_json(
    selection: Selection, days: npt.NDArray[np.int64], rules: SelectionRules
) -> dict[str, Any]:
    """Return everything for machines; what has no answer becomes null.

    Args:
        selection: What came of it.
        days: yyyymmdd of all trading days.
        rules: By which it was chosen.
    """
    tested = measure(
        selection.tested, selection.trial_sharpes(), rules.days_per_year, rules.other_trials
    )
    over, deflated = selection.overfitting, selection.deflated
    return {
        "best_metrics": best_metrics(selection),
        "tested": tested.as_dict(),
        "candidates": list(selection.names),
        "probability_of_overfitting": None if over is None else over.pbo,
        "overfitting_blocks": None if over is None else over.blocks,
        "deflated_sharpe": None if deflated is None else deflated.probability,
        "trials": None if deflated is None else deflated.trials,
        "bad_input": selection.tested.bad_input,
        "folds": [_fold_json(selection, outcome, days) for outcome in selection.folds],
    }


def _fold_json(
    selection: Selection, outcome: FoldOutcome, days: npt.NDArray[np.int64]
) -> dict[str, Any]:
    fold = outcome.fold
    return {
        "fold": fold.number,
        "validation": [int(days[fold.validation.start]), int(days[fold.validation.stop - 1])],
        "test": [int(days[fold.test.start]), int(days[fold.test.stop - 1])],
        "chosen": None if outcome.chosen is None else selection.names[outcome.chosen],
        "ranking": [
            {**one._asdict(), "candidate": selection.names[one.candidate]}
            for one in outcome.ranking
        ],
        "test_return": _test_return(outcome),
    }


def _test_return(outcome: FoldOutcome) -> float:
    return 0.0 if outcome.test is None else account_metrics(outcome.test).cumulative_return


def write_selection(
    selection: Selection,
    days: npt.NDArray[np.int64],
    directory: Path,
    rules: SelectionRules | None = None,
    logs: Sequence[Path] = (),
) -> list[Path]:
    """Write ``best_metrics.csv``, ``selection.json``, ``ranking.csv`` and the tests' report.

    Args:
        selection: What came of it.
        days: yyyymmdd of all trading days.
        directory: Made if need be.
        rules: By which it was chosen.
        logs: What was traded, for the candles.

    Returns:
        The files.

    Raises:
        OSError: one cannot be written.
    """
    rules = rules or SelectionRules()
    directory.mkdir(parents=True, exist_ok=True)
    best = best_metrics(selection)
    told = orjson.dumps(as_json(selection, days, rules), option=orjson.OPT_INDENT_2) + b"\n"
    files = {
        "best_metrics.csv": _csv([BEST_COLUMNS, [_plain(best[name]) for name in BEST_COLUMNS]]),
        "ranking.csv": _csv(_ranking_rows(selection, rules)),
        "selection.json": told,
    }
    for name, data in files.items():
        draft = directory / f".{name}.draft"
        draft.write_bytes(data)
        draft.replace(directory / name)
    options = ReportOptions(
        title="Walk-forward selection",
        logs=logs,
        days_per_year=rules.days_per_year,
        trial_sharpes=selection.trial_sharpes(),
        other_trials=rules.other_trials,
        more=selection_sections(selection, days, rules),
    )
    return [*(directory / name for name in files), *write_report(
        selection.tested, directory, options
    )]  # fmt: skip


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _plain(value: float) -> str:
    """Write a number so that it reads back the same; what has no answer is empty."""
    return "" if math.isnan(value) else repr(value)


def _ranking_rows(selection: Selection, rules: SelectionRules) -> list[Sequence[object]]:
    headings = ["fold", "rank", "candidate", rules.objective, "trades", "purged", "eligible"]
    rows: list[Sequence[object]] = [headings]
    for outcome in selection.folds:
        for place, one in enumerate(outcome.ranking, 1):
            name, value = selection.names[one.candidate], _plain(one.value)
            facts = [one.trades, one.purged, str(one.eligible).lower()]
            rows.append([outcome.fold.number, place, name, value, *facts])
    return rows


def selection_sections(
    selection: Selection, days: npt.NDArray[np.int64], rules: SelectionRules
) -> list[Section]:
    """Return what the report says of the choice: the folds, the candidates, and their luck."""
    rows = [fold_row(selection, outcome, days) for outcome in selection.folds]
    headings = ["fold", "validated from", "to", "tested from", "to", "chosen",
                rules.objective, "test return", "test trades"]  # fmt: skip
    note = (
        f"The numbers of this page are those of the test spans, but for {rules.objective} here and "
        "for the candidates and their luck below, which are of validation days. Only the chosen "
        "candidate was run in a test, on the account as the test before left it."
    )
    parts: list[Section] = [Table("Folds", headings, rows, note), _candidates(selection, rules)]
    return [*parts, *_luck(selection)]


def fold_row(
    selection: Selection, outcome: FoldOutcome, days: npt.NDArray[np.int64]
) -> list[Value]:
    """Return one fold as a row of text."""
    fold = outcome.fold
    spans = [
        day(float(days[at]))
        for at in (
            fold.validation.start, fold.validation.stop - 1, fold.test.start, fold.test.stop - 1,
        )
    ]  # fmt: skip
    name = "none" if outcome.chosen is None else selection.names[outcome.chosen]
    trades = 0 if outcome.test is None else len(outcome.test.trades)
    value = number(outcome.ranking[0].value)
    return [fold.number, *spans, name, value, percent(_test_return(outcome)), trades]


def _candidates(selection: Selection, rules: SelectionRules) -> Table:
    """Lay out how often each candidate was chosen, and its Sharpe ratio over all validation."""
    chosen = [outcome.chosen for outcome in selection.folds]
    ratios = selection.trial_sharpes() * math.sqrt(rules.days_per_year)
    order = np.argsort(-np.nan_to_num(ratios, nan=-np.inf), kind="stable")[:_MOST_RANKED]
    rows: list[list[Value]] = [
        [selection.names[at], number(float(ratios[at])), chosen.count(int(at))] for at in order
    ]
    left = len(selection.names) - len(rows)
    note = f"{left:,} more with a lower ratio." if left else ""
    headings = ["candidate", "Sharpe ratio over all validation days", "times chosen"]
    return Table("Candidates", headings, rows, note)


def _luck(selection: Selection) -> list[Section]:
    over, deflated = selection.overfitting, selection.deflated
    told = []
    if deflated is not None:
        told.append(
            f"Deflated Sharpe ratio of the last choice over the validation days: "
            f"{percent(deflated.probability)}, among {deflated.trials:,} trials."
        )
    if over is None:
        told.append("Too few days or candidates to tell how probable it is that luck was chosen.")
        return [Text("Is it luck?", "\n\n".join(told))]
    told.append(
        f"Probability of backtest overfitting: {percent(over.pbo)}. In so many of "
        f"{len(over.logits):,} ways to halve {over.blocks} blocks of validation days, the best of "
        f"one half was no better than the median of the other; in {percent(over.loss_probability)} "
        "it lost money there."
    )
    figure = new_figure(300, showlegend=False)
    figure.add_histogram(x=over.logits, nbinsx=_BINS, marker={"color": COLOURS[0]})
    figure.add_vline(x=0.0, line={"color": COLOURS[1], "width": 1.5})
    figure.update_xaxes(title_text="logit of the best one's rank in the other half")
    figure.update_yaxes(title_text="halvings")
    note = "Left of the line and on it, the best of one half was no better than the median."
    return [Text("Is it luck?", "\n\n".join(told)), Plot("Ranks out of sample", figure, note)]
