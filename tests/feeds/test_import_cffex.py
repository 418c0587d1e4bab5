import csv
import gzip
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from datafiles import data_file
from hypothesis import given
from hypothesis import strategies as st
from importing import Imported, run_import, write_gz

from engine.core.errors import InputFileError
from engine.core.records import Board, TickFlag, TickKind
from feeds.importers.cffex_tick import of_day_ns, session_flags

ROW = {
    "exchg": "CFFEX", "code": "IF2101", "price": "5230.8", "upper_limit": "5737.8",
    "lower_limit": "4694.6", "volume": "71", "turn_over": "111416040.0",
    "trading_date": "20210104", "action_date": "20210104", "action_time": "93000400",
    "pre_settle": "5216.2", "bid1": "5231.4", "bid1_qty": "2", "ask1": "5231.6", "ask1_qty": "1",
    "spare": "",
}  # fmt: skip


def snapshots(tmp_path: Path, *changes: dict[str, str], name: str = "if.csv.gz") -> Path:
    rows = [",".join((ROW | change).values()) for change in changes]
    return write_gz(tmp_path / name, "\n".join([",".join(ROW), *rows]) + "\n")


def imported(tmp_path: Path, *files: Path) -> Imported:
    return run_import("cffex-tick", files, tmp_path / "out.hql")


def test_a_row_becomes_a_snapshot_whose_turnover_is_a_price_times_size(tmp_path: Path) -> None:
    found = imported(tmp_path, snapshots(tmp_path, {}))
    tick = found.ticks[0]
    assert tick["kind"] == TickKind.SNAPSHOT
    assert (tick["price"], tick["size"]) == (5230.8, 71.0)
    assert 4694.6 < tick["turnover"] / tick["size"] < 5737.8
    assert (tick["bid"], tick["ask"], tick["bid_size"], tick["ask_size"]) == (5231.4, 5231.6, 2, 1)
    when = datetime(2021, 1, 4, 9, 30, 0, 400_000, ZoneInfo("Asia/Shanghai"))
    assert tick["ts_event"] == tick["ts_recv"] == round(when.timestamp() * 1000) * 10**6
    assert found.symbols() == ["IF2101.CFFEX"]


def test_the_definition_holds_the_days_limits_and_comes_again_on_a_new_day(tmp_path: Path) -> None:
    next_day = {
        "trading_date": "20210105",
        "action_date": "20210105",
        "upper_limit": "5806.4",
        "pre_settle": "5278.6",
    }
    found = imported(tmp_path, snapshots(tmp_path, {}, {}, next_day, next_day))
    assert [row["limit_up"] for row in found.definitions] == [5737.8, 5806.4]
    assert [row["pre_close"] for row in found.definitions] == [5216.2, 5278.6]
    first = found.definitions[0]
    assert (first["multiplier"], first["tick_size"]) == (300.0, 0.2)
    assert first["board"] == Board.FUTURES
    assert [schema.name for schema in found.schemas] == [
        "INSTRUMENTS",
        "TICK",
        "INSTRUMENTS",
        "TICK",
    ]


def test_rows_outside_the_sessions_are_flagged() -> None:
    outside, auction = int(TickFlag.OUT_OF_SESSION), int(TickFlag.AUCTION)
    expected = {
        92_459_000: outside,
        92_900_400: outside | auction,
        93_000_000: 0,
        113_000_999: 0,
        113_001_000: outside,
        125_959_500: outside,
        130_000_000: 0,
        150_000_400: 0,
        150_001_000: outside,
        153_048_900: outside,
    }
    times = of_day_ns(np.array(list(expected), np.int64))
    dates = np.full(len(times), 20210104)
    assert session_flags(dates, times).tolist() == list(expected.values())


def test_before_2016_the_session_was_longer() -> None:
    times = of_day_ns(np.array([91_500_000, 151_000_000], np.int64))
    assert session_flags(np.array([20151231] * 2), times).tolist() == [0, 0]
    assert session_flags(np.array([20160104] * 2), times).all()


@given(st.integers(-(10**9), 10**10))
def test_a_time_of_day_is_one_or_is_told(value: int) -> None:
    found = int(of_day_ns(np.array([value], np.int64))[0])
    text = f"{value:09d}"
    try:
        hours, minutes, seconds = int(text[:-7]), int(text[-7:-5]), int(text[-5:-3])
        good = value >= 0 and hours < 24 and minutes < 60 and seconds < 60
    except ValueError:
        good = False
    assert (found >= 0) == good
    if good:
        whole = (hours * 60 + minutes) * 60 + seconds
        assert found == (whole * 1000 + int(text[-3:])) * 10**6


def test_rows_that_cannot_be_used_are_refused_by_reason(tmp_path: Path) -> None:
    found = imported(
        tmp_path,
        snapshots(
            tmp_path,
            {},
            {"exchg": "SHFE"},
            {"code": "T2103"},
            {"code": "IFé"},
            {"action_time": "96000000"},
            {"action_date": "20211301"},
            {"volume": "many"},
            {"volume": ""},
            {"volume": "-3"},
            {"bid1": "0", "ask1": "0", "price": "0", "volume": "0", "turn_over": "0"},
            {"spare": "1,2"},
        ),
    )
    assert dict(found.report.refused) == {
        "other_exchange": 1,
        "unknown_product": 2,
        "bad_time": 1,
        "bad_date": 1,
        "not_a_number": 1,
        "nan": 1,
        "negative": 1,
        "no_side": 1,
        "wrong_field_count": 1,
    }
    assert found.report.examples["bad_time"] == ["if.csv.gz: row 6"]


def test_a_missing_side_is_flagged(tmp_path: Path) -> None:
    found = imported(tmp_path, snapshots(tmp_path, {"ask1": "0", "ask1_qty": "0"}))
    assert found.ticks["flags"].tolist() == [TickFlag.ONE_SIDED]
    assert np.isnan(found.ticks["ask"]).all()


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    path = write_gz(tmp_path / "x.csv.gz", "exchg,code\nCFFEX,IF2101\n")
    with pytest.raises(InputFileError, match=r"has no column 'trading_date'.*: exchg, code"):
        imported(tmp_path, path)


@pytest.mark.data
def test_two_real_days_equal_a_plain_loop(tmp_path: Path) -> None:
    names = [f"CFFEX.IF.HOT_tick_2021010{day}.decoded.csv.gz" for day in (4, 5)]
    files = [data_file(f"cn_future_tick/{name}") for name in names]
    found = imported(tmp_path, *files)
    rows = [
        row
        for path in files
        for row in csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines())
    ]
    assert found.report.rows == found.report.ticks == len(rows) == 27_955 + 28_254
    assert dict(found.report.flags) == {"AUCTION": 2, "OUT_OF_SESSION": 7}
    for field, column, scale in (
        ("price", "price", 1),
        ("size", "volume", 1),
        ("turnover", "turn_over", 300),
        ("bid", "bid1", 1),
        ("ask_size", "ask1_qty", 1),
    ):
        assert found.ticks[field].tolist() == [float(row[column]) / scale for row in rows]
    zone = ZoneInfo("Asia/Shanghai")
    for i in (0, 12_345, 27_955, -1):
        stamp = f"{rows[i]['action_date']}{rows[i]['action_time']:0>9}"
        when = datetime.strptime(stamp, "%Y%m%d%H%M%S%f").replace(tzinfo=zone)
        assert found.ticks["ts_event"][i] == round(when.timestamp() * 1000) * 10**6
    assert [row["limit_up"] for row in found.definitions] == [5737.8, 5806.4]
