"""Reads ``.hlog`` files: ours, and those of other HdrHistogram tools."""

import binascii
import re
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException
from hdrh.histogram import HdrHistogram

from latency.counts import StageCounts, merge_all

UNTAGGED: Final = "all"
"""The stage of lines without a tag, as other tools write them."""
_NS_PER_S: Final = 1_000_000_000
_YEAR_NS: Final = 365 * 86_400 * _NS_PER_S
_TIME: Final = re.compile(r"#\[(StartTime|BaseTime): *(\d+(?:\.\d+)?) ")
_ODD: Final = re.compile(r"#\[Odd ([^,\s]+) clock_faults=(\d+) out_of_range=(\d+)\]")
_INTERVAL: Final = re.compile(
    r"(?:Tag=([^,\s]+),)?(\d+(?:\.\d+)?),(\d+(?:\.\d+)?),(\d+(?:\.\d+)?),([A-Za-z0-9+/=]+)"
)
_DECODE_ERRORS: Final = (
    ValueError,
    OverflowError,
    RuntimeError,
    binascii.Error,
    zlib.error,
    HdrCookieException,
    HdrHistogramSettingsException,
    HdrLengthException,
)


class HlogError(ValueError):
    """A file that is not an ``.hlog``, or a line of one that cannot be read.

    Args:
        file: The file.
        line: Line number from 1, 0 for the whole file.
        problem: What is wrong.
    """

    def __init__(self, file: str | Path, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file = str(file)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Interval:
    """What one stage recorded in one span of time."""

    stage: str
    start_wall_ns: int
    end_wall_ns: int
    counts: StageCounts


@dataclass(frozen=True, slots=True)
class Hlog:
    """A file's intervals in the order written.

    Attributes:
        start_wall_ns: The log's start; 0 if the file has neither a start nor an interval.
        intervals: Its intervals, at least one.
        torn_bytes: Length of an unfinished last line, left out.
    """

    start_wall_ns: int
    intervals: tuple[Interval, ...]
    torn_bytes: int = 0

    @property
    def stages(self) -> tuple[str, ...]:
        """Return the stages in order of first appearance."""
        return tuple(dict.fromkeys(interval.stage for interval in self.intervals))

    def of_stage(self, stage: str) -> list[Interval]:
        """Return one stage's intervals."""
        return [interval for interval in self.intervals if interval.stage == stage]

    def totals(self) -> dict[str, StageCounts]:
        """Return each stage's sum over all its intervals.

        Raises:
            ValueError: a stage's intervals differ in precision.
        """
        return {
            stage: merge_all([interval.counts for interval in self.of_stage(stage)])
            for stage in self.stages
        }


def read_hlog(path: Path) -> Hlog:
    """Read a whole ``.hlog``.

    Raises:
        HlogError: it is not one, holds no interval, or a line of it is damaged.
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    torn = lines.pop()
    reading = _Reading(path)
    for number, line in enumerate(lines, 1):
        reading.take(number, line.rstrip("\r"))
    if not reading.intervals:
        raise HlogError(path, 0, "no histogram interval in it; is it an .hlog file?")
    return Hlog(reading.start_wall_ns or 0, tuple(reading.intervals), len(torn.encode()))


@dataclass(slots=True)
class _Reading:
    path: Path
    start_wall_ns: int | None = None
    base_wall_ns: int | None = None
    intervals: list[Interval] = field(default_factory=list)
    odd: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, number: int, line: str) -> None:
        if line.startswith("#"):
            self._take_comment(line)
        elif line and not line.startswith('"'):
            self._take_interval(number, line)

    def _take_comment(self, line: str) -> None:
        if match := _TIME.match(line):
            time_ns = _nanoseconds(match[2])
            if match[1] == "StartTime":
                self.start_wall_ns = time_ns
            else:
                self.base_wall_ns = time_ns
        elif match := _ODD.match(line):
            self.odd[match[1]] = (int(match[2]), int(match[3]))

    def _take_interval(self, number: int, line: str) -> None:
        match = _INTERVAL.fullmatch(line)
        if match is None:
            raise HlogError(self.path, number, f"not an interval line: {line[:60]!r}")
        stage = match[1] or UNTAGGED
        stamp_ns, length_ns = _nanoseconds(match[2]), _nanoseconds(match[3])
        counts = self._decode(number, match[5])
        faults, out_of_range = self.odd.pop(stage, (0, 0))
        if faults or out_of_range:
            counts = replace(counts, clock_faults=faults, out_of_range=out_of_range)
        begin_ns = self._base_ns(stamp_ns) + stamp_ns
        self.intervals.append(Interval(stage, begin_ns, begin_ns + length_ns, counts))

    def _base_ns(self, stamp_ns: int) -> int:
        """As other readers do: without a base, stamps far before the start are relative to it."""
        if self.start_wall_ns is None:
            self.start_wall_ns = stamp_ns
        if self.base_wall_ns is None:
            relative = stamp_ns < self.start_wall_ns - _YEAR_NS
            self.base_wall_ns = self.start_wall_ns if relative else 0
        return self.base_wall_ns

    def _decode(self, number: int, payload: str) -> StageCounts:
        try:
            histogram = HdrHistogram.decode(payload)
        except _DECODE_ERRORS as error:
            raise HlogError(self.path, number, f"damaged histogram: {error}") from error
        return StageCounts.of(histogram)


def _nanoseconds(seconds: str) -> int:
    whole, _, part = seconds.partition(".")
    return int(whole) * _NS_PER_S + int(part[:9].ljust(9, "0"))
