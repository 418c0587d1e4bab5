"""The report of a backtest: every file there, the page whole, the months those of plain loops."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from result_cases import CASH, a_result, a_walk, trade_rows

from engine.core.records import empty_bars, instrument_row
from feeds.log_writer import LogWriter
from replay.backtest.candles import candles_of
from replay.backtest.metrics import measure
from replay.backtest.months import MONTHS, YEAR, monthly_returns, monthly_table
from replay.backtest.records import BacktestResult
from replay.backtest.report import ReportOptions, most_traded, sections, write_report
from replay.backtest.report_figures import candle_plot
from replay.backtest.report_text import DASH, duration, percent, summary_rows, summary_table
from replay.report_page import Plot, Table

pytest.importorskip("plotly")
pytest.importorskip("empyrical")


def traded_result(days: int = 60) -> BacktestResult:
    trades = trade_rows([500.0, -200.0, 300.0, -100.0, 50.0])
    trades["instrument"] = [1, 0, 1, 1, 0]
    return a_result(a_walk(days), trades)


def daily_log(path: Path, result: BacktestResult) -> Path:
    """Write daily bars of both instruments over the days of a result."""
    rows = result.equity
    bars = empty_bars(2 * len(rows))
    bars["instrument"] = np.tile([0, 1], len(rows))
    bars["ts_event"] = bars["ts_recv"] = np.repeat(rows["ts"], 2)
    bars["ts_open"] = bars["ts_event"] - 6 * 3600 * 10**9
    for name, price in (("open", 100.0), ("high", 108.0), ("low", 96.0), ("close", 101.0)):
        bars[name] = price
    bars["volume"] = 1_000.0
    table = np.concatenate([instrument_row(s, id=i) for i, s in enumerate(result.symbols)])
    with LogWriter(path, table, epoch=2) as writer:
        writer.write_bars(bars)
    return path


def test_everything_is_written_and_nothing_else(tmp_path: Path) -> None:
    written = write_report(traded_result(), tmp_path / "new" / "out")
    assert sorted(written) == sorted((tmp_path / "new" / "out").iterdir())
    names = {path.name for path in written}
    assert {"metrics.json", "report.html", "trades.csv", "trades.parquet"} <= names


def test_the_metrics_file_says_what_was_measured(tmp_path: Path) -> None:
    result = replace(traded_result(), filled=10, bad_input={"frame_bad_crc": 1}, notes={"odd": 1})
    write_report(result, tmp_path)
    told = json.loads((tmp_path / "metrics.json").read_bytes())
    metrics = measure(result)
    assert told["sharpe"] == metrics.account.sharpe
    assert told["num_trades"] == 5
    assert (told["filled"], told["unfilled"]) == (10, {"LIMIT_UP": 2})
    assert (told["bad_input"], told["notes"]) == ({"frame_bad_crc": 1}, {"odd": 1})
    empty = tmp_path / "empty"
    write_report(a_result([]), empty)
    assert json.loads((empty / "metrics.json").read_bytes())["win_rate"] is None


def test_the_page_has_all_parts_in_order(tmp_path: Path) -> None:
    result = traded_result()
    log = daily_log(tmp_path / "bars.hql", result)
    options = ReportOptions(logs=[log])
    titles = [part.title for part in sections(result, measure(result), options)]
    assert titles == [
        "Summary",
        "Equity, drawdown and exposure",
        "Returns by month",
        "Trades",
        "000001.XSHE: 6 fills",
        "600000.XSHG: 4 fills",
        "Strategies",
        "Instruments",
        "Signals and orders",
    ]


def test_the_same_result_gives_the_same_page(tmp_path: Path) -> None:
    result = traded_result()
    log = daily_log(tmp_path / "bars.hql", result)
    for name in "ab":
        write_report(result, tmp_path / name, ReportOptions(logs=[log]))
    pages = [(tmp_path / name / "report.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("equities", [[], [CASH], [CASH, CASH], [CASH * 0.5, -1.0, -1.0]])
def test_a_result_without_trades_has_a_page_too(equities: list[float], tmp_path: Path) -> None:
    write_report(a_result(equities), tmp_path)
    assert "There was none." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_fill_is_marked_in_its_candle(tmp_path: Path) -> None:
    result = traded_result()
    log = daily_log(tmp_path / "bars.hql", result)
    plot = candle_plot(result, "000001.XSHE", candles_of([log], ["000001.XSHE"])["000001.XSHE"])
    assert isinstance(plot, Plot)
    marks = {trace.name: trace for trace in plot.figure.data}  # type: ignore[attr-defined]
    for name, side in (("buy", 1), ("sell", -1)):
        chosen = result.fills[(result.fills["instrument"] == 1) & (result.fills["side"] == side)]
        days = [str(np.datetime64(int(ts), "ns"))[:10] for ts in chosen["ts"]]
        assert list(marks[name].x) == days
        assert list(marks[name].y) == chosen["price"].tolist()


def test_instruments_with_most_trades_are_drawn_first() -> None:
    assert most_traded(traded_result(), 6) == ["000001.XSHE", "600000.XSHG"]
    assert most_traded(traded_result(), 1) == ["000001.XSHE"]


def test_months_and_years_are_those_of_plain_loops() -> None:
    result = a_result(a_walk(300, seed=9))
    expected: dict[int, dict[int, float]] = {}
    before = CASH
    for row in result.equity:
        year, month = int(row["day"]) // 10_000, int(row["day"]) // 100 % 100
        for key in (YEAR, month):
            held = expected.setdefault(year, {}).get(key, 1.0)
            expected[year][key] = held * float(row["equity"]) / before
        before = float(row["equity"])
    found = monthly_returns(result)
    assert set(found) == set(expected) == {2021, 2022, 2023}
    for year, months in expected.items():
        assert set(found[year]) == set(months)
        for key, growth in months.items():
            assert found[year][key] == pytest.approx(growth - 1.0, abs=1e-12)


def test_months_without_a_day_are_empty_in_the_table() -> None:
    table = monthly_table(a_result(a_walk(30)))
    assert list(table.headings) == ["year", *MONTHS, "whole year"]
    assert [row[0] for row in table.rows] == ["2021", "2022"]
    assert [getattr(cell, "value", None) for cell in table.rows[0][1:11]] == [""] * 10
    assert monthly_table(a_result([])).rows == []


def test_groups_add_up_to_the_whole() -> None:
    result = traded_result()
    parts = {part.title: part for part in sections(result, measure(result), ReportOptions())}
    for title in ("Strategies", "Instruments"):
        table = parts[title]
        assert isinstance(table, Table)
        assert sum(int(str(row[1])) for row in table.rows) == 5
        assert sum(float(str(row[2]).replace(",", "")) for row in table.rows) == 550.0


def test_the_summary_names_what_has_no_answer_with_a_dash() -> None:
    rows = summary_rows(measure(a_result([])))
    told = dict([*((row[0], row[1]) for row in rows), *((row[2], row[3]) for row in rows)])
    assert told["Sharpe ratio"] == DASH
    assert told["win rate"] == DASH
    assert told["from"] == DASH
    assert told["trades"] == "0"
    assert summary_table(measure(a_result([]))).row_count == len(rows)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.5, "0.5 s"), (90.0, "1.5 min"), (7_200.0, "2.0 h"), (172_800.0, "2.0 d"), (math.nan, DASH)],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_infinite_ratios_are_told_as_such() -> None:
    assert (percent(math.inf), percent(-math.inf)) == ("\u221e", "-\u221e")
