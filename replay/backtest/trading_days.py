"""The trading days of prepared logs, and the logs as they were before one of them began."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Instruments, Schema, TickKind
from replay.backtest.folds import Span
from replay.backtest.prepared import Prepared, Segment

_DAY_NS: Final = 86_400 * 10**9
_NS_PER_S: Final = 10**9
_END_NS: Final = 2**62
_TIMELESS: Final = (int(TickKind.HEARTBEAT), int(TickKind.GAP))


@dataclass(frozen=True)
class TradingDays:
    """Days on which there is a record, by the venues' calendars.

    Attributes:
        days: yyyymmdd, ascending, shape (D,).
        first_ns: Receive time of each day's first record.
        segments: Segment of it.
        rows: And row there.
    """

    days: npt.NDArray[np.int64]
    first_ns: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.days)

    def times_ns(self, span: Span) -> tuple[int, int]:
        """Return when a span begins and when it ends: at the first record after it."""
        stop = int(self.first_ns[span.stop]) if span.stop < len(self) else _END_NS
        return int(self.first_ns[span.start]), stop


def trading_days(prepared: Prepared) -> TradingDays:
    """Find the days. A day begins with the first record of any instrument that is dated so."""
    found: list[tuple[int, int, int, int]] = []
    latest = -1
    for number, segment in enumerate(prepared.segments):
        dated = _day_numbers(segment, prepared.instruments)
        highest = np.maximum.accumulate(np.concatenate(([latest], dated)))
        rows = np.flatnonzero(highest[1:] > highest[:-1])
        times = segment.records["ts_recv"][rows]
        found += zip(
            dated[rows].tolist(), times.tolist(), [number] * len(rows), rows.tolist(), strict=True
        )
        latest = int(highest[-1])
    table = np.array(found, np.int64).reshape(-1, 4)
    return TradingDays(_written(table[:, 0]), table[:, 1], table[:, 2], table[:, 3])


def _day_numbers(segment: Segment, instruments: Instruments) -> npt.NDArray[np.int64]:
    """Return each record's trading day since 1970-01-01, -1 where there is none."""
    records = segment.records
    is_bar = segment.schema == Schema.BAR
    numbers = records["instrument"].astype(np.int64)
    known = numbers < len(instruments)
    if not is_bar:
        known &= ~np.isin(records["kind"], _TIMELESS)
    offsets = instruments["day_offset_s"].astype(np.int64) * _NS_PER_S
    times = records["ts_open" if is_bar else "ts_event"]
    shifted = times + offsets[np.where(known, numbers, 0)]
    dated: npt.NDArray[np.int64] = np.where(known, shifted // _DAY_NS, -1)
    return dated


def _written(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Write days since 1970-01-01 as yyyymmdd."""
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    number = months.astype(np.int64)
    of_month = (dates - months).astype(np.int64) + 1
    written: npt.NDArray[np.int64] = (
        (number // 12 + 1970) * 10_000 + (number % 12 + 1) * 100 + of_month
    )
    return written


def before(prepared: Prepared, days: TradingDays, day: int) -> Prepared:
    """Return the logs as they were before a day began; its records are not there.

    Args:
        prepared: The logs.
        days: Their trading days.
        day: Its place among them; their number for all of the logs.
    """
    if day >= len(days):
        return prepared
    return _cut(prepared, int(days.segments[day]), int(days.rows[day]))


def received_before(prepared: Prepared, stop_ns: int) -> Prepared:
    """Return the logs as they were before a time; what was received from then on is not there.

    Args:
        prepared: The logs.
        stop_ns: The time, ns since the epoch.
    """
    for number, segment in enumerate(prepared.segments):
        row = int(np.searchsorted(segment.records["ts_recv"], stop_ns))
        if row < len(segment.records):
            return _cut(prepared, number, row)
    return prepared


def _cut(prepared: Prepared, number: int, row: int) -> Prepared:
    """Return the segments before one, and of that one the rows before a row."""
    cut = prepared.segments[number]
    kept = list(prepared.segments[:number])
    if row:
        kept.append(replace(cut, records=cut.records[:row], origins=cut.origins[:row]))
    records = sum(len(segment.records) for segment in kept)
    last_ns = int(kept[-1].records["ts_recv"][-1]) if kept else prepared.first_ns
    return replace(prepared, segments=tuple(kept), records=records, last_ns=last_ns)
