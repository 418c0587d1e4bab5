"""The gateway's own journal: one JSON object a line, on disk at once, bounded by rotation."""

import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import orjson

KEPT: Final = 64
"""Newest events kept in memory, for status."""


class EventLog:
    """Appends events; owned by the gateway. A disk that refuses costs a count, never the gateway.

    Args:
        path: The file; None keeps the newest events in memory only.
        most_bytes: Size at which it is set aside as ``.1`` and begun anew.

    Attributes:
        newest: The newest events.
        written: Events on disk.
        failures: Events that are not.
        error: Why not, "" while all is well.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._file: IO[bytes] | None = None
        self.newest: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.written = 0
        self.failures = 0
        self.error = ""

    def append(self, kind: str, wall_ns: int, fields: Mapping[str, Any]) -> None:
        """Write one event through to the disk: what follows may be this machine's end."""
        event = {"ts": wall_ns, "kind": kind, **fields}
        self.newest.append(event)
        if self._path is None:
            return
        try:
            file = self._opened(self._path)
            file.write(orjson.dumps(event, default=str) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            self.failures += 1
            self.error = error.strerror or str(error)
            self.close()
            return
        self.written += 1
        self.error = ""

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self.error = error.strerror or str(error)

    def _opened(self, path: Path) -> IO[bytes]:
        if self._file is not None and self._file.tell() >= self._most_bytes:
            self.close()
            path.replace(path.with_name(path.name + ".1"))
        if self._file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        return self._file
