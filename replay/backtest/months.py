"""Returns by month and by year, as a table."""

from typing import Final

import numpy as np

from replay.backtest.metrics import daily_returns
from replay.backtest.records import BacktestResult
from replay.backtest.report_text import percent
from replay.report_page import Cell, Table, Value

MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_FULL_SHADE: Final = 0.1
"""A month's return from which its shade gets no deeper."""
YEAR: Final = 0
"""Stands for the whole year among its months."""


def monthly_returns(result: BacktestResult) -> dict[int, dict[int, float]]:
    """Return the account's return of every month by year; under ``YEAR`` that of the whole year."""
    import empyrical
    import pandas as pd

    if not len(result.equity):
        return {}
    days = pd.to_datetime(result.equity["day"].astype(str), format="%Y%m%d")
    series = pd.Series(daily_returns(result), index=days)
    years: dict[int, dict[int, float]] = {
        int(year): {YEAR: float(value)}
        for year, value in empyrical.aggregate_returns(series, "yearly").items()
    }
    for (year, month), value in empyrical.aggregate_returns(series, "monthly").items():
        years[int(year)][int(month)] = float(value)
    return years


def monthly_table(result: BacktestResult) -> Table:
    """Lay the months out, a row a year, shaded by their return."""
    rows: list[list[Value]] = []
    for year, months in sorted(monthly_returns(result).items()):
        cells = [_cell(months.get(month)) for month in range(1, 13)]
        rows.append([str(year), *cells, percent(months[YEAR])])
    return Table("Returns by month", ["year", *MONTHS, "whole year"], rows)


def _cell(value: float | None) -> Cell:
    if value is None:
        return Cell("")
    return Cell(percent(value), float(np.clip(value / _FULL_SHADE, -1.0, 1.0)))
