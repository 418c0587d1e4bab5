from datetime import date

import pytest
from risk_cases import DAY_S, S, utc_ns

from engine.risk.trading_calendar import MAX_YEARS, Session, TradingCalendar, schedule_of


def calendar(name: str, auction_s: int = 0) -> TradingCalendar:
    return TradingCalendar(name, schedule_of(name), lambda _: auction_s)


def test_lunch_break_is_closed() -> None:
    shanghai = calendar("XSHG")
    times = ["03:29:59", "03:30:00.000000001", "04:59:59", "05:00"]
    assert [shanghai.is_open(utc_ns(f"2021-01-04T{t}")) for t in times] == [
        True,
        False,
        False,
        True,
    ]


def test_close_is_open_but_not_continuous() -> None:
    shanghai = calendar("XSHG", auction_s=180)
    close = utc_ns("2021-01-04T07:00")
    times = [close - 180 * S - 1, close - 180 * S, close, close + 1]
    assert [shanghai.is_continuous(t) for t in times] == [True, False, False, False]
    assert [shanghai.is_open(t) for t in times] == [True, True, True, False]


def test_auction_longer_than_the_session_leaves_nothing_continuous() -> None:
    new_york = calendar("XNYS", auction_s=DAY_S)
    noon = utc_ns("2013-10-07T16:00")
    assert new_york.is_open(noon)
    assert not new_york.is_continuous(noon)


def test_daylight_saving_moves_the_open() -> None:
    new_york = calendar("XNYS")
    assert new_york.is_continuous(utc_ns("2013-10-07T13:30"))
    assert not new_york.is_continuous(utc_ns("2013-12-09T13:30"))
    assert new_york.is_continuous(utc_ns("2013-12-09T14:30"))


@pytest.mark.parametrize("name", ["24/5", "FX"])
def test_week_runs_through_its_midnights(name: str) -> None:
    week = calendar(name)
    for day in range(1, 5):
        midnight = utc_ns("2014-05-05") + day * DAY_S * S
        assert all(week.is_continuous(midnight + offset) for offset in (-1, 0, 1))


def test_fx_week_opens_on_sunday_evening_in_new_york() -> None:
    week = calendar("FX")
    sunday = utc_ns("2014-05-04T21:00")
    assert not week.is_continuous(sunday - 1)
    assert week.is_continuous(sunday)
    assert week.is_continuous(utc_ns("2015-12-31T23:59:59.999999999"))
    assert week.is_continuous(utc_ns("2016-01-01T00:00"))


def test_always_open_has_no_limits_in_time() -> None:
    always = calendar("24/7")
    for ts in (-(2**63), 0, 2**63 - 1):
        assert always.is_open(ts)
        assert always.is_continuous(ts)
        assert always.covers(ts)


def test_time_beyond_the_records_is_closed_and_not_covered() -> None:
    shanghai = calendar("XSHG")
    for ts in (utc_ns("1985-06-05T02:00"), utc_ns("2150-06-05T02:00"), -(2**63), 2**63 - 1):
        assert not shanghai.is_open(ts)
        assert not shanghai.is_continuous(ts)
        assert not shanghai.covers(ts)
    assert shanghai.covers(utc_ns("2021-01-04T02:00"))


def test_unknown_calendar_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="XNOWHERE"):
        schedule_of("XNOWHERE")


def test_years_are_read_once_and_bounded() -> None:
    asked: list[int] = []

    def schedule(first: date, last: date) -> list[Session]:
        asked.append(last.year)
        noon = utc_ns(f"{last.year - 1}-06-01T12:00")
        return [Session(date(last.year - 1, 6, 1), (noon, noon + S))]

    made_up = TradingCalendar("made up", schedule)
    for _ in range(2):
        for year in range(2000, 2000 + MAX_YEARS):
            assert made_up.is_open(utc_ns(f"{year}-06-01T12:00"))
    assert len(asked) == MAX_YEARS
    made_up.is_open(utc_ns("2030-06-01T12:00"))
    made_up.is_open(utc_ns("2000-06-01T12:00"))
    assert len(asked) == MAX_YEARS + 2
