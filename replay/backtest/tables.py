"""A backtest's trades, fills and days as tables: CSV for people, Parquet for programs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.backtest.records import BacktestResult

_TIME: Final = pa.timestamp("ns", tz="UTC")
_UNITS: Final = {
    "quantity": "units of trading",
    "price": "money a unit",
    "price_entry": "money a unit",
    "price_exit": "money a unit",
    "return": "fraction of the money put in",
    "drawdown": "fraction of the highest value",
    "trade": "row of the table of trades, from 0",
}
_MONEY: Final = "money"


def trades_table(result: BacktestResult) -> pa.Table:
    """Return the round trips, a row each: names instead of numbers, times in UTC."""
    return _table(result, result.trades, {1: "long", -1: "short"})


def fills_table(result: BacktestResult) -> pa.Table:
    """Return the executions, a row each."""
    return _table(result, result.fills, {1: "buy", -1: "sell"})


def equity_table(result: BacktestResult) -> pa.Table:
    """Return the account, a row a trading day."""
    return _table(result, result.equity, {})


def write_tables(result: BacktestResult, directory: Path) -> list[Path]:
    """Write trades, fills and days, each as ``.csv`` and ``.parquet``; whole or not at all.

    Returns:
        The files.

    Raises:
        OSError: one cannot be written.
    """
    tables = {
        "trades": trades_table(result),
        "fills": fills_table(result),
        "equity": equity_table(result),
    }
    return [path for name, table in tables.items() for path in _write(table, directory / name)]


def _write(table: pa.Table, stem: Path) -> Iterator[Path]:
    from pyarrow import csv, parquet

    writers: tuple[tuple[str, Callable[[pa.Table, Path], object]], ...] = (
        (".csv", csv.write_csv),
        (".parquet", parquet.write_table),
    )
    for suffix, write in writers:
        path = stem.with_suffix(suffix)
        draft = path.with_name(f".{path.name}.draft")
        write(table, draft)
        draft.replace(path)
        yield path


def _table(result: BacktestResult, rows: npt.NDArray[np.void], sides: dict[int, str]) -> pa.Table:
    fields, columns = [], []
    for name in rows.dtype.names or ():
        told, column = _column(result, name, rows[name], sides)
        columns.append(column)
        fields.append(pa.field(told, column.type, metadata=_unit(name, column)))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _column(
    result: BacktestResult, name: str, values: npt.NDArray[Any], sides: dict[int, str]
) -> tuple[str, pa.Array]:
    if name.startswith("ts"):
        told = f"time{name[2:]}"
        return told, pa.array(np.ascontiguousarray(values), pa.int64()).cast(_TIME)
    if name == "instrument":
        return "symbol", _named(values, result.symbols)
    if name == "strategy":
        return name, _named(values, result.strategies)
    if name == "side":
        return name, pa.array([sides.get(side, "") for side in values.tolist()], pa.string())
    if name == "open":
        return name, pa.array(values != 0)
    if name == "day":
        return name, pa.array(_days(values))
    return name, pa.array(np.ascontiguousarray(values))


def _named(values: npt.NDArray[Any], names: Sequence[str]) -> pa.Array:
    return pa.array([names[number] for number in values.tolist()], pa.string())


def midnights_ns(days: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return when days given as yyyymmdd begin in UTC, ns since 1970-01-01."""
    midnights: npt.NDArray[np.int64] = _days(days).astype("datetime64[ns]").astype(np.int64)
    return midnights


def _days(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn yyyymmdd into dates."""
    months = (values // 10_000 - 1970) * 12 + values // 100 % 100 - 1
    firsts = months.astype("datetime64[M]").astype("datetime64[D]")
    return np.asarray(firsts + (values % 100 - 1))


def _unit(name: str, column: pa.Array) -> dict[str, str]:
    if name in _UNITS:
        return {"unit": _UNITS[name]}
    return {"unit": _MONEY} if pa.types.is_floating(column.type) else {}
