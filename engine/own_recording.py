"""The engine's own recording: which sessions there are, and the part of them that came last."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from engine.core.errors import HeqisError
from engine.core.records import Instruments
from engine.snapshot import RecordingPlace
from feeds.log_files import segments_of
from feeds.log_index import OFFSET, TS
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


def sessions_in(directory: Path) -> list[Session]:
    """Return the sessions recorded in a directory, oldest first."""
    if not directory.is_dir():
        return []
    found = []
    for path in directory.iterdir():
        name = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
        if name.isdigit():
            found.append(Session(int(name), path))
    return sorted(found)


def next_session(directory: Path, wall_ns: int) -> Session:
    """Return a session after all that there are, whatever the clock was set to."""
    last = max((one.epoch for one in sessions_in(directory)), default=0)
    epoch = max(wall_ns, last + 1)
    return Session(epoch, directory / f"{PREFIX}{epoch}{SUFFIX}")


def stretches_after(directory: Path, place: RecordingPlace, before: int) -> Iterator[Stretch]:
    """Yield what was recorded after a place, in order; files that cannot be read are left out.

    Args:
        directory: Of the recordings.
        place: From where on.
        before: The first session that is not wanted.
    """
    for session, file in _files(directory, before):
        if (session, file.name) < (place.session, place.file):
            continue
        reader = _open(file)
        if reader is None:
            continue
        start = 0
        if (session, file.name) == (place.session, place.file):
            start = int((reader.frames[:, OFFSET] < place.offset).sum())
        yield Stretch(session, reader, start, reader.instruments)


def stretches_within(directory: Path, span_ns: int, before: int) -> Iterator[Stretch]:
    """Yield what was recorded in the last ``span_ns`` of receive time, in order.

    Args:
        directory: Of the recordings.
        span_ns: How much of it.
        before: The first session that is not wanted.
    """
    if not span_ns:
        return
    found: list[tuple[int, Path, int]] = []
    since_ns: int | None = None
    for session, file in reversed(_files(directory, before)):
        reader = _open(file)
        if reader is None:
            continue
        last_ns = int(reader.frames[:, TS].max())
        since_ns = last_ns - span_ns if since_ns is None else since_ns
        if last_ns < since_ns:
            break
        found.append((session, file, reader.seek_time(since_ns)))
        reader.close()
    for session, file, start in reversed(found):
        reader = _open(file)
        if reader is not None:
            yield Stretch(session, reader, start, reader.instruments)


def _files(directory: Path, before: int) -> list[tuple[int, Path]]:
    return [
        (session.epoch, file)
        for session in sessions_in(directory)
        if session.epoch < before
        for file in segments_of(session.path)
    ]


def _open(file: Path) -> LogReader | None:
    try:
        return LogReader(file)
    except HeqisError as error:
        _log.warning("left out of the restart: %s", error)
        return None
