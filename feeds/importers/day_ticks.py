"""What importers of daily number files share: counting bad lines, placing rows in time."""

from collections.abc import Iterator
from datetime import tzinfo
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Ticks
from feeds.importers.number_rows import RowParser, RowStatus
from feeds.importers.reading import ByteMeter, read_blocks
from feeds.importers.report import ImportReport
from feeds.importers.zones import NS_PER_DAY, local_to_utc_ns

REASONS: Final = {
    RowStatus.BLANK: "blank_line",
    RowStatus.FIELD_COUNT: "wrong_field_count",
    RowStatus.NOT_A_NUMBER: "not_a_number",
}
BAD_TIME: Final = "time_outside_day"


class DayRows(NamedTuple):
    """Rows of one block that parsed.

    Args:
        values: Scaled integers, shape (N, F).
        rows: Row numbers, shape (N,).
        place: The report's number of the file or member.
    """

    values: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    place: int


def parsed_blocks(
    path: Path, parser: RowParser, report: ImportReport, meter: ByteMeter
) -> Iterator[DayRows]:
    """Yield a file's good rows block by block; count the others by reason.

    A row whose first field, nanoseconds since midnight, is outside the day is refused too.
    """
    places: dict[str, int] = {}
    for block in read_blocks(path, meter):
        if block.member not in places:
            places[block.member] = report.place(path, block.member)
        place = places[block.member]
        values, status = parser.parse(block.text)
        report.read(place, len(status))
        rows = np.arange(block.first_row, block.first_row + len(status))
        for code, reason in REASONS.items():
            report.refuse(reason, place, rows[status == code].tolist())
        good = status == RowStatus.GOOD
        inside = (values[:, 0] >= 0) & (values[:, 0] < NS_PER_DAY)
        report.refuse(BAD_TIME, place, rows[good & ~inside].tolist())
        good &= inside
        yield DayRows(values[good], rows[good], place)


def stamp_times(
    ticks: Ticks, of_day_ns: npt.NDArray[np.int64], day_ns: int, zone: tzinfo, floor_ns: int
) -> int:
    """Set both times of ticks; return the last receive time, the next block's floor.

    Without a receive time in the file the order of its rows is the order of arrival: ``ts_recv``
    is ``ts_event``, or that of the row before where time steps back.

    Args:
        ticks: TICK, shape (N,), written.
        of_day_ns: Local time of day.
        day_ns: Local midnight as if UTC.
        zone: Where the file's clock stood.
        floor_ns: Receive time of the row before the first.
    """
    if not len(ticks):
        return floor_ns
    ticks["ts_event"] = local_to_utc_ns(of_day_ns + day_ns, zone)
    ticks["ts_recv"] = np.maximum(np.maximum.accumulate(ticks["ts_event"]), floor_ns)
    return int(ticks["ts_recv"][-1])
