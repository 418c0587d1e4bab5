"""The recording of a comparison: an engine's sessions, one of them, or any tick log."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from engine.core.errors import InputFileError, LogError
from engine.own_recording import PREFIX, SUFFIX, Session, sessions_in
from feeds.log_reader import LogReader


class Part(NamedTuple):
    """One log of it.

    Attributes:
        session: The session it is of, 0 if it is no engine's recording.
        reader: The log.
        compared: Whether what comes of it is compared; what is not leads up to what is.
    """

    session: int
    reader: LogReader
    compared: bool


class Material(NamedTuple):
    """All of it, in order.

    Attributes:
        path: As it was given.
        parts: Its logs.
        directory: Of the engine's recordings; None for any other log.
        goes_on: There are later sessions, which are left out.
        notes: What was left out, and why.
    """

    path: Path
    parts: list[Part]
    directory: Path | None = None
    goes_on: bool = False
    notes: Sequence[str] = ()

    @property
    def epochs(self) -> list[int]:
        """The stream epochs of its records, in order."""
        found = [epoch for part in self.parts for epoch in part.reader.epochs]
        return list(dict.fromkeys(found))


@contextmanager
def open_material(path: Path) -> Iterator[Material]:
    """Open a directory of recordings, one session in one, or a log of any other origin.

    The sessions before a given one lead up to it.

    Raises:
        InputFileError: there is nothing, or nothing recorded in it.
        LogError: it is no tick log.
    """
    material = _open(path)
    try:
        yield material
    finally:
        for part in material.parts:
            part.reader.close()


def _open(path: Path) -> Material:
    if path.is_dir() and (sessions := _sessions_in(path)):
        return _open_sessions(path, path, sessions, sessions, goes_on=False)
    path = path.absolute()
    if path.name.startswith(PREFIX) and path.name.endswith(SUFFIX) and path.exists():
        sessions = _sessions_in(path.parent)
        wanted = next((one.epoch for one in sessions if one.path.name == path.name), 0)
        upto = [one for one in sessions if one.epoch <= wanted]
        goes_on = len(upto) < len(sessions)
        return _open_sessions(path, path.parent, upto, upto[-1:], goes_on=goes_on)
    reader = LogReader(path)
    _check_numbered(path, [Part(0, reader, compared=True)])
    return Material(path, [Part(0, reader, compared=True)])


def _sessions_in(directory: Path) -> list[Session]:
    """Return the sessions recorded in a directory; segment files of one log are none."""
    return [one for one in sessions_in(directory) if one.path.name.startswith(PREFIX)]


def _open_sessions(
    path: Path,
    directory: Path,
    sessions: Sequence[Session],
    compared: Sequence[Session],
    *,
    goes_on: bool,
) -> Material:
    parts, notes = [], []
    for session in sessions:
        try:
            reader = LogReader(session.path)
        except LogError as error:
            notes.append(f"left out: {error}")
            continue
        parts.append(Part(session.epoch, reader, compared=session in compared))
    _check_numbered(path, parts)
    return Material(path, parts, directory, goes_on, notes)


def _check_numbered(path: Path, parts: Sequence[Part]) -> None:
    if not any(part.reader.epochs for part in parts if part.compared):
        raise InputFileError(path, "no records are recorded in it; there is nothing to compare")
