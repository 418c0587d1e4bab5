"""When a venue trades: exchange_calendars' schedules as sorted nanoseconds, a year at a time.

A year is read when a time in it is first asked about (10 to 150 ms), the library when the first
calendar that needs it is made (0.4 s); after that an answer is two comparisons, or one bisection
where the answer changes.
"""

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

ALWAYS_OPEN: Final = "24/7"
FX_WEEK: Final = "FX"
"""Sunday 17:00 to Friday 17:00 in New York, without holidays."""
MAX_YEARS: Final = 8
"""Most years of one calendar kept; the one read first goes first."""

_EPOCH_YEAR: Final = 1970
_DAY: Final = timedelta(days=1)
_NEW_YORK: Final = ZoneInfo("America/New_York")
_FX_CLOSE: Final = time(17)
_SUNDAY: Final = 6


class Session(NamedTuple):
    """One trading day: its edges in nanoseconds UTC, opening and closing in turn."""

    day: date
    edges_ns: tuple[int, ...]


Schedule = Callable[[date, date], list[Session] | None]
"""Gives the sessions of the days from the first date to the second, both included; None if the
days are beyond what is recorded."""


class _Intervals:
    """Open intervals, half-open to the right, with the last answer remembered."""

    __slots__ = ("_edges", "_hi", "_inside", "_lo")

    def __init__(self, start_ns: int, end_ns: int, edges: list[int]) -> None:
        self._edges = [start_ns, *(min(max(edge, start_ns), end_ns) for edge in edges), end_ns]
        self._lo = self._hi = start_ns
        self._inside = False

    def contain(self, ts_ns: int) -> bool:
        if not self._lo <= ts_ns < self._hi:
            place = bisect_right(self._edges, ts_ns)
            self._lo, self._hi = self._edges[place - 1], self._edges[place]
            self._inside = place % 2 == 0
        return self._inside


class _Year(NamedTuple):
    start_ns: int
    end_ns: int
    whole: _Intervals
    continuous: _Intervals


class TradingCalendar:
    """Opening hours of one venue; not safe to share between threads.

    Args:
        name: The calendar's name, for messages.
        schedule: Where its sessions come from; None: always open.
        closing_auction_s: Seconds before a session's close at which continuous trading ends.
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule | None,
        closing_auction_s: Callable[[date], int] = lambda _: 0,
    ) -> None:
        self.name = name
        self._schedule = schedule
        self._closing_auction_s = closing_auction_s
        self._years: dict[int, _Year | None] = {}
        self._last: _Year | None = None

    def covers(self, ts_ns: int) -> bool:
        """Tell whether the calendar's records reach this time."""
        return self._schedule is None or self._year(ts_ns) is not None

    def is_continuous(self, ts_ns: int) -> bool:
        """Tell whether continuous trading is on, from the open to before the closing auction."""
        if self._schedule is None:
            return True
        year = self._year(ts_ns)
        return year is not None and year.continuous.contain(ts_ns)

    def is_open(self, ts_ns: int) -> bool:
        """Tell whether a session is on, its very close included."""
        if self._schedule is None:
            return True
        year = self._year(ts_ns)
        if year is None:
            return False
        return year.whole.contain(ts_ns) or year.whole.contain(ts_ns - 1)

    def _year(self, ts_ns: int) -> _Year | None:
        last = self._last
        if last is not None and last.start_ns < ts_ns < last.end_ns:
            return last
        number = _year_of(ts_ns)
        if number not in self._years:
            if len(self._years) >= MAX_YEARS:
                del self._years[next(iter(self._years))]
            self._years[number] = self._read(number)
        self._last = self._years[number]
        return self._last

    def _read(self, year: int) -> _Year | None:
        sessions = None if self._schedule is None else _sessions_around(year, self._schedule)
        if sessions is None:
            return None
        start_ns, end_ns = _new_year_ns(year) - 1, _new_year_ns(year + 1)
        whole = [edge for session in sessions for edge in session.edges_ns]
        continuous = [edge for session in sessions for edge in self._continuous_edges(session)]
        return _Year(
            start_ns,
            end_ns,
            _Intervals(start_ns, end_ns, whole),
            _Intervals(start_ns, end_ns, continuous),
        )

    def _continuous_edges(self, session: Session) -> tuple[int, ...]:
        *others, close_ns = session.edges_ns
        auction_ns = self._closing_auction_s(session.day) * 1_000_000_000
        return (*others, max(close_ns - auction_ns, others[-1]))


def schedule_of(name: str) -> Schedule | None:
    """Return the schedule of a calendar by name; None for the one that is always open.

    Raises:
        LookupError: neither built in nor known to exchange_calendars.
    """
    if name == ALWAYS_OPEN:
        return None
    if name == FX_WEEK:
        return _fx_sessions
    import exchange_calendars

    if name not in exchange_calendars.get_calendar_names():
        raise LookupError(f"no trading calendar is called {name!r}")
    return lambda first, last: _exchange_sessions(name, first, last)


def _fx_sessions(first: date, last: date) -> list[Session]:
    return [
        Session(day, (_new_york_ns(day), _new_york_ns(day + 5 * _DAY)))
        for day in _days(first - 6 * _DAY, last)
        if day.weekday() == _SUNDAY
    ]


@lru_cache(maxsize=64)
def _exchange_sessions(name: str, first: date, last: date) -> list[Session] | None:
    import exchange_calendars

    with warnings.catch_warnings():  # the library warns about its own use of pandas
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            calendar = exchange_calendars.get_calendar(
                name, start=first.isoformat(), end=last.isoformat()
            )
        except ValueError:
            return None
    schedule = calendar.schedule
    columns = ["open", "close"]
    if calendar.has_break:
        columns = ["open", "break_start", "break_end", "close"]
    edges = [_nanoseconds(schedule[column]) for column in columns]
    return [
        Session(day.date(), tuple(int(edge) for edge in of_day if edge is not None))
        for day, *of_day in zip(schedule.index, *edges, strict=True)
    ]


def _nanoseconds(column: Any) -> list[int | None]:
    times = column.to_numpy(dtype="datetime64[ns]")
    values = times.astype(np.int64).tolist()
    return [
        None if missing else value
        for value, missing in zip(values, np.isnat(times).tolist(), strict=True)
    ]


def _sessions_around(year: int, schedule: Schedule) -> list[Session] | None:
    """A year's sessions and those around it that reach into it, as far as they are recorded."""
    if not 1900 < year < 2200:
        return None
    first, last = date(year, 1, 1), date(year, 12, 31)
    week = 7 * _DAY
    spans = (
        (first - week, last + week), (first - week, last), (first, last + week), (first, last),
    )  # fmt: skip
    found: Iterator[list[Session] | None] = (schedule(*span) for span in spans)
    return next((sessions for sessions in found if sessions is not None), None)


def _days(first: date, last: date) -> Iterator[date]:
    return (first + n * _DAY for n in range((last - first).days + 1))


def _new_york_ns(day: date) -> int:
    return _unix_ns(datetime.combine(day, _FX_CLOSE, _NEW_YORK))


def _new_year_ns(year: int) -> int:
    return _unix_ns(datetime(year, 1, 1, tzinfo=UTC))


def _unix_ns(moment: datetime) -> int:
    return round(moment.timestamp()) * 1_000_000_000


def _year_of(ts_ns: int) -> int:
    return _EPOCH_YEAR + int(np.datetime64(ts_ns, "ns").astype("datetime64[Y]").astype(np.int64))
