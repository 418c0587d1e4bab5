"""A sweep for the terminal: what came of it in a few lines, and the best trials in a table."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from replay.backtest.metrics import DAYS_PER_YEAR
from replay.sweep.dimension import Scalar
from replay.sweep.trial import Outcome
from replay.sweep.verdict import TOP, Verdict

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: Final = ("sharpe", "cumulative_return", "max_drawdown", "num_trades", "win_rate")
"""Metrics shown beside the objective."""
_MOST_REASONS: Final = 3


def summary_lines(verdict: Verdict) -> Iterator[str]:
    """Yield what came of a sweep, a line each."""
    seconds = sum(outcome.wall_s for outcome in verdict.outcomes)
    yield (
        f"{len(verdict.outcomes)} trials, {seconds:.1f} s of work, "
        f"{verdict.compiled} functions compiled"
    )
    untraded = len(verdict.outcomes) - len(verdict.ranked) - sum(verdict.refused.values())
    if untraded:
        yield f"{untraded} have no {verdict.objective.metric}: they did not trade, or never lost"
    for reason, count in list(verdict.refused.items())[:_MOST_REASONS]:
        yield f"{count} refused: {reason}"
    if verdict.best is not None:
        yield f"best: trial {verdict.best.number}, {params_text(verdict.best.params)}"
    yield from skill_lines(verdict)


def skill_lines(verdict: Verdict) -> Iterator[str]:
    """Yield how far the best trial is more than luck."""
    if verdict.deflated is not None and not math.isnan(verdict.deflated.probability):
        year = math.sqrt(DAYS_PER_YEAR)
        yield (
            f"deflated Sharpe ratio of the best: {verdict.deflated.probability:.3f}, "
            f"the probability that its true ratio is above {verdict.deflated.hurdle * year:.2f} "
            f"a year, which luck alone brings the best of {verdict.deflated.trials} trials"
        )
    if not math.isnan(verdict.pbo):
        yield (
            f"probability of backtest overfitting: {verdict.pbo:.3f}, the share of "
            f"{verdict.blocks}-block halves whose best trial was below the median in the other"
        )


def top_table(verdict: Verdict, most: int = TOP) -> "Table":
    """Return the best trials, the best first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings(verdict):
        table.add_column(heading, justify="right", overflow="fold")
    for outcome in verdict.ranked[:most]:
        table.add_row(*(number_text(value) for value in row_of(verdict, outcome)))
    return table


def headings(verdict: Verdict) -> list[str]:
    """Return the names of a trial's columns: its number, what varied, metrics."""
    keys = list(verdict.outcomes[0].params) if verdict.outcomes else []
    return ["trial", *short_names(keys), *_metrics(verdict)]


def row_of(verdict: Verdict, outcome: Outcome) -> list[Scalar]:
    """Return a trial's columns."""
    metrics = [outcome.metrics.get(name, math.nan) for name in _metrics(verdict)]
    return [outcome.number, *outcome.params.values(), *metrics]


def _metrics(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys((verdict.objective.metric, *COLUMNS)))


def short_names(keys: list[str]) -> list[str]:
    """Return the last part of each key, or as much of it as tells them apart."""
    for parts in range(1, max((key.count(".") for key in keys), default=0) + 1):
        short = [".".join(key.split(".")[-parts:]) for key in keys]
        if len(set(short)) == len(keys):
            return short
    return keys


def params_text(params: dict[str, Scalar]) -> str:
    """Return parameters as ``key=value``, a blank between two."""
    return " ".join(f"{key}={value}" for key, value in params.items())


def number_text(value: Scalar) -> str:
    """Return a value for a table: numbers with four digits, NaN as a dash."""
    if isinstance(value, bool | str | int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"
