"""``heqis backtest``: what it prints, what it writes, and how it refuses."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipeline_cases import market_instruments, market_ticks
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.core.errors import ConfigError, InputFileError
from feeds.log_writer import LogWriter

CONFIG = """
[[strategies]]
name = "macd"
rule = "macd_cross"
on = "trade"
params = { fast = 3, slow = 6 }
[risk.limits]
max_position = 0
cool_down = 0
[backtest]
sizing = { by = "shares", amount = 1.0 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backtest")
    with LogWriter(folder / "market.hql", market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(4_000))
    (folder / "c.toml").write_text(CONFIG, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: object, config: str = "c.toml") -> Result:
    command = ["backtest", *map(str, arguments), "-c", str(folder / config)]
    return CliRunner().invoke(make_app(), command, catch_exceptions=False)


def test_json_tells_numbers_and_counts_that_add_up(folder: Path) -> None:
    facts = orjson.loads(run(folder, folder / "market.hql", "--json").stdout)
    assert facts["records"] == 4_000
    assert facts["signals"] == facts["filled"] + sum(facts["unfilled"].values()) > 20
    assert facts["files"] == []
    assert facts["bad_input"] == {}


def test_out_gets_the_report_and_text_says_where(folder: Path, tmp_path: Path) -> None:
    done = run(folder, folder / "market.hql", "--out", tmp_path / "told")
    names = {path.name for path in (tmp_path / "told").iterdir()}
    assert {"report.html", "trades.csv", "trades.parquet", "fills.csv", "equity.csv"} <= names
    assert "4,000 records in" in done.stdout
    assert "signals: made" in done.stdout
    assert "report.html" in done.stdout


def test_a_bad_out_is_told_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out"):
        run(folder, tmp_path / "no.hql", "--out", tmp_path / "file" / "out")


def test_from_and_to_bound_what_is_traded(folder: Path) -> None:
    span = ("--from", "2023-11-14T22:13:30", "--to", "2023-11-14T22:13:40")
    some = orjson.loads(run(folder, folder / "market.hql", "--json", *span).stdout)
    whole = orjson.loads(run(folder, folder / "market.hql", "--json").stdout)
    assert some["filled"] > 0
    assert some["unfilled"]["OUTSIDE_SPAN"] > 0
    assert some["records"] < whole["records"]
    assert some["signals"] < whole["signals"]


RISING = """
[[strategies]]
name = "up"
rule = "donchian_breakout"
on = "tick"
params = { length = 2 }
[backtest]
sizing = { by = "shares", amount = 1000 }
"""


def rising_days(tmp_path: Path, *options: str) -> dict[str, Any]:
    (tmp_path / "up.toml").write_text(RISING)
    prices = [10.0 + 0.1 * i for i in range(5)]
    high, low = ([price + step for price in prices] for step in (0.05, -0.05))
    rows = write_parquet(tmp_path / "daily.parquet", 5, high=list(high), low=list(low))
    command = ["backtest", str(rows), "-c", str(tmp_path / "up.toml"), "--json", *options]
    done = CliRunner().invoke(make_app(), command, catch_exceptions=False)
    facts: dict[str, Any] = orjson.loads(done.stdout)
    return facts


def test_days_before_from_are_no_days_of_the_account(tmp_path: Path) -> None:
    whole, late = rising_days(tmp_path), rising_days(tmp_path, "--from", "2019-06-12")
    assert (whole["first_day"], whole["days"]) == (20190610, 5)
    assert (late["first_day"], late["days"], late["records"]) == (20190612, 3, 5)
    assert late["num_trades"] == 1
    assert late["final_equity"] == whole["final_equity"]


def test_nothing_after_to_is_known(tmp_path: Path) -> None:
    whole, early = rising_days(tmp_path), rising_days(tmp_path, "--to", "2019-06-14")
    assert (early["last_day"], early["days"], early["records"]) == (20190613, 4, 4)
    assert early["open_trades"] == whole["open_trades"] == 1
    assert whole["final_equity"] - early["final_equity"] == pytest.approx(0.1 * 1000)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "yesterday"), "--from: found 'yesterday'; a date or time such as"),
        (("--from", "2023-11-15", "--to", "2023-11-14"), "--to: found '2023-11-14'; a time after"),
        (("--to", "2023-11-14"), "a time after the first record, 2023-11-14T22:13:"),
        (("--from", "2023-11-16"), "a time up to the last record, 2023-11-14T22:1"),
    ],
)
def test_times_that_are_none_are_refused(
    folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(folder, folder / "market.hql", *arguments)
    assert told in str(caught.value)


def write_parquet(path: Path, days: int, **columns: list[object]) -> Path:
    dates = [f"201906{day:02d}" for day in (10, 11, 12, 13, 14)][:days]
    prices = [10.0 + 0.1 * i for i in range(days)]
    table: dict[str, list[object]] = {
        "ts_code": ["600000.SH"] * days, "trade_date": list(map(int, dates)),
        **{name: list(prices) for name in ("open", "high", "low", "close")},
        "pre_close": [10.0, *prices[:-1]], "vol": [1e4] * days, "amount": [1e4] * days, **columns,
    }  # fmt: skip
    pq.write_table(pa.table(table), path)
    return path


def test_a_parquet_file_of_daily_bars_is_traded_as_its_log_would_be(
    folder: Path, tmp_path: Path
) -> None:
    rows = write_parquet(tmp_path / "daily.parquet", 5, vol=[1e4, 1e4, -1.0, 1e4, 1e4])
    facts = orjson.loads(run(folder, rows, "--json", "--out", tmp_path / "out").stdout)
    assert facts["records"] == 4
    assert facts["bad_input"] == {"row_negative": 1}
    assert "daily.parquet" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_damaged_parquet_file_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "daily.parquet", 5).read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError, match=r"torn\.parquet: damaged Parquet file"):
        run(folder, tmp_path / "torn.parquet")


def test_a_log_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(InputFileError, match=r"gone\.hql"):
        run(folder, folder / "gone.hql")


def test_settings_that_contradict_each_other_name_the_file_and_the_key(folder: Path) -> None:
    text = CONFIG.replace("amount = 1.0 }", "amount = 1.0 }\nslippage = { model = 'bps' }")
    (folder / "odd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        run(folder, folder / "market.hql", config="odd.toml")
    assert "odd.toml: backtest.slippage" in str(caught.value)
    assert "takes an `amount` above 0" in str(caught.value)


def test_a_directory_that_cannot_be_written_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        run(folder, folder / "market.hql", "--out", folder / "c.toml" / "below")
