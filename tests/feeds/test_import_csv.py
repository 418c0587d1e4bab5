import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import data_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import Imported, run_import, write_zip

from engine.core.errors import ConfigError, InputFileError
from engine.core.records import TickFlag, TickKind
from feeds.importers.csv_columns import parse_columns, parse_session
from feeds.importers.options import ImportOptions, RecordKind
from feeds.importers.run import ImportKind, import_files

T = 1_600_000_000


def table(tmp_path: Path, text: str, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def imported(tmp_path: Path, *files: Path, **options: Any) -> Imported:
    settings_used = {"symbol": "A.X", "time_format": "s"} | options
    return run_import("csv", files, tmp_path / "out.hql", **settings_used)


def test_trades_by_their_own_names(tmp_path: Path) -> None:
    text = f"time,price,size,side\n{T},10.5,3,buy\n{T + 1},10.6,2,S\n{T + 2},10.7,,\n"
    found = imported(tmp_path, table(tmp_path, text))
    assert found.ticks["price"].tolist() == [10.5, 10.6, 10.7]
    assert found.ticks["size"].tolist() == [3, 2, 0]
    assert found.ticks["turnover"].tolist() == [31.5, 21.2, 0]
    assert found.ticks["side"].tolist() == [1, -1, 0]
    assert found.ticks["flags"].tolist() == [0, 0, TickFlag.ODD_CONDITION]


def test_quotes_by_a_map_with_quoted_cells_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = f'\ufeffts,"b,1",a1,unused\r\n{T},"10.5",10.6,x\r\n{T},,10.6,"y,z"\r\n'
    found = imported(
        tmp_path,
        table(tmp_path, text.replace("b,1", "b1")),
        records=RecordKind.QUOTES,
        columns="time=ts, bid=b1, ask=a1",
    )
    assert found.ticks["kind"].tolist() == [TickKind.QUOTE] * 2
    assert found.ticks["flags"].tolist() == [
        TickFlag.NO_SIZE,
        TickFlag.NO_SIZE | TickFlag.ONE_SIDED,
    ]


def test_snapshots_need_nothing_but_a_time_and_something_to_say(tmp_path: Path) -> None:
    text = f"time,price,bid,ask\n{T},10,,\n{T},,9,11\n{T},,,\n"
    found = imported(tmp_path, table(tmp_path, text), records=RecordKind.SNAPSHOTS)
    assert found.report.ticks == 2
    assert dict(found.report.refused) == {"no_side": 1}


def test_symbols_come_from_a_column_with_the_venue_added(tmp_path: Path) -> None:
    text = f"time,price,symbol\n{T},1,ABC\n{T},2,DEF.Z\n{T},3,{'L' * 40}\n{T},4,\n"
    found = imported(tmp_path, table(tmp_path, text), venue="Y", symbol="")
    assert found.symbols() == ["ABC.Y", "DEF.Z"]
    assert dict(found.report.refused) == {"bad_symbol": 2}


def test_members_of_a_zip_are_instruments_merged_by_time(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "gc_20131007_trade.zip",
        d_gc_201312=f"{1000},1313.8,1\n{3000},1313.9,0\n",
        d_gc_201402=f"{2000},1320.0,2\n",
    )
    found = imported(
        tmp_path,
        path,
        header=False,
        columns="time=1,price=2,size=3",
        time_format="ms-of-day",
        symbol="GC{tail}.COMEX",
    )
    assert found.symbols() == ["GC201312.COMEX", "GC201402.COMEX", "GC201312.COMEX"]
    start = int(datetime(2013, 10, 7, tzinfo=UTC).timestamp()) * 10**9
    assert found.ticks["ts_recv"].tolist() == [start + i * 10**9 for i in (1, 2, 3)]


def test_bars_are_put_in_order_and_closed_at_the_end_of_the_session(tmp_path: Path) -> None:
    rows = ["2013/1/7,3,4,2,3,9", "2013/1/4,1,2,1,2,", "2013/1/7,3,4,2,3,9"]
    text = "\n".join(["date,open,high,low,close,volume", *rows])
    found = imported(
        tmp_path,
        table(tmp_path, text),
        records=RecordKind.BARS,
        columns="time=date",
        time_format="%Y/%m/%d",
        timezone="Asia/Shanghai",
        session="09:30-15:00",
    )
    closes = [datetime(2013, 1, day, 7, tzinfo=UTC).timestamp() * 10**9 for day in (4, 7)]
    assert found.bars["ts_event"].tolist() == closes
    assert (found.bars["ts_event"] - found.bars["ts_open"]).tolist() == [5.5 * 3600 * 10**9] * 2
    assert found.bars["session"].tolist() == [15_709, 15_712]
    assert found.bars["flags"].tolist() == [TickFlag.HALTED, 0]
    assert dict(found.report.refused) == {"duplicate_row": 1}


def test_a_bar_without_session_closes_at_its_time(tmp_path: Path) -> None:
    text = f"time,open,high,low,close,pre_close\n{T},3,4,2,3,\n{T + 60},3,2,2,3,1\n"
    found = imported(
        tmp_path,
        table(tmp_path, text),
        records=RecordKind.BARS,
        columns="pre_close=pre_close",
        bar_length_ns=60 * 10**9,
    )
    assert found.bars[["ts_open", "ts_event"]].tolist() == [((T - 60) * 10**9, T * 10**9)]
    assert dict(found.report.refused) == {"bad_range": 1}
    assert dict(found.report.notes) == {"no_pre_close": 1}


def test_time_stepping_back_keeps_the_files_order(tmp_path: Path) -> None:
    text = f"time,price,size\n{T + 5},1,1\n{T},2,1\n"
    found = imported(tmp_path, table(tmp_path, text))
    assert found.ticks["price"].tolist() == [1, 2]
    assert found.ticks["ts_recv"].tolist() == [(T + 5) * 10**9] * 2
    assert found.ticks["flags"].tolist() == [0, TickFlag.TIME_BACK]


def test_rows_that_cannot_be_used_are_refused_with_their_line(tmp_path: Path) -> None:
    lines = ["time,price,size,side", f"{T},1,1,b", "", f"{T},1", "x,1,1,b", f"{T},one,1,b"]
    lines += [f"{T},1,1,up", f"{T},0,1,b", f"{T},1,-1,b", f"{T},,1,b", f'{T},"1,1,b']
    found = imported(tmp_path, table(tmp_path, "\n".join(lines)))
    assert found.report.examples == {
        "blank_line": ["x.csv: row 3"],
        "wrong_field_count": ["x.csv: row 4", "x.csv: row 11"],
        "bad_time": ["x.csv: row 5"],
        "not_a_number": ["x.csv: row 6"],
        "bad_side": ["x.csv: row 7"],
        "zero_price": ["x.csv: row 8"],
        "negative": ["x.csv: row 9"],
        "nan": ["x.csv: row 10"],
    }


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    path = table(tmp_path, "ts,last\n1,2\n")
    with pytest.raises(InputFileError, match=r"no column 'time', 'price'; .* are: ts, last"):
        imported(tmp_path, path)
    with pytest.raises(InputFileError, match="no column 'vol'"):
        imported(tmp_path, path, columns="time=ts,price=last,size=vol")


def test_settings_that_say_nothing_are_told(tmp_path: Path) -> None:
    path = table(tmp_path, f"time,price\n{T},1\n")
    for bad in ({"symbol": ""}, {"symbol": "A"}, {"columns": "price"}, {"columns": "bid=b"}):
        with pytest.raises(ConfigError):
            imported(tmp_path, path, **bad)
        assert not (tmp_path / "out.hql").exists()
    with pytest.raises(ConfigError, match="09:30-15:00"):
        parse_session("9-15")
    with pytest.raises(ConfigError, match="end after it begins"):
        parse_session("15:00-09:30")


def test_joined_columns_are_all_required() -> None:
    columns = parse_columns("time=date+clock", RecordKind.TRADES)
    assert columns.columns["time"] == ("date", "clock")
    assert set(columns.required) == {"date", "clock", "price"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.text(st.sampled_from('0123456789.,\n"\r-x\x00é'), max_size=200),
    kind=st.sampled_from(RecordKind),
)
def test_garbage_is_always_counted(
    tmp_path_factory: pytest.TempPathFactory, text: str, kind: RecordKind
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    columns = {
        RecordKind.TRADES: "time=1,price=2",
        RecordKind.QUOTES: "time=1,bid=2,ask=2",
        RecordKind.SNAPSHOTS: "time=1,bid=2",
        RecordKind.BARS: "time=1,open=2,high=2,low=2,close=2",
    }[kind]
    good = f"{T},1.5\n"
    (folder / "x.csv").write_bytes((good + text).encode())
    options = ImportOptions(
        symbol="A.X", header=False, columns=columns, records=kind, time_format="s"
    )
    report = import_files(ImportKind.CSV, (folder / "x.csv",), folder / "o.hql", options)
    assert report.ticks + report.bars >= 1
    assert report.rows == report.ticks + report.bars + sum(report.refused.values())
    assert report.rows == len((good + text).split("\n")) - (not (good + text).split("\n")[-1])


RM_COLUMNS = (
    "time=date+time,price=lastPrice,size=lastVolume,bid=bidPrice1,ask=askPrice1,"
    "bid_size=bidVolume1,ask_size=askVolume1,symbol=symbol"
)


@pytest.mark.data
def test_real_snapshots_of_another_recorder_equal_a_plain_loop(tmp_path: Path) -> None:
    path = data_file("cn_future_tick/RM705-2017-03-20_tick.csv")
    found = imported(
        tmp_path,
        path,
        records=RecordKind.SNAPSHOTS,
        venue="CZCE",
        timezone="Asia/Shanghai",
        time_format="%Y%m%d %H:%M:%S.%f",
        columns=RM_COLUMNS,
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert found.report.rows == found.report.ticks == len(rows) == 16_979
    assert found.report.instruments == ["RM705.CZCE"]
    assert found.ticks["bid"].tolist() == [float(row["bidPrice1"]) for row in rows]
    assert found.ticks["size"].tolist() == [float(row["lastVolume"]) for row in rows]
    seconds = found.ticks["ts_event"] / 10**9
    texts = [f"{datetime.fromtimestamp(at + 8 * 3600, UTC):%H:%M:%S}" for at in seconds[:500]]
    assert texts == [row["time"][:8] for row in rows[:500]]


@pytest.mark.data
def test_real_index_bars_equal_the_file(tmp_path: Path) -> None:
    path = data_file("cn_index_daily/000300_CSI300_index_daily.csv")
    found = imported(
        tmp_path,
        path,
        records=RecordKind.BARS,
        symbol="000300.CSI",
        timezone="Asia/Shanghai",
        time_format="%Y/%m/%d",
        columns="time=date",
        session="09:30-15:00",
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert found.report.bars == len(rows) == 1_423
    for name in ("open", "high", "low", "close", "volume"):
        assert found.bars[name].tolist() == [float(row[name]) for row in rows]


@pytest.mark.data
def test_real_gold_trades_merge_over_their_expiries(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        data_file("fx_future_tick/comex_gc_20131007_trade.zip"),
        header=False,
        columns="time=1,price=2,size=3",
        time_format="ms-of-day",
        symbol="GC{tail}.COMEX",
        calendar="CMES",
    )
    assert found.report.rows == found.report.ticks == 40_192
    assert found.report.flags == {"ODD_CONDITION": 147}
    assert len(found.report.instruments) == 10
    assert (found.ticks["ts_recv"] == found.ticks["ts_event"]).all()
    assert (np.diff(found.ticks["ts_recv"]) >= 0).all()
