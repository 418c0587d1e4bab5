"""Finds the frames of one log file, past damage in its middle and up to a torn tail."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import LogError
from engine.core.records import HEADER_BYTES, MAGIC, SEQUENCED, VERSION
from feeds.frame_check import find_frame_nb, frames_ok_nb, index_nb

OFFSET: Final = 0
LENGTH: Final = 1
SCHEMA: Final = 2
FIRST_SEQ: Final = 3
COUNT: Final = 4
EPOCH: Final = 5
GATEWAY: Final = 6
TS: Final = 7
COLUMNS: Final = 8
"""Columns of a frame table, i8: where it lies and how long it is in bytes, its schema, first
number, records, epoch and gateway, and the receive time of its last record."""

_SEQUENCED: Final = [int(schema) for schema in SEQUENCED]
_CHUNK: Final = 65_536
_MAX_DAMAGE: Final = 1000


class Damage(NamedTuple):
    """A stretch of a file, in bytes, in which no frame was found."""

    offset: int
    length: int


class NumberGap(NamedTuple):
    """Numbers that are in no good frame of the log."""

    gateway: int
    epoch: int
    first_missing: int
    missing: int


class FileIndex(NamedTuple):
    """The frames of one file."""

    frames: npt.NDArray[np.int64]
    """Shape (N, COLUMNS). A frame listed here may yet have a bad CRC, but not the last one."""
    damage: list[Damage]
    """Stretches between frames that are no frames; at most 1000 are listed."""
    good_bytes: int
    """Where the last good frame ends."""
    torn_bytes: int
    """What follows it."""


def index_file(file: Path, wire: npt.NDArray[np.uint8]) -> FileIndex:
    """List a file's frames.

    Args:
        file: Its name, for the error.
        wire: Its bytes.

    Raises:
        LogError: it is not a tick log, or one of another version.
    """
    words = wire[: len(wire) // 8 * 8].view(np.int64)
    words.flags.writeable = False
    stranger = _what_else(wire)
    if stranger and find_frame_nb(words, 0) < 0:
        raise LogError(file, stranger, 0)
    frames, damage = _walk(wire, words)
    frames = _cut_bad_tail(wire, frames)
    good = int(frames[-1, OFFSET] + frames[-1, LENGTH]) if len(frames) else 0
    return FileIndex(
        frames, [part for part in damage if part.offset < good], good, len(wire) - good
    )


def frames_ok(wire: npt.NDArray[np.uint8], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Say of each frame of a table whether it is good, CRC included; shape (N,)."""
    good = np.zeros(len(frames), np.uint8)
    frames_ok_nb(
        good,
        wire,
        np.ascontiguousarray(frames[:, OFFSET]),
        np.ascontiguousarray(frames[:, LENGTH]),
    )
    return good.view(np.bool_)


def numbered_frames(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows of a frame table whose records consume sequence numbers."""
    return frames[np.isin(frames[:, SCHEMA], _SEQUENCED)]


def check_numbers(frames: npt.NDArray[np.int64]) -> tuple[list[NumberGap], int]:
    """Find what is missing from, and how many records are twice in, numbered frames.

    Args:
        frames: Rows of ``numbered_frames``, in the order of the log.
    """
    gaps: list[NumberGap] = []
    duplicates = 0
    streams = np.unique(frames[:, [GATEWAY, EPOCH]], axis=0)
    for gateway, epoch in streams.tolist():
        rows = frames[(frames[:, GATEWAY] == gateway) & (frames[:, EPOCH] == epoch)]
        first = rows[1:, FIRST_SEQ]
        expected = np.maximum.accumulate(rows[:, FIRST_SEQ] + rows[:, COUNT])[:-1]
        duplicates += int(np.clip(expected - first, 0, rows[1:, COUNT]).sum())
        gaps += [
            NumberGap(gateway, epoch, int(expected[i]), int(first[i] - expected[i]))
            for i in np.flatnonzero(first > expected)
        ]
    return gaps, duplicates


def _what_else(wire: npt.NDArray[np.uint8]) -> str:
    """Say what a file is that does not begin as a log of this version; "" if it does."""
    start = wire[:4].tobytes()
    if start != MAGIC.to_bytes(4, "little")[: len(start)]:
        return f"is not a tick log: begins with {start!r}"
    version = int.from_bytes(wire[4:6].tobytes(), "little")
    if len(wire) < HEADER_BYTES or version == VERSION:
        return ""
    return f"is a tick log of version {version}, this program reads version {VERSION}"


def _walk(
    wire: npt.NDArray[np.uint8], words: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], list[Damage]]:
    parts: list[npt.NDArray[Any]] = [np.zeros((0, COLUMNS), np.int64)]
    damage: list[Damage] = []
    at = 0
    while at + HEADER_BYTES <= len(wire):
        rows = np.zeros((_CHUNK, COLUMNS), np.int64)
        count, at = index_nb(rows, words, at)
        stopped = count < _CHUNK and at + HEADER_BYTES <= len(wire)
        if stopped and count and not frames_ok(wire, rows[count - 1 : count])[0]:
            count -= 1  # its length may be what is damaged
            at = int(rows[count, OFFSET])
        parts.append(rows[:count].copy())
        if not stopped:
            continue
        found = find_frame_nb(words, at + 8)
        if found < 0:
            break
        if len(damage) < _MAX_DAMAGE:
            damage.append(Damage(at, found - at))
        at = found
    return np.concatenate(parts), damage


def _cut_bad_tail(
    wire: npt.NDArray[np.uint8], frames: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    end = len(frames)
    while end and not frames_ok(wire, frames[end - 1 : end])[0]:
        end -= 1
    return frames[:end]
