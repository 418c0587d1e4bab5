"""Notices what user code reads besides its callbacks: files, databases, sockets, other programs.

What lies in a file is outside any comparison of runs: it may hold the future. The interpreter
reports every opening of its own (``sys.addaudithook``); one counts where a function of a watched
source file is among the callers. Libraries that open files in C are not seen.
"""

import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple, Self

_CODE: Final = (".py", ".pyc", ".pyd", ".so", ".nbi", ".nbc", ".dll", ".pth")
_SYSTEM: Final = ("/proc/", "/sys/", "/dev/")
_CALLS: Final = frozenset(
    {"sqlite3.connect", "socket.connect", "subprocess.Popen", "urllib.Request"}
)
_MAX_READS: Final = 1000


class Reading(NamedTuple):
    """Something that user code opened: the source file, and what."""

    source: str
    target: str


class FileWatch:
    """Collects what functions of some source files open, while it is entered.

    Args:
        sources: The users' Python files.
        trusted: Files and directories that may be read.
    """

    def __init__(self, sources: Iterable[Path], trusted: Iterable[Path] = ()) -> None:
        self._sources = {os.path.realpath(path): str(path) for path in sources}
        self._trusted = tuple(os.path.realpath(path) for path in trusted)
        self._readings: dict[Reading, None] = {}

    @property
    def readings(self) -> list[Reading]:
        """What was opened, once each, at most 1000."""
        return list(self._readings)

    def __enter__(self) -> Self:
        if self._sources:
            _entered.append(self)
            _install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self in _entered:
            _entered.remove(self)

    def note(self, event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
        """Take one report of the interpreter."""
        target = _read_target(event, arguments)
        if target is None or len(self._readings) >= _MAX_READS or self._may_read(event, target):
            return
        source = self._caller(frame)
        if source is not None:
            self._readings[Reading(source, target)] = None

    def _may_read(self, event: str, target: str) -> bool:
        if event != "open":
            return False
        inside = (*self._trusted, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))
        return any(target == path or target.startswith(path + os.sep) for path in inside)

    def _caller(self, frame: FrameType | None) -> str | None:
        while frame is not None:
            source = self._sources.get(os.path.realpath(frame.f_code.co_filename))
            if source is not None:
                return source
            frame = frame.f_back
        return None


def _read_target(event: str, arguments: tuple[Any, ...]) -> str | None:
    if event in _CALLS:
        return f"{event} {arguments[-1] if event == 'socket.connect' else arguments[0]}"
    if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return None
    mode, flags = arguments[1], arguments[2]
    writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT)
    target = os.path.realpath(os.fsdecode(arguments[0]))
    if writes or (isinstance(mode, str) and "r" not in mode and "+" not in mode):
        return None
    return None if target.endswith(_CODE) or target.startswith(_SYSTEM) else target


_entered: list[FileWatch] = []
_installed: list[bool] = []


def _install() -> None:
    """Ask the interpreter for its reports, once: there is no way to ask it to stop."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_on_event)


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if _entered and (event == "open" or event in _CALLS):
        frame = inspect.currentframe()
        for watch in _entered:
            watch.note(event, arguments, frame)
