from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.errors import ConfigError
from feeds.importers.times import TimeReader
from feeds.importers.zones import (
    are_dates,
    day_start_ns,
    local_to_utc_ns,
    parse_zone,
    utc_to_local_ns,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "UTC-05:00", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe")


def ns(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1) * 1000


@given(
    st.lists(st.datetimes(datetime(1995, 1, 1), datetime(2035, 1, 1)), max_size=5),  # noqa: DTZ001
    st.sampled_from(ZONES),
)
def test_local_times_become_what_zoneinfo_says(times: list[datetime], name: str) -> None:
    zone = parse_zone(name)
    local = np.array([ns(when.replace(tzinfo=UTC)) for when in times], np.int64)
    expected = [ns(when.replace(tzinfo=zone).astimezone(UTC)) for when in times]
    assert local_to_utc_ns(local, zone).tolist() == expected


@given(
    st.lists(st.datetimes(datetime(1995, 1, 1), datetime(2035, 1, 1)), max_size=5),  # noqa: DTZ001
    st.sampled_from(ZONES),
)
def test_utc_becomes_local_as_zoneinfo_says(times: list[datetime], name: str) -> None:
    moments = [when.replace(tzinfo=UTC) for when in times]
    expected = [ns(when.astimezone(parse_zone(name)).replace(tzinfo=UTC)) for when in moments]
    utc = np.array([ns(when) for when in moments], np.int64)
    assert utc_to_local_ns(utc, parse_zone(name)).tolist() == expected


def test_an_unknown_zone_is_told() -> None:
    for name in ("Mars/Olympus", "UTC+99:00", "", "../etc"):
        with pytest.raises(ConfigError, match="name a zone"):
            parse_zone(name)


def test_dates_are_told_from_other_numbers() -> None:
    values = np.array([20200229, 20210229, 20211301, 0, -5, 19691231, 20991231])
    assert are_dates(values).tolist() == [True, False, False, False, False, False, True]
    assert day_start_ns(19700102) == 86_400 * 10**9


def read(
    how: str, *cells: str, zone: str = "UTC", date: str = "", name: str = "x.csv"
) -> list[int]:
    times = TimeReader(how, parse_zone(zone), date, Path(name), "").read(cells)
    return [int(time) for time in times]


def test_epochs_are_exact_in_every_unit() -> None:
    assert read("ns", "1723161255088169167") == [1723161255088169167]
    assert read("us", "1680652700423575") == [1680652700423575000]
    assert read("ms", "1723161255088.5") == [1723161255088500000]
    assert read("s", "1633998513.377805") == [1633998513377805000]


def test_cells_that_are_no_time_are_marked() -> None:
    for how in ("s", "ms", "us", "ns", "iso", "%Y%m%d", "ms-of-day"):
        cells = ("", "x", "nan", "-1", "1e400", "²", "inf", "9" * 40)
        assert set(read(how, *cells, date="20200101")) == {-1}, how


def test_times_without_a_zone_stand_in_the_one_given() -> None:
    assert read("%Y%m%d %H:%M:%S.%f", "20170320 09:00:00.5", zone="Asia/Shanghai") == [
        ns(datetime(2017, 3, 20, 9, 0, 0, 500_000, ZoneInfo("Asia/Shanghai")))
    ]
    assert read("iso", "2020-01-01T00:00:00+02:00", zone="Asia/Shanghai") == [
        ns(datetime(2019, 12, 31, 22, tzinfo=UTC))
    ]


def test_a_time_of_day_takes_its_date_from_the_setting_or_the_name() -> None:
    expected = [day_start_ns(20131007) + 4_933_381_000_000]
    assert read("ms-of-day", "4933381", date="20131007") == expected
    assert read("ms-of-day", "4933381", name="gc_20131007_trade.csv") == expected
    with pytest.raises(ConfigError, match="give --date"):
        read("ms-of-day", "1")
    with pytest.raises(ConfigError, match="yyyymmdd"):
        read("ms-of-day", "1", date="20131399")


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(ConfigError, match="strptime"):
        read("epoch", "1")
