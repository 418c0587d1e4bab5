"""Local times to UTC, for whole arrays, by zone name or fixed offset."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from engine.core.errors import ConfigError

NS_PER_S: Final = 1_000_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_S
_SLOT_NS: Final = 900 * NS_PER_S
"""Every change of every zone's offset falls on a whole quarter of an hour."""
_FIXED: Final = re.compile(r"UTC([+-])(\d{2}):(\d{2})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_zone(name: str) -> tzinfo:
    """Return the zone of an IANA name (``America/New_York``) or ``UTC-05:00``.

    Raises:
        ConfigError: no such zone.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    if match := _FIXED.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(hours=24):
            return timezone(offset if match[1] == "+" else -offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        expected = "name a zone such as America/New_York, Asia/Shanghai, UTC or UTC-05:00"
        raise ConfigError("--timezone", "", name, expected) from None


def utc_offset_ns(zone: tzinfo, local_ns: int) -> int:
    """Return the zone's offset from UTC at a local time given as if it were UTC.

    A local time that a clock change repeats means its first pass; one that it skips is read with
    the offset before the change.
    """
    naive = (_EPOCH + timedelta(microseconds=local_ns // 1000)).replace(tzinfo=None)
    offset = zone.utcoffset(naive.replace(tzinfo=zone) if zone is not UTC else naive)
    return int((offset or timedelta()).total_seconds()) * NS_PER_S


def local_to_utc_ns(local_ns: npt.NDArray[np.int64], zone: tzinfo) -> npt.NDArray[np.int64]:
    """Turn local nanoseconds (as if UTC) into UTC, shape (N,); one zone look-up a quarter hour."""
    slots, where = np.unique(local_ns // _SLOT_NS, return_inverse=True)
    offsets = np.array([utc_offset_ns(zone, int(slot) * _SLOT_NS) for slot in slots], np.int64)
    return local_ns - offsets[where] if len(local_ns) else local_ns.copy()


def utc_to_local_ns(utc_ns: npt.NDArray[np.int64], zone: tzinfo) -> npt.NDArray[np.int64]:
    """Turn UTC into local nanoseconds (as if UTC), shape (N,)."""
    slots, where = np.unique(utc_ns // _SLOT_NS, return_inverse=True)
    moments = [_EPOCH + timedelta(seconds=int(slot) * (_SLOT_NS // NS_PER_S)) for slot in slots]
    offsets = [moment.astimezone(zone).utcoffset() or timedelta() for moment in moments]
    offsets_ns = np.array([int(off.total_seconds()) * NS_PER_S for off in offsets], np.int64)
    return utc_ns + offsets_ns[where] if len(utc_ns) else utc_ns.copy()


def day_start_ns(yyyymmdd: int) -> int:
    """Return midnight of a date, as if UTC, in nanoseconds.

    Raises:
        ValueError: no such date.
    """
    day = datetime(yyyymmdd // 10_000, yyyymmdd // 100 % 100, yyyymmdd % 100, tzinfo=UTC)
    return (day - _EPOCH).days * NS_PER_DAY


def are_dates(values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which numbers are dates yyyymmdd from 1970 on, shape (N,)."""
    found, where = np.unique(values, return_inverse=True)
    return np.array([_is_date(int(value)) for value in found], np.bool_)[where]


def _is_date(yyyymmdd: int) -> bool:
    if not 19_700_101 <= yyyymmdd <= 22_000_101:
        return False
    try:
        day_start_ns(yyyymmdd)
    except ValueError:
        return False
    return True
