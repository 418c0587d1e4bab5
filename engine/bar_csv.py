"""Bars as CSV: read strictly, with the place of everything that is wrong; write columns beside it.

Rows are read as they come; the text of the time column is kept, so that it is written unchanged.
"""

import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Bars, empty_bars

REQUIRED: Final = ("time", "open", "high", "low", "close", "volume")
OPTIONAL: Final = (
    "turnover", "buy_volume", "sell_volume", "trades", "ofi", "bid", "ask", "bid_size", "ask_size",
)  # fmt: skip
"""Columns that are read where a file has them; any other is passed over."""

_MAY_BE_BLANK: Final = frozenset({"bid", "ask"})
_NOT_NEGATIVE: Final = frozenset(
    {"volume", "turnover", "buy_volume", "sell_volume", "trades", "bid_size", "ask_size"}
)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_ROWS_A_WRITE: Final = 16_384
_EPOCH_UNITS: Final = ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (math.inf, 1))
"""Below this number, an epoch time counts units of so many nanoseconds."""


@dataclass(frozen=True, slots=True)
class BarTable:
    """Bars of one file, shape (N,), the text of their times, and which BAR fields it gave."""

    times: list[str]
    bars: Bars
    fields: frozenset[str]


def parse_time(text: str, zone: tzinfo) -> tuple[int, int]:
    """Read a time; return nanoseconds since the epoch and the day at the venue since 1970-01-01.

    Args:
        text: ISO 8601 or yyyymmdd, or an epoch number in s, ms, µs or ns, told by its size.
        zone: The zone of a time that names none, and of the days.

    Raises:
        ValueError: none of these.
    """
    if len(text) != 8 and text.replace(".", "", 1).isdigit():
        unit = next(unit for limit, unit in _EPOCH_UNITS if float(text) < limit)
        whole, _, part = text.partition(".")
        ns = int(whole) * unit + round(float(f"0.{part or 0}") * unit)
        local = datetime.fromtimestamp(ns // 10**9, zone)
    else:
        local = datetime.fromisoformat(text.replace("/", "-"))
        local = local.replace(tzinfo=zone) if local.tzinfo is None else local.astimezone(zone)
        ns = int(local.timestamp()) * 10**9 + local.microsecond * 1000
    return ns, local.toordinal() - _EPOCH_DAY


def read_bar_csv(path: Path, zone: tzinfo = UTC) -> BarTable:
    """Read a whole file.

    Args:
        path: A CSV with a header that has at least REQUIRED, in any order.
        zone: See ``parse_time``.

    Raises:
        InputFileError: it cannot be read, lacks a column, or has a blank, unreadable, infinite or
            negative cell, with line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(path, file, zone)
    except OSError as error:
        raise InputFileError(path, f"it cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(path, f"it is not a CSV in UTF-8: {error}") from None


def _read(path: Path, file: TextIO, zone: tzinfo) -> BarTable:
    rows = csv.reader(file)
    header = [name.strip().lower() for name in next(rows, [])]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        problem = f"line 1: there is no column {', '.join(missing)}; it needs {','.join(REQUIRED)}"
        raise InputFileError(path, problem)
    wanted = [n for n in (*REQUIRED[1:], *OPTIONAL) if n in header]
    places = [(name, header.index(name), array("d")) for name in wanted]
    time_at = header.index("time")
    times: list[str] = []
    stamps, days = array("q"), array("q")
    for row in rows:
        line = rows.line_num
        if len(row) != len(header):
            found = "a blank line" if not row else f"{len(row)} cells"
            problem = f"line {line}: found {found}; the header has {len(header)} columns"
            raise InputFileError(path, problem)
        ns, day = _time_cell(path, line, row[time_at], zone)
        times.append(row[time_at])
        stamps.append(ns)
        days.append(day)
        for name, at, values in places:
            values.append(_number_cell(path, line, name, row[at]))
    if not times:
        raise InputFileError(path, "it has a header but no bars")
    bars = empty_bars(len(times))
    bars["ts_open"] = bars["ts_event"] = bars["ts_recv"] = stamps
    bars["session"] = days
    bars["count"] = 1
    for name, _, values in places:
        bars[name] = values
    return BarTable(times, bars, frozenset([*wanted, "ts_event", "session"]))


def _time_cell(path: Path, line: int, text: str, zone: tzinfo) -> tuple[int, int]:
    try:
        return parse_time(text.strip(), zone)
    except (ValueError, OverflowError, OSError):
        expected = "expected ISO 8601, yyyymmdd or an epoch number"
        problem = f"line {line}, column time: found {text!r}; {expected}"
        raise InputFileError(path, problem) from None


def _number_cell(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
        if not text.strip() and name in _MAY_BE_BLANK:
            return value
    if not math.isfinite(value) or (value < 0.0 and name in _NOT_NEGATIVE):
        kind = "a number that is not negative" if name in _NOT_NEGATIVE else "a finite number"
        raise InputFileError(path, f"line {line}, column {name}: found {text!r}; expected {kind}")
    return value


def write_columns(
    file: TextIO, times: Sequence[str], names: Sequence[str], columns: npt.NDArray[np.float64]
) -> None:
    """Write ``time`` and columns, shape (C, N), in full precision; NaN as an empty cell."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time", *names])
    for start in range(0, len(times), _ROWS_A_WRITE):
        part = slice(start, start + _ROWS_A_WRITE)
        writer.writerows(_cells(times[part], columns[:, part].T.tolist()))


def _cells(times: Iterable[str], rows: Iterable[list[float]]) -> Iterator[list[object]]:
    for time, row in zip(times, rows, strict=True):
        yield [time, *("" if math.isnan(value) else value for value in row)]
