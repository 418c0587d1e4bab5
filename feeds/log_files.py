"""Where a log's bytes lie: its segment files, and the place where the good frames of one end."""

import mmap
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, InputFileError, LogError
from engine.core.records import INSTRUMENT, Instruments, Schema
from feeds.codec import decode_frame, merge_instruments
from feeds.log_index import (
    COUNT,
    EPOCH,
    FIRST_SEQ,
    GATEWAY,
    OFFSET,
    SCHEMA,
    TS,
    index_file,
    numbered_frames,
)

SUFFIX: Final = ".hql"
_DIGITS: Final = 6


class LogEnd(NamedTuple):
    """Where one segment file ends, and what a writer must know to go on."""

    good_bytes: int
    torn_bytes: int
    next_seq: int
    epoch: int
    gateway: int
    first_ts: int | None
    instruments: Instruments


def segment_path(log: Path, number: int) -> Path:
    """Return the path of one segment of a rotated log, counted from 1."""
    return log / f"{number:0{_DIGITS}d}{SUFFIX}"


def segments_of(log: Path) -> list[Path]:
    """Return the files of a log in order: itself, or the segments of a directory.

    Raises:
        InputFileError: there is no such file or directory.
    """
    if not log.exists():
        raise InputFileError(log, "there is no such log")
    if not log.is_dir():
        return [log]
    return sorted(
        (entry for entry in log.iterdir() if entry.suffix == SUFFIX and entry.stem.isdigit()),
        key=lambda entry: int(entry.stem),
    )


def map_bytes(file: Path) -> npt.NDArray[np.uint8]:
    """Map a file into memory, read-only, shape (bytes,); unmapped when the array goes.

    Raises:
        InputFileError: it cannot be opened.
    """
    try:
        with file.open("rb") as opened:
            if not file.stat().st_size:
                return np.zeros(0, np.uint8)
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputFileError(file, f"cannot be opened: {error.strerror}") from error
    return np.frombuffer(mapped, np.uint8)


def find_end(file: Path) -> LogEnd | None:
    """Find where the good frames of a segment end; None if there is no such file or it is empty.

    Raises:
        LogError: it is not a tick log.
    """
    if not file.exists() or not file.stat().st_size:
        return None
    wire = map_bytes(file)
    index = index_file(file, wire)
    numbered = numbered_frames(index.frames)
    last = numbered[-1].tolist() if len(numbered) else None
    return LogEnd(
        good_bytes=index.good_bytes,
        torn_bytes=index.torn_bytes,
        next_seq=last[FIRST_SEQ] + last[COUNT] if last else 1,
        epoch=last[EPOCH] if last else 0,
        gateway=last[GATEWAY] if last else 0,
        first_ts=int(numbered[0, TS]) if last else None,
        instruments=read_instruments(file, wire, index.frames, np.zeros(0, INSTRUMENT)),
    )


def read_instruments(
    file: Path,
    wire: npt.NDArray[np.uint8],
    frames: npt.NDArray[np.int64],
    known: Instruments,
) -> Instruments:
    """Return a table of instruments with the definitions of a file added; damaged ones skipped.

    Args:
        file: Its name, for the error.
        wire: Its bytes.
        frames: Its frame table.
        known: INSTRUMENT, shape (I,): what was defined before.

    Raises:
        LogError: definitions contradict each other.
    """
    view = memoryview(wire.data)
    for offset in frames[frames[:, SCHEMA] == Schema.INSTRUMENTS, OFFSET].tolist():
        try:
            frame = decode_frame(view, offset)
        except FrameError:
            continue
        try:
            known = merge_instruments(known, frame.records)
        except FrameError as error:
            raise LogError(file, error.problem, offset) from error
    return known
