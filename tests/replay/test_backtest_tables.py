"""Tables of a backtest: both files say what the records say, to the last bit."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from result_cases import a_result, a_walk, trade_rows

from replay.backtest.records import BacktestResult
from replay.backtest.tables import equity_table, fills_table, trades_table, write_tables


@pytest.fixture
def result() -> BacktestResult:
    trades = trade_rows([100.0, -1 / 3, 0.1 + 0.2])
    trades["instrument"], trades["strategy"] = [0, 1, 0], [1, 0, 0]
    trades["side"], trades["open"] = [1, -1, 1], [0, 0, 1]
    return a_result(a_walk(30), trades)


def test_names_stand_where_numbers_stood(result: BacktestResult) -> None:
    rows = trades_table(result).to_pylist()
    assert [row["symbol"] for row in rows] == ["600000.XSHG", "000001.XSHE", "600000.XSHG"]
    assert [row["strategy"] for row in rows] == ["donchian", "macd", "macd"]
    assert [row["side"] for row in rows] == ["long", "short", "long"]
    assert [row["open"] for row in rows] == [False, False, True]
    assert {row["side"] for row in fills_table(result).to_pylist()} == {"buy", "sell"}


def test_times_are_kept_to_the_nanosecond_in_utc(result: BacktestResult) -> None:
    result.trades["ts_entry"][0] += 123
    column = trades_table(result)["time_entry"]
    assert column.type == pa.timestamp("ns", tz="UTC")
    assert column.cast(pa.int64()).to_pylist() == result.trades["ts_entry"].tolist()


def test_days_are_dates(result: BacktestResult) -> None:
    days = equity_table(result)["day"].to_pylist()
    assert [int(day.strftime("%Y%m%d")) for day in days] == result.equity["day"].tolist()


def test_parquet_gives_the_numbers_back_exactly(result: BacktestResult, tmp_path: Path) -> None:
    write_tables(result, tmp_path)
    for name, rows in (("trades", result.trades), ("fills", result.fills)):
        table = pyarrow.parquet.read_table(tmp_path / f"{name}.parquet")
        for field in set(rows.dtype.names or ()) & set(table.column_names):
            if rows.dtype[field].kind == "f":
                assert table[field].to_pylist() == rows[field].tolist()
    schema = pyarrow.parquet.read_schema(tmp_path / "trades.parquet")
    assert schema.field("return").metadata[b"unit"] == b"fraction of the money put in"
    assert schema.field("pnl").metadata[b"unit"] == b"money"


def test_csv_gives_the_numbers_back_exactly(result: BacktestResult, tmp_path: Path) -> None:
    write_tables(result, tmp_path)
    table = pyarrow.csv.read_csv(tmp_path / "trades.csv")
    assert table["pnl"].to_pylist() == result.trades["pnl"].tolist()
    assert table["symbol"].to_pylist()[1] == "000001.XSHE"
    entry_s = int(result.trades["ts_entry"][0]) // 10**9
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=entry_s)
    assert table["time_entry"][0].as_py() == expected


def test_every_table_is_written_in_both_forms_and_no_draft_is_left(
    result: BacktestResult, tmp_path: Path
) -> None:
    written = write_tables(result, tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert {path.name for path in written} == {
        f"{name}.{form}" for name in ("trades", "fills", "equity") for form in ("csv", "parquet")
    }


def test_a_backtest_without_trades_writes_tables_without_rows(tmp_path: Path) -> None:
    write_tables(a_result([]), tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "trades.parquet")
    assert table.num_rows == 0
    assert "pnl" in table.column_names
    header = (tmp_path / "trades.csv").read_text(encoding="utf-8").splitlines()
    assert len(header) == 1
    assert np.isin(["symbol", "pnl"], [name.strip('"') for name in header[0].split(",")]).all()
