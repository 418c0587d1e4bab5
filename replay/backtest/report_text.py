"""A backtest's numbers as people read them: the summary in a terminal and in the report."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from rich import box
from rich.table import Table

from replay.backtest.metrics import Metrics
from replay.backtest.records import BacktestResult

DASH: Final = "\u2013"
_SECONDS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def percent(value: float) -> str:
    """Write a fraction as a percentage."""
    return f"{value:.2%}" if math.isfinite(value) else _odd(value)


def money(value: float) -> str:
    """Write an amount with its cents."""
    return f"{value:,.2f}" if math.isfinite(value) else _odd(value)


def number(value: float) -> str:
    """Write a ratio."""
    return f"{value:,.2f}" if math.isfinite(value) else _odd(value)


def count(value: float) -> str:
    """Write a whole number."""
    return f"{value:,.0f}" if math.isfinite(value) else _odd(value)


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if not math.isfinite(seconds):
        return _odd(seconds)
    size, unit = next((pair for pair in _SECONDS if seconds >= pair[0]), _SECONDS[-1])
    return f"{seconds / size:,.1f} {unit}"


def day(yyyymmdd: float) -> str:
    """Write a trading day."""
    text = f"{int(yyyymmdd):08d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if yyyymmdd else DASH


def _odd(value: float) -> str:
    return DASH if math.isnan(value) else "\u221e" if value > 0 else "-\u221e"


_ACCOUNT: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("first_day", "from", day),
    ("last_day", "to", day),
    ("days", "trading days", count),
    ("final_equity", "equity at the end", money),
    ("cumulative_return", "return", percent),
    ("annual_return", "return a year", percent),
    ("annual_volatility", "volatility a year", percent),
    ("sharpe", "Sharpe ratio", number),
    ("sharpe_probability", "probability it is above 0", percent),
    ("track_record_days", "days it takes to say so", count),
    ("deflated_sharpe", "deflated Sharpe ratio", percent),
    ("trials", "trials it counts", count),
    ("sortino", "Sortino ratio", number),
    ("calmar", "Calmar ratio", number),
    ("max_drawdown", "deepest drawdown", percent),
    ("drawdown_days", "longest drawdown, days", count),
)
_TRADES: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("num_trades", "trades", count),
    ("open_trades", "still open", count),
    ("win_rate", "win rate", percent),
    ("profit_loss_ratio", "profit/loss ratio", number),
    ("profit_factor", "profit factor", number),
    ("avg_return", "return of a trade", percent),
    ("best_return", "best trade", percent),
    ("worst_return", "worst trade", percent),
    ("max_trade_drawdown", "deepest trade drawdown", percent),
    ("mean_holding_s", "holding time", duration),
    ("losing_streak", "losers in a row", count),
    ("turnover_yearly", "turnover a year, \u00d7", number),
    ("time_in_market", "days with a position", percent),
    ("exposure_mean", "mean exposure at the close", percent),
    ("exposure_max", "highest exposure at the close", percent),
    ("cost", "fees and taxes", money),
)


def summary_rows(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """Return the numbers in two columns, each with its name: of the account, of the trades."""
    values = metrics.as_dict()
    left, right = (
        [(told, write(values[name])) for name, told, write in part] for part in (_ACCOUNT, _TRADES)
    )
    return [(*one, *other) for one, other in zip(left, right, strict=True)]


def summary_table(metrics: Metrics, title: str = "") -> Table:
    """Lay the numbers out for a terminal."""
    table = Table(
        title=title or None, title_justify="left", box=box.SIMPLE, show_header=False,
        show_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for justify in ("left", "right", "left", "right"):
        table.add_column(justify=justify, no_wrap=justify == "right")
    for row in summary_rows(metrics):
        table.add_row(*row)
    return table


def count_lines(result: BacktestResult) -> list[tuple[str, str]]:
    """Return what was counted on the way, a line a kind; kinds that did not occur are left out."""
    return tally_lines(
        {
            "signals": {"made": result.signals},
            "not filled": result.unfilled,
            "refused": result.refusals,
            "noted": result.notes,
            "bad input": result.bad_input,
        }
    )


def tally_lines(counts_by_kind: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    """Return counts by kind as text; kinds that did not occur are left out."""
    return [
        (kind, ", ".join(f"{name} {number:,}" for name, number in counts.items() if number))
        for kind, counts in counts_by_kind.items()
        if any(counts.values())
    ]
