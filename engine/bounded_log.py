"""Log lines to stderr that nobody waits for: a reader that hangs or has gone costs lines only."""

import logging
import os
import threading
from collections import deque
from typing import Final

MOST_LINES: Final = 4096
LAST_S: Final = 0.5
"""How long the last lines may take at the end."""
_STDERR: Final = 2


class BoundedHandler(logging.Handler):
    """Formats where it is called and writes on a thread of its own.

    Bound: ``most`` lines; when it is full, further ones are dropped, and their number is told in
    the first line that goes through again.

    Args:
        descriptor: Where to write.
        most: As above.

    Attributes:
        dropped: Lines that found no room.
        failures: Lines that could not be written.
    """

    def __init__(self, descriptor: int = _STDERR, most: int = MOST_LINES) -> None:
        super().__init__()
        self.dropped = 0
        self.failures = 0
        self._descriptor = descriptor
        self._most = most
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._untold = 0
        self._writer = threading.Thread(target=self._write_all, name="heqis-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; never waits and never raises."""
        if len(self._lines) >= self._most:
            self.dropped += 1
            self._untold += 1
            return
        try:
            self._lines.append(self.format(record))
        except (TypeError, ValueError) as error:
            self._lines.append(f"a log line cannot be formatted: {error}")
        self._wake.set()

    def close(self) -> None:
        """Write what waits, within ``LAST_S``, and end."""
        self._ending = True
        self._wake.set()
        self._writer.join(LAST_S)
        super().close()

    def _write_all(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                self._write(self._lines.popleft())
            if self._ending:
                return

    def _write(self, line: str) -> None:
        untold, self._untold = self._untold, 0
        lost = f"({untold} lines of the log were dropped)\n" if untold else ""
        rest = f"{lost}{line}\n".encode(errors="replace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self.failures += 1
