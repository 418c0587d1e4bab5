"""When the markets of a backtest are open, over its whole span at once."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.risk.trading_calendar import Session, schedule_of

_NS_PER_S: Final = 10**9
_WEEK: Final = timedelta(days=7)
_BEFORE_OPEN_NS: Final = 1800 * _NS_PER_S
_AFTER_CLOSE_NS: Final = 60 * _NS_PER_S

Edges = npt.NDArray[np.int64]


def session_edges(
    calendar: str, first_ns: int, last_ns: int, closing_auction_s: Callable[[date], int]
) -> Edges | None:
    """Return when sessions open and close in turn, ns UTC; None for a market that never closes.

    A calendar that nobody knows, or that has no records of those years, is never open.

    Args:
        calendar: Its name.
        first_ns: The earliest time of interest.
        last_ns: The latest.
        closing_auction_s: How long before its close a day's trading ends, in seconds.
    """
    try:
        sessions = _sessions(calendar, _day(first_ns) - _WEEK, _day(last_ns) + _WEEK)
    except LookupError:
        return np.zeros(0, np.int64)
    if sessions is None:
        return None
    edges: list[int] = []
    for session in sessions:
        *others, close_ns = session.edges_ns
        edges += [*others, max(close_ns - closing_auction_s(session.day) * _NS_PER_S, others[-1])]
    return np.array(edges, np.int64)


def auction_edges(edges: Edges) -> Edges:
    """Return when auctions may print: from half an hour before an open to a minute past a close.

    An opening auction prints before its session, a closing one at the close or, as venues stamp
    it, seconds later.

    Args:
        edges: Of whole sessions, opening and closing in turn, ns UTC.
    """
    wide = edges.copy()
    wide[::2] -= _BEFORE_OPEN_NS
    wide[1::2] += _AFTER_CLOSE_NS + 1
    wide[2::2] = np.maximum(wide[2::2], wide[1:-1:2])
    return wide


@lru_cache(maxsize=16)
def _sessions(calendar: str, first: date, last: date) -> tuple[Session, ...] | None:
    """Return a calendar's sessions, as far into the span's edges as it has records."""
    schedule = schedule_of(calendar)
    if schedule is None:
        return None
    spans = ((first, last), (first + _WEEK, last), (first, last - _WEEK),
             (first + _WEEK, last - _WEEK))  # fmt: skip
    found = (schedule(*span) for span in spans)
    return tuple(next((sessions for sessions in found if sessions is not None), []))


def _day(ts_ns: int) -> date:
    return datetime.fromtimestamp(ts_ns // _NS_PER_S, UTC).date()
