from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafiles import data_file
from importing import Imported, run_import

from engine.core.errors import InputFileError
from engine.core.records import Board, TickFlag
from feeds.importers.tushare_daily import board_of, define_share

HEADER = "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount"


def daily(tmp_path: Path, *rows: str, name: str = "daily.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def row(code: str = "000012.SZ", date: str = "20190102", **changes: str) -> str:
    fields = {
        "open": "3.99", "high": "4.05", "low": "3.95", "close": "3.98", "pre_close": "3.99",
        "change": "-0.01", "pct_chg": "-0.25", "vol": "35658.11", "amount": "14278.027",
    } | changes  # fmt: skip
    return ",".join([code, date, *fields.values()])


def imported(tmp_path: Path, *files: Path) -> Imported:
    return run_import("tushare-daily", files, tmp_path / "out.hql")


def test_lots_and_thousands_become_shares_and_yuan(tmp_path: Path) -> None:
    found = imported(tmp_path, daily(tmp_path, row()))
    bar = found.bars[0]
    assert bar["volume"] == pytest.approx(3_565_811.0)
    assert bar["turnover"] == pytest.approx(14_278_027.0)
    assert 3.95 < bar["turnover"] / bar["volume"] < 4.05
    assert bar["pre_close"] == 3.99
    open_s, close_s = (
        int(datetime(2019, 1, 2, *hours, tzinfo=UTC).timestamp()) for hours in ((1, 30), (7, 0))
    )
    assert bar["ts_open"] == open_s * 10**9
    assert bar["ts_event"] == bar["ts_recv"] == close_s * 10**9
    assert (
        bar["session"] == (datetime(2019, 1, 2, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    )


def test_bars_come_by_day_then_symbol_whatever_the_order(tmp_path: Path) -> None:
    rows = [
        row("600000.SH", "20190103"),
        row("000012.SZ", "20190103"),
        row("600000.SH", "20190102"),
    ]
    found = imported(
        tmp_path,
        daily(tmp_path, *rows),
        daily(tmp_path, row("000001.SZ", "20190102"), name="more.csv"),
    )
    names = {int(one["id"]): one["symbol"].decode() for one in found.definitions}
    assert [names[number] for number in found.bars["instrument"].tolist()] == [
        "000001.SZSE",
        "600000.SSE",
        "000012.SZSE",
        "600000.SSE",
    ]
    assert (np.diff(found.bars["ts_recv"]) >= 0).all()


def test_boards_and_lots_follow_from_the_code() -> None:
    boards = {
        "000012.SZ": Board.CN_MAIN, "001696.SZ": Board.CN_MAIN, "002001.SZ": Board.CN_MAIN,
        "600000.SH": Board.CN_MAIN, "601318.SH": Board.CN_MAIN, "603993.SH": Board.CN_MAIN,
        "300750.SZ": Board.CN_CHINEXT, "688981.SH": Board.CN_STAR, "430047.BJ": Board.CN_BEIJING,
        "830799.BJ": Board.CN_BEIJING, "920002.BJ": Board.CN_BEIJING, "000300.SH": Board.OTHER,
        "399001.SZ": Board.OTHER, "900901.SH": Board.OTHER,
    }  # fmt: skip
    assert {code: board_of(code) for code in boards} == boards
    assert define_share("688981.SH")["lot"][0] == 1.0
    assert define_share("430047.BJ")["symbol"][0] == b"430047.BSE"
    share = define_share("300750.SZ")[0]
    assert (share["lot"], share["tick_size"], share["calendar"]) == (100.0, 0.01, b"XSHG")


def test_rows_that_cannot_be_used_are_refused_by_reason(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        daily(
            tmp_path,
            row(),
            row(close="4"),
            row("12.SZ"),
            row("000012.XX"),
            row(date="20190230"),
            row(date="soon"),
            row(date="20190103", open="0"),
            row(date="20190104", open=""),
            row(date="20190105", open="inf"),
            row(date="20190106", vol="-1"),
            row(date="20190107", high="3.9"),
            row(date="20190108", low="3.985"),
            row(date="20190109", amount="much"),
        ),
    )
    assert found.report.bars == 1
    assert found.bars["close"].tolist() == [3.98]
    assert dict(found.report.refused) == {
        "duplicate_row": 1,
        "bad_code": 2,
        "bad_date": 2,
        "zero_price": 1,
        "nan": 2,
        "negative": 1,
        "bad_range": 2,
        "not_a_number": 1,
    }
    assert found.report.examples["duplicate_row"] == ["daily.csv: row 3"]


def test_a_missing_reference_price_is_noted_and_a_day_without_volume_flagged(
    tmp_path: Path,
) -> None:
    rows = [row(pre_close=""), row(date="20190103", pre_close="0", vol="0", amount="0")]
    found = imported(tmp_path, daily(tmp_path, *rows))
    assert np.isnan(found.bars["pre_close"]).all()
    assert dict(found.report.notes) == {"no_pre_close": 2}
    assert found.bars["flags"].tolist() == [0, TickFlag.HALTED]


def test_parquet_and_csv_give_the_same_bars(tmp_path: Path) -> None:
    names = HEADER.split(",")
    cells = [line.split(",") for line in (row(), row("600000.SH"), row(date="20190103", vol=""))]
    columns = {
        name: [line[i] if i < 2 else float(line[i] or "nan") for line in cells]
        for i, name in enumerate(names)
    }
    columns["trade_date"] = [int(str(date)) for date in columns["trade_date"]]
    pq.write_table(pa.table(columns), tmp_path / "daily.parquet")
    text = imported(tmp_path, daily(tmp_path, *(",".join(line) for line in cells)))
    table = run_import("tushare-daily", [tmp_path / "daily.parquet"], tmp_path / "b.hql")
    assert table.bars.tobytes() == text.bars.tobytes()
    assert table.report.refused == text.report.refused == {"nan": 1}


def test_damaged_or_other_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"ts_code": ["000012.SZ"]}), path)
    with pytest.raises(InputFileError, match=r"has no column 'trade_date'.*: ts_code"):
        imported(tmp_path, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputFileError, match="damaged Parquet"):
        imported(tmp_path, path)


@pytest.mark.data
def test_the_real_shares_equal_the_table(tmp_path: Path) -> None:
    path = data_file("cn_a_share_daily/daily_raw_511_symbols.parquet")
    found = imported(tmp_path, path)
    assert found.report.rows == found.report.bars == 165_578
    assert len(found.report.instruments) == 511
    table = pq.read_table(path).sort_by([("trade_date", "ascending"), ("ts_code", "ascending")])
    names = {int(one["id"]): one["symbol"].decode()[:6] for one in found.definitions}
    codes = [code[:6] for code in table["ts_code"].to_pylist()]
    assert [names[number] for number in found.bars["instrument"].tolist()] == codes
    for field, column, scale in (
        ("open", "open", 1.0),
        ("close", "close", 1.0),
        ("pre_close", "pre_close", 1.0),
        ("volume", "vol", 100.0),
        ("turnover", "amount", 1000.0),
    ):
        np.testing.assert_array_equal(found.bars[field], table[column].to_numpy() * scale)
