"""Where a log's bytes lie: its segment files, and the place where the good frames of one end."""

import mmap
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, InputFileError, LogError
from engine.core.records import INSTRUMENT, SEQUENCED, Instruments, Schema
from feeds.codec import decode_frame, merge_instruments

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
        LogError: the file does not begin with a frame, or is damaged before its tail.
    """
    if not file.exists() or not file.stat().st_size:
        return None
    view = memoryview(map_bytes(file).data)
    offset, next_seq, epoch, gateway = 0, 1, 0, 0
    first_ts: int | None = None
    instruments = np.zeros(0, INSTRUMENT)
    while offset < len(view):
        try:
            frame = decode_frame(view, offset)
        except FrameError as error:
            if offset == 0 and len(view) >= 4:
                raise LogError(file, f"is not a tick log: {error.problem}", 0) from error
            break
        if frame.schema is Schema.INSTRUMENTS:
            instruments = merge_instruments(instruments, frame.records)
        elif first_ts is None:
            first_ts = frame.ts_send
        if frame.schema in SEQUENCED:
            next_seq = frame.first_seq + len(frame.records)
            epoch, gateway = frame.epoch, frame.gateway
        offset += frame.length
    return LogEnd(offset, len(view) - offset, next_seq, epoch, gateway, first_ts, instruments)
