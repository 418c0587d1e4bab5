"""The engine's own recording: which sessions there are, and the part of them that came last."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from engine.core.errors import HeqisError
from engine.core.records import Instruments
from engine.snapshot import RecordingPlace
from feeds.log_files import segments_of
from feeds.log_index import OFFSET, TS, numbered_frames
from feeds.log_reader import LogReader, LogSegment

_log = logging.getLogger(__name__)
PREFIX: Final = "session-"
SUFFIX: Final = ".hql"


class Session(NamedTuple):
    """The log of one life of the engine; ``epoch`` orders them."""

    epoch: int
    path: Path


class Stretch(NamedTuple):
    """Frames of one segment file from a place on, and the definitions in force there."""

    session: int
    reader: LogReader
    start: int
    instruments: Instruments

    def segments(self) -> Iterator[LogSegment]:
        """Yield the frames."""
        return self.reader.segments(self.start)


class Piece(NamedTuple):
    """One segment file, not opened: its index costs a look at all of it.

    Attributes:
        session: Epoch of its session.
        file: The file.
        size_bytes: Its size when it was listed.
        written_ns: When it was last written to, wall clock.
        offset: Frames that begin before are not wanted.
        since_ns: Frames whose records all were received before are not wanted.
    """

    session: int
    file: Path
    size_bytes: int
    written_ns: int
    offset: int = 0
    since_ns: int = 0

    @property
    def place(self) -> tuple[int, str]:
        """What orders the pieces."""
        return self.session, self.file.name

    def open(self) -> Stretch | None:
        """Index it, for the time that takes; None, told, if it cannot be read."""
        reader = _open(self.file)
        if reader is None:
            return None
        start = int(np.searchsorted(reader.frames[:, OFFSET], self.offset, side="left"))
        if self.since_ns:
            start = max(start, reader.seek_time(self.since_ns))
        return Stretch(self.session, reader, start, reader.instruments)

    def last_ns(self) -> int | None:
        """Index it; return when its last record was received, None if it can give none."""
        reader = _open(self.file)
        if reader is None:
            return None
        received_ns = numbered_frames(reader.frames)[:, TS]
        reader.close()
        return int(received_ns.max()) if len(received_ns) else None


def sessions_in(directory: Path) -> list[Session]:
    """Return the sessions recorded in a directory, oldest first; none if it cannot be read."""
    try:
        paths = list(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("%s: recordings cannot be read: %s", directory, error.strerror)
        return []
    found = []
    for path in paths:
        name = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
        if name.isdigit():
            found.append(Session(int(name), path))
    return sorted(found)


def next_session(directory: Path, wall_ns: int) -> Session:
    """Return a session after all that there are, whatever the clock was set to."""
    last = max((one.epoch for one in sessions_in(directory)), default=0)
    epoch = max(wall_ns, last + 1)
    return Session(epoch, directory / f"{PREFIX}{epoch}{SUFFIX}")


def pieces_of(directory: Path, before: int | None = None) -> list[Piece]:
    """Return all segment files, of the sessions before one if one is given, in order."""
    found = []
    for session in sessions_in(directory):
        if before is None or session.epoch < before:
            found += _pieces_of_session(session)
    return found


def pieces_after(directory: Path, place: RecordingPlace, before: int) -> list[Piece]:
    """Return what was recorded after a place, in order.

    Args:
        directory: Of the recordings.
        place: From where on.
        before: The first session that is not wanted.
    """
    first = (place.session, place.file)
    return [
        piece._replace(offset=place.offset) if piece.place == first else piece
        for piece in pieces_of(directory, before)
        if piece.place >= first
    ]


async def pieces_within(directory: Path, span_ns: int, before: int) -> list[Piece]:
    """Return what was recorded in the last ``span_ns`` of receive time, in order.

    Files are looked at in another thread, one after the other from the newest.

    Args:
        directory: Of the recordings.
        span_ns: How much of it.
        before: The first session that is not wanted.
    """
    found: list[Piece] = []
    since_ns: int | None = None
    for piece in reversed(pieces_of(directory, before)) if span_ns else ():
        last_ns = await asyncio.to_thread(piece.last_ns)
        if last_ns is None:
            continue
        since_ns = last_ns - span_ns if since_ns is None else since_ns
        if last_ns < since_ns:
            break
        found.append(piece._replace(since_ns=since_ns))
    return found[::-1]


def _pieces_of_session(session: Session) -> list[Piece]:
    try:
        found = [(file, file.stat()) for file in segments_of(session.path)]
    except (OSError, HeqisError) as error:
        _log.warning("left out of the restart: %s", error)
        return []
    return [Piece(session.epoch, file, f.st_size, f.st_mtime_ns) for file, f in found]


def _open(file: Path) -> LogReader | None:
    try:
        return LogReader(file)
    except HeqisError as error:
        _log.warning("left out of the restart: %s", error)
        return None
