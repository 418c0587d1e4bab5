"""A child's log file: bounded while the child goes on writing to it."""

import os
import shutil
from pathlib import Path
from typing import IO, Final

_TAIL_BYTES: Final = 16_384
TAIL_LINES: Final = 12


class ChildLog:
    """Owned by the supervisor; the child writes to it by appending.

    The file is copied aside and cut to nothing in place, because the child keeps it open. What it
    writes between the two, some microseconds, is lost; the journal holds what matters.

    Args:
        path: The file; the one before is kept beside it as ``.1``.
        most_bytes: Size at which it begins anew.

    Attributes:
        rotations: Times it began anew while it was written to.
        failures: Times that the copy could not be kept, and what it held went.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self.rotations = 0
        self.failures = 0
        self._most_bytes = most_bytes

    @property
    def before(self) -> Path:
        """The log before this one."""
        return self.path.with_name(self.path.name + ".1")

    def open(self) -> IO[bytes]:
        """Open it to be written by a child; a log of an earlier run is kept aside.

        Raises:
            OSError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            self.path.replace(self.before)
        return self.path.open("ab")

    def bound(self) -> bool:
        """Begin anew if it has grown too large; return whether it had. Never raises."""
        try:
            if self.path.stat().st_size < self._most_bytes:
                return False
        except OSError:
            return False
        self._keep_aside()
        try:
            os.truncate(self.path, 0)
        except OSError:
            self.failures += 1
            return False
        self.rotations += 1
        return True

    def tail(self) -> str:
        """Return its last lines, and where it holds too few, those before them."""
        lines: list[str] = []
        for file in (self.path, self.before):
            lines = _last_lines(file) + lines
            if len(lines) >= TAIL_LINES or not self.rotations:
                break
        return "\n".join(lines[-TAIL_LINES:])

    def _keep_aside(self) -> None:
        try:
            shutil.copyfile(self.path, self.before)
        except OSError:
            self.failures += 1


def _last_lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - _TAIL_BYTES))
            text = opened.read().decode(errors="replace")
    except OSError as error:
        return [f"({file} cannot be read: {error.strerror})"]
    return text.splitlines()
