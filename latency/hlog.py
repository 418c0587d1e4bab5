"""``.hlog`` files: the standard HdrHistogram interval log, version 1.3, one tag a stage.

Any HdrHistogram tool reads them. Values are nanoseconds; the third column of a line is the
interval's maximum in milliseconds. A comment line keeps what a histogram cannot: clock faults and
values out of range. Each append is one write and a flush: a crash costs the last line at most.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from hdrh.histogram import HdrHistogram

from latency.counts import HdrScale, StageCounts

DEFAULT_MAX_BYTES: Final = 64 << 20
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_TAG: Final = re.compile(r"[!-+\--~]+")
_LEGEND: Final = (
    '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
)


class HlogWriter:
    """Writes one ``.hlog``; its owner appends at the pace it likes.

    Encoding a stage takes about half a millisecond: a loop that must not stop appends one stage a
    turn. When a file has grown to ``max_bytes`` it becomes ``PATH.1`` (the one before goes) and a
    new one begins.

    Attributes:
        lines: Intervals written.
        rotations: Files closed because they were full.

    Args:
        path: The file; an old one of that name becomes ``PATH.1`` too.
        start_wall_ns: Start of the log; other times are kept relative to it.
        max_bytes: Size at which a new file begins.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, start_wall_ns: int, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.path = path
        self.lines = 0
        self.rotations = 0
        self._max_bytes = max_bytes
        self._start_wall_ns = start_wall_ns
        self._scratch: dict[HdrScale, HdrHistogram] = {}
        self._file = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, stage: str, counts: StageCounts, start_wall_ns: int, end_wall_ns: int) -> None:
        """Write what one stage recorded in one interval; nothing if it recorded nothing.

        Args:
            stage: The tag, ASCII without comma or space.
            counts: What was recorded, as ``take_interval`` returns it.
            start_wall_ns: Start of the interval.
            end_wall_ns: End of the interval.

        Raises:
            ValueError: the tag cannot be written.
            OSError: the file cannot be written.
        """
        if not _TAG.fullmatch(stage):
            raise ValueError(f"stage {stage!r} cannot be a tag: no comma, no space")
        odd = counts.clock_faults or counts.out_of_range
        if not counts.indices.size and not odd:
            return
        start_s = max(0, start_wall_ns - self._start_wall_ns) / _NS_PER_S
        length_s = max(0, end_wall_ns - start_wall_ns) / _NS_PER_S
        columns = f"{start_s:.3f},{length_s:.3f},{counts.max / _NS_PER_MS:.3f}"
        self._write(
            (_odd_line(stage, counts) if odd else "")
            + f"Tag={stage},{columns},{self._encode(counts)}\n"
        )
        self.lines += 1

    def append_all(
        self, stages: Mapping[str, StageCounts], start_wall_ns: int, end_wall_ns: int
    ) -> None:
        """Write one interval of every stage."""
        for stage, counts in stages.items():
            self.append(stage, counts, start_wall_ns, end_wall_ns)

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._file.close()

    def _write(self, text: str) -> None:
        if self._file.tell() >= self._max_bytes:
            self._file.close()
            self._file = self._open()
            self.rotations += 1
        self._file.write(text)
        self._file.flush()

    def _open(self) -> TextIO:
        if self.path.is_file():
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        file = self.path.open("w", encoding="ascii", newline="\n")
        start_s = self._start_wall_ns / _NS_PER_S
        date = datetime.fromtimestamp(start_s, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
        file.write(
            "#[Logged by HEQIS: latency by stage in nanoseconds]\n"
            "#[Histogram log format version 1.3]\n"
            f"#[StartTime: {start_s:.3f} (seconds since epoch), {date}]\n"
            f"#[BaseTime: {start_s:.3f} (seconds since epoch)]\n{_LEGEND}"
        )
        file.flush()
        return file

    def _encode(self, counts: StageCounts) -> str:
        if counts.scale not in self._scratch:
            self._scratch[counts.scale] = counts.scale.empty_histogram()
        histogram = self._scratch[counts.scale]
        counts.pour_into(histogram)
        payload: bytes = histogram.encode()
        counts.wipe(histogram)
        return payload.decode("ascii")


def _odd_line(stage: str, counts: StageCounts) -> str:
    faults, out_of_range = counts.clock_faults, counts.out_of_range
    return f"#[Odd {stage} clock_faults={faults} out_of_range={out_of_range}]\n"
