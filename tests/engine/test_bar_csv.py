"""Bar CSVs: times of every kind, and the place of everything that is wrong."""

import io
import math
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bar_csv import parse_time, read_bar_csv, write_columns
from engine.core.errors import InputFileError

HEADER = "time,open,high,low,close,volume\n"
ROW = "2024-01-02 09:30,10,11,9,10.5,100\n"


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bars.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1704187800", "1704187800.0", "1704187800000", "1704187800000000", "1704187800000000000",
        "2024-01-02T09:30:00Z", "2024-01-02 17:30:00+08:00", "2024-01-02 09:30", "2024/01/02 09:30",
    ],
)  # fmt: skip
def test_one_moment_is_read_from_any_form(text: str) -> None:
    assert parse_time(text, UTC) == (1_704_187_800 * 10**9, 19_724)


def test_a_date_is_midnight_in_the_zone() -> None:
    for text in ("20240102", "2024-01-02"):
        ns, day = parse_time(text, ZoneInfo("Asia/Shanghai"))
        assert (ns, day) == (1_704_124_800 * 10**9, 19_724)


def test_the_trading_day_is_the_zones() -> None:
    assert parse_time("2024-01-02T20:00:00Z", ZoneInfo("Asia/Shanghai"))[1] == 19_725


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - UTC by default
def test_microseconds_of_iso_times_are_exact(moment: datetime) -> None:
    ns, _ = parse_time(moment.isoformat(), UTC)
    assert ns == round((moment - datetime(1970, 1, 1)).total_seconds() * 1e6) * 1000  # noqa: DTZ001


def test_columns_may_stand_in_any_order_and_more_may_be_there(tmp_path: Path) -> None:
    text = "note,volume,close,low,high,open,time,bid\nx,5,4,3,2,1,20240102,\n"
    read = read_bar_csv(table(tmp_path, text))
    bar = read.bars[0]
    assert [bar[n] for n in ("open", "high", "low", "close", "volume")] == [1, 2, 3, 4, 5]
    assert math.isnan(bar["bid"])
    assert read.times == ["20240102"]
    assert "bid" in read.fields
    assert "ask" not in read.fields


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column time, open"),
        ("time,open,high,low,close\n", "no column volume"),
        (HEADER, "no bars"),
        (HEADER + ROW + "\n" + ROW, "line 3: found a blank line"),
        (HEADER + ROW + "1,2\n", "line 3: found 2 cells"),
        (HEADER + ROW.replace("10.5", ""), "line 2, column close: found ''"),
        (HEADER + ROW.replace("10.5", "nan"), "line 2, column close: found 'nan'"),
        (HEADER + ROW.replace("11", "inf"), "column high"),
        (HEADER + ROW.replace("100", "-1"), "column volume: found '-1'; expected a number that is"),
        (HEADER + ROW + ROW.replace("2024-01-02", "2024-13-02"), "line 3, column time"),
        (HEADER + ROW.replace("2024-01-02 09:30", ""), "line 2, column time: found ''"),
        (HEADER + ROW.replace("2024-01-02 09:30", "9" * 30), "line 2, column time"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputFileError) as caught:
        read_bar_csv(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputFileError, match="UTF-8"):
        read_bar_csv(path)


def test_numbers_come_back_bit_for_bit() -> None:
    columns = np.array([[0.1, math.nan, 1 / 3], [1e300, -5e-324, 2.0]])
    file = io.StringIO()
    write_columns(file, ["a", "b,c", "d"], ["x", "y(n=1,m=2)"], columns)
    assert file.getvalue() == (
        'time,x,"y(n=1,m=2)"\na,0.1,1e+300\n"b,c",,-5e-324\nd,0.3333333333333333,2.0\n'
    )
