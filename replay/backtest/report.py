"""The report of a backtest: numbers, tables and one HTML page, in a directory of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from replay.backtest.candles import candles_of
from replay.backtest.metrics import DAYS_PER_YEAR, Floats, Metrics, measure, trade_metrics
from replay.backtest.months import monthly_table
from replay.backtest.records import BacktestResult
from replay.backtest.report_figures import account_plot, candle_plot, trades_plot
from replay.backtest.report_text import count_lines, day, money, number, percent, summary_rows
from replay.backtest.tables import write_tables
from replay.report_page import Section, Table, Text, Value, write_page

MOST_CHARTS: Final = 6
_MOST_ROWS: Final = 30


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report is about, beyond the result.

    Attributes:
        title: Of the page.
        logs: What was traded, for the candles; none: no candles.
        charts: Most instruments that are drawn, those with most trades first.
        days_per_year: To annualise by.
        trial_sharpes: Sharpe ratio of every trial that was made, per day; None: this was the only.
        other_trials: Trials whose ratios are not known.
        more: Sections after the summary.
    """

    title: str = "Backtest"
    logs: Sequence[Path] = ()
    charts: int = MOST_CHARTS
    days_per_year: float = DAYS_PER_YEAR
    trial_sharpes: Floats | None = None
    other_trials: int = 0
    more: Sequence[Section] = ()


def write_report(
    result: BacktestResult, directory: Path, options: ReportOptions | None = None
) -> list[Path]:
    """Write everything about a backtest into a directory, which is made if need be.

    ``metrics.json``, ``trades``, ``fills`` and ``equity`` as ``.csv`` and ``.parquet``, and
    ``report.html``, which opens offline.

    Returns:
        The files.

    Raises:
        OSError: one cannot be written.
        InputFileError: a log for the candles cannot be read.
    """
    options = options or ReportOptions()
    directory.mkdir(parents=True, exist_ok=True)
    metrics = measure(result, options.trial_sharpes, options.days_per_year, options.other_trials)
    written = [_write_metrics(result, metrics, directory), *write_tables(result, directory)]
    path = directory / "report.html"
    write_page(path, options.title, sections(result, metrics, options), _subtitle(result))
    return [*written, path]


def as_json(result: BacktestResult, metrics: Metrics) -> dict[str, Any]:
    """Return the numbers and counts for machines; what has no answer becomes null."""
    return {
        **metrics.as_dict(),
        "cash": result.cash,
        "records": result.records,
        "signals": result.signals,
        "filled": result.filled,
        "fills": len(result.fills),
        "unfilled": result.unfilled,
        "refusals": result.refusals,
        "notes": result.notes,
        "bad_input": result.bad_input,
        "wall_s": result.wall_s,
    }


def sections(result: BacktestResult, metrics: Metrics, options: ReportOptions) -> list[Section]:
    """Return the parts of the page, in order."""
    parts: list[Section] = [
        Table("Summary", ["", "", "", ""], summary_rows(metrics), _SUMMARY_NOTE),
        *options.more,
    ]
    if len(result.equity):
        parts += [account_plot(result), monthly_table(result)]
    if not len(result.trades):
        parts.append(Text("Trades", "There was none."))
        return [*parts, _counts(result)]
    parts.append(trades_plot(result))
    chosen = most_traded(result, options.charts) if options.logs else []
    candles = candles_of(options.logs, chosen) if chosen else {}
    parts += [candle_plot(result, name, candles[name]) for name in chosen if name in candles]
    parts += [
        _groups("Strategies", result, "strategy", result.strategies),
        _groups("Instruments", result, "instrument", result.symbols),
        _counts(result),
    ]
    return parts


_SUMMARY_NOTE: Final = (
    "Ratios a year are of daily returns without a risk-free rate. The deflated Sharpe ratio is the "
    "probability that the true ratio is above what luck alone brings the best of all trials."
)


def most_traded(result: BacktestResult, most: int) -> list[str]:
    """Return the instruments with most trades, at most so many."""
    numbers, counts = np.unique(result.trades["instrument"], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [result.symbols[at] for at in numbers[order]]


def _groups(title: str, result: BacktestResult, field: str, names: Sequence[str]) -> Table:
    """Lay out trades by what they have in common, those that made or lost most first."""
    trades = result.trades
    made = np.bincount(trades[field], trades["pnl"], len(names))
    counts = np.bincount(trades[field], minlength=len(names))
    order = [at for at in np.argsort(-np.abs(made), kind="stable") if counts[at]]
    rows = [[names[at], *_group(trades[trades[field] == at])] for at in order[:_MOST_ROWS]]
    left = len(order) - len(rows)
    note = f"{left:,} more, which made or lost less." if left else ""
    headings = ["", "trades", "profit", "costs", "win rate", "profit/loss", "return of a trade"]
    return Table(title, headings, rows, note)


def _group(trades: npt.NDArray[np.void]) -> list[Value]:
    told = trade_metrics(trades)
    return [
        told.num_trades,
        money(float(trades["pnl"].sum())),
        money(float(trades["cost"].sum())),
        percent(told.win_rate),
        number(told.profit_loss_ratio),
        percent(told.avg_return),
    ]


def _counts(result: BacktestResult) -> Table:
    return Table("Signals and orders", ["", ""], count_lines(result))


def _subtitle(result: BacktestResult) -> str:
    if not len(result.equity):
        return "No trading day."
    first, last = (day(float(result.equity["day"][at])) for at in (0, -1))
    return (
        f"{first} to {last}, {len(result.symbols):,} instruments, {result.records:,} records, "
        f"{len(result.trades):,} trades."
    )


def _write_metrics(result: BacktestResult, metrics: Metrics, directory: Path) -> Path:
    path = directory / "metrics.json"
    draft = directory / ".metrics.json.draft"
    draft.write_bytes(orjson.dumps(as_json(result, metrics), option=orjson.OPT_INDENT_2) + b"\n")
    draft.replace(path)
    return path
