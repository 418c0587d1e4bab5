"""A sweep's trials as tables: one of trials, CSV and Parquet, and one of their daily returns."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.core.errors import ConfigError
from replay.sweep.verdict import Verdict


def trials_table(verdict: Verdict) -> pa.Table:
    """Return a row a trial: number, parameters by key, metrics by name, digest, error."""
    outcomes = verdict.outcomes
    keys = list(dict.fromkeys(key for one in outcomes for key in one.params))
    names = list(dict.fromkeys(name for one in outcomes for name in one.metrics))
    columns: dict[str, Any] = {"trial": [one.number for one in outcomes]}
    columns |= {key: _alike([one.params.get(key) for one in outcomes]) for key in keys}
    for name in names:
        columns[name] = [one.metrics.get(name, math.nan) for one in outcomes]
    columns["wall_s"] = [one.wall_s for one in outcomes]
    columns["digest"] = [one.digest for one in outcomes]
    columns["error"] = [one.error for one in outcomes]
    return pa.table(columns)


def returns_table(verdict: Verdict) -> pa.Table:
    """Return a row a trial and trading day: trial, day (yyyymmdd), return as a fraction."""
    rows = [
        (one.number, day, value)
        for one in verdict.outcomes
        for day, value in zip(one.days, one.returns, strict=True)
    ]
    trial, day, value = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "trial": pa.array(trial, pa.int32()),
            "day": pa.array(day, pa.int32()),
            "return": pa.array(value, pa.float64()),
        }
    )


def write_tables(verdict: Verdict, directory: Path) -> list[Path]:
    """Write ``trials.csv``, ``trials.parquet`` and ``returns.parquet``; each whole or not at all.

    Raises:
        ConfigError: the directory cannot be written.
    """
    from pyarrow import csv, parquet

    trials, returns = trials_table(verdict), returns_table(verdict)
    wanted: tuple[tuple[str, Callable[[pa.Table, Path], object], pa.Table], ...] = (
        ("trials.csv", csv.write_csv, trials),
        ("trials.parquet", parquet.write_table, trials),
        ("returns.parquet", parquet.write_table, returns),
    )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, write, table in wanted:
            draft = directory / f".{name}.draft"
            write(table, draft)
            written.append(draft.replace(directory / name))
    except OSError as error:
        told = error.strerror or str(error)
        fix = f"a directory to write: {told}"
        raise ConfigError("command line", "--out", str(directory), fix) from None
    return written


def _alike(values: list[Any]) -> list[Any]:
    """Return values of one type: text where they are of several."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 or kinds <= {int, float}:
        return [float(v) for v in values] if kinds == {int, float} else values
    return [None if value is None else str(value) for value in values]
