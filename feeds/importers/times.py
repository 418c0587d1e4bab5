"""Reads a column of times in any of the ways people write them, as UTC nanoseconds."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import ConfigError
from feeds.importers.zones import NS_PER_DAY, day_start_ns, local_to_utc_ns

UNITS_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
MS_OF_DAY: Final = "ms-of-day"
ISO: Final = "iso"
LATEST_NS: Final = 7_258_118_400 * 10**9
"""2200-01-01: a later time is no time."""
_DATE: Final = re.compile(r"(?<!\d)(?:19|20)\d{6}(?!\d)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


class TimeReader:
    """Reads times of one file or member.

    Args:
        how: s, ms, us, ns, ms-of-day, iso ("" too) or a strptime pattern.
        zone: Where times without a zone stand.
        date: yyyymmdd for ms-of-day, "" to take it from the name.
        path: The file.
        member: The member's name in a zip.

    Raises:
        ConfigError: the date or the format cannot be used.
    """

    def __init__(self, how: str, zone: tzinfo, date: str, path: Path, member: str) -> None:
        self._zone = zone
        self._parse: Callable[[str], tuple[int, bool]]
        if how in UNITS_NS:
            self._parse = _epoch_parser(UNITS_NS[how])
        elif how == MS_OF_DAY:
            self._parse = _time_of_day_parser(_date_ns(date, path, member))
        elif how in (ISO, ""):
            self._parse = lambda cell: _from_datetime(datetime.fromisoformat(cell))
        elif "%" in how:
            self._parse = lambda cell: _from_datetime(
                datetime.strptime(cell, how)  # noqa: DTZ007 - the zone is put on afterwards
            )
        else:
            expected = "write s, ms, us, ns, ms-of-day, iso or a strptime pattern with %"
            raise ConfigError("--time-format", "", how, expected)

    def read(self, cells: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return UTC nanoseconds of a column, -1 where a cell is no time, shape (N,)."""
        times = np.full(len(cells), -1, np.int64)
        local = np.zeros(len(cells), np.bool_)
        for i, cell in enumerate(cells):
            try:
                time_ns, is_utc = self._parse(cell.strip())
            except (ValueError, OverflowError, InvalidOperation):
                continue
            if 0 < time_ns < LATEST_NS:
                times[i], local[i] = time_ns, not is_utc
        if local.any():
            times[local] = local_to_utc_ns(times[local], self._zone)
        return times


def _epoch_parser(unit_ns: int) -> Callable[[str], tuple[int, bool]]:
    def parse(cell: str) -> tuple[int, bool]:
        return _scaled(cell, unit_ns), True

    return parse


def _time_of_day_parser(day_ns: int) -> Callable[[str], tuple[int, bool]]:
    def parse(cell: str) -> tuple[int, bool]:
        of_day_ns = _scaled(cell, UNITS_NS["ms"])
        if not 0 <= of_day_ns < NS_PER_DAY:
            raise ValueError(cell)
        return day_ns + of_day_ns, False

    return parse


def _scaled(cell: str, unit_ns: int) -> int:
    if cell.isascii() and cell.isdigit() and len(cell) < 20:
        return int(cell) * unit_ns
    value = Decimal(cell)
    if not value.is_finite() or abs(value) > LATEST_NS:
        raise ValueError(cell)
    return int(value * unit_ns)


def _from_datetime(when: datetime) -> tuple[int, bool]:
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _US * 1000, when.tzinfo is not None


def _date_ns(date: str, path: Path, member: str) -> int:
    for text in (date, *_DATE.findall(member), *_DATE.findall(path.name)):
        if text:
            try:
                return day_start_ns(int(text))
            except ValueError:
                raise ConfigError("--date", "", text, "write a date as yyyymmdd") from None
    raise ConfigError("--date", "", "", f"{path.name} does not say its date; give --date yyyymmdd")
