"""Checks a whole log: every frame's CRC, and that its numbers go on without a gap."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.errors import LogError
from feeds.log_files import map_bytes, segments_of
from feeds.log_index import (
    COLUMNS,
    COUNT,
    LENGTH,
    OFFSET,
    NumberGap,
    check_numbers,
    frames_ok,
    index_file,
    numbered_frames,
)

__all__ = ["BadPlace", "NumberGap", "VerifyReport", "verify"]

_MAX_LISTED = 1000


class BadPlace(NamedTuple):
    """A place in a file that is not as it was written."""

    file: str
    offset: int
    length: int
    problem: str


class VerifyReport(msgspec.Struct, frozen=True):
    """What a check of a log found; lists hold at most 1000 entries, counts are exact."""

    path: str
    files: int
    frames: int
    """Good frames."""
    records: int
    """Numbered records in good frames."""
    bad_frames: int
    """Frames whose CRC is wrong, and stretches that are no frames."""
    bad_places: list[BadPlace]
    gaps: int
    missing_records: int
    gap_list: list[NumberGap]
    duplicate_records: int
    torn_bytes: int
    """Bytes after the last good frame of a file: a write that was cut off."""

    @property
    def ok(self) -> bool:
        """Whether the log is whole: nothing damaged, torn, missing or there twice."""
        return not (self.bad_frames or self.gaps or self.duplicate_records or self.torn_bytes)


def verify(path: str | Path) -> VerifyReport:
    """Read a whole log and check it.

    Raises:
        InputFileError: there is no such file, or it cannot be opened.
        LogError: it is not a tick log, or there is nothing in it.
    """
    path = Path(path)
    files = segments_of(path)
    bad: list[BadPlace] = []
    good_frames: list[npt.NDArray[np.int64]] = []
    torn_bytes = 0
    for file in files:
        wire = map_bytes(file)
        index = index_file(file, wire)
        good = frames_ok(wire, index.frames)
        good_frames.append(index.frames[good])
        torn_bytes += index.torn_bytes
        bad += [
            BadPlace(str(file), int(row[OFFSET]), int(row[LENGTH]), "CRC is wrong")
            for row in index.frames[~good]
        ]
        bad += [BadPlace(str(file), *damage, "no frame") for damage in index.damage]
    frames = np.concatenate(good_frames) if good_frames else np.zeros((0, COLUMNS), np.int64)
    if not (len(frames) or bad or torn_bytes):
        raise LogError(path, "holds no whole frame")
    numbered = numbered_frames(frames)
    gaps, duplicates = check_numbers(numbered)
    return VerifyReport(
        path=str(path),
        files=len(files),
        frames=len(frames),
        records=int(numbered[:, COUNT].sum()),
        bad_frames=len(bad),
        bad_places=bad[:_MAX_LISTED],
        gaps=len(gaps),
        missing_records=sum(gap.missing for gap in gaps),
        gap_list=gaps[:_MAX_LISTED],
        duplicate_records=duplicates,
        torn_bytes=torn_bytes,
    )
