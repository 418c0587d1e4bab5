"""Parquet files of daily bars in the place of logs: every command that backtests takes them."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine.cli.main import make_app

pytest.importorskip("optuna")
pytest.importorskip("empyrical")
pytest.importorskip("plotly")

DAYS = 90
CONFIG = """
[[strategies]]
name = "macd"
rule = "macd_cross"
on = "tick"
params = { fast = 3, slow = 6 }
[risk.limits]
max_position = 0
cool_down = 0
"""
FAST = "strategies.macd.params.fast=2,3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A share that moves for 90 days; one day of it has a negative volume."""
    folder = tmp_path_factory.mktemp("daily")
    (folder / "c.toml").write_text(CONFIG, encoding="utf-8")
    days = np.arange("2019-01-01", "2019-04-01", dtype="datetime64[D]")
    closes = np.round(10.0 + np.cumsum(np.random.default_rng(4).normal(0.0, 0.1, DAYS)), 2)
    volumes = np.where(np.arange(DAYS) == 7, -1.0, 1e4)
    rows = {
        "ts_code": ["600000.SH"] * DAYS,
        "trade_date": [int(str(day).replace("-", "")) for day in days],
        **dict.fromkeys(("open", "high", "low", "close"), closes),
        "pre_close": np.concatenate(([10.0], closes[:-1])),
        "vol": volumes, "amount": np.full(DAYS, 1e4),
    }  # fmt: skip
    pq.write_table(pa.table(rows), folder / "daily.parquet")
    return folder


def run(folder: Path, command: str, *arguments: str) -> Any:
    base = [command, str(folder / "daily.parquet"), "-c", str(folder / "c.toml"), *arguments]
    return CliRunner().invoke(make_app(), base, catch_exceptions=False)


def test_a_sweep_over_a_file_is_one_over_its_log(folder: Path, tmp_path: Path) -> None:
    log = str(tmp_path / "daily.hql")
    imported = ["import", "tushare-daily", str(folder / "daily.parquet"), "-o", log]
    assert CliRunner().invoke(make_app(), imported, catch_exceptions=False).exit_code == 0
    base = ("-p", FAST, "--sampler", "grid", "--jobs", "1", "--objective", "cumulative_return")
    store = ("--storage", str(tmp_path / "s.db"))
    told = orjson.loads(run(folder, "sweep", *base, *store, "--json").stdout)
    assert told["bad_input"] == {"row_negative": 1}
    assert told["trials"] == 2
    of_log = ["sweep", log, "-c", str(folder / "c.toml"), *base, "--storage", "none", "--json"]
    other = CliRunner().invoke(make_app(), of_log, catch_exceptions=False)
    digests = [one["digest"] for one in told["all"]]
    assert [one["digest"] for one in orjson.loads(other.stdout)["all"]] == digests
    again = run(folder, "sweep", *base, *store, "--resume")
    assert "2 trials" in again.stdout


def test_a_sweep_tells_people_what_was_refused(folder: Path) -> None:
    base = ("-p", FAST, "--sampler", "grid", "--jobs", "1", "--objective", "cumulative_return")
    done = run(folder, "sweep", *base, "--storage", "none")
    assert "bad input: row_negative 1" in done.stdout


@pytest.mark.slow
def test_a_selection_over_a_file_tells_what_was_refused(folder: Path, tmp_path: Path) -> None:
    base = ("--validation", "30", "--test", "20", "--embargo", "2", "--param", FAST)
    done = run(folder, "select", *base, "--out", str(tmp_path / "out"))
    assert "bad input: row_negative 1" in done.stdout
    told = orjson.loads((tmp_path / "out" / "selection.json").read_bytes())
    assert told["bad_input"] == {"row_negative": 1}
    assert told["candidates"] == ["fast=2", "fast=3"]
