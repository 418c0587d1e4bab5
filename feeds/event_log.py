"""The gateway's own journal: one JSON object a line, on disk at once, bounded by rotation.

A thread of its own writes, so a disk that does not answer holds nobody up.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import orjson

KEPT: Final = 64
"""Newest events kept in memory, for status."""
MOST_WAITING: Final = 1024
"""Events that may wait for the disk; further ones are counted as failures."""
SLOW_S: Final = 1.0
"""A disk that has not answered for so long is told of."""


class EventLog:
    """Takes events; owned by the gateway. A disk that refuses costs a count, never the gateway.

    Args:
        path: The file; None keeps the newest events in memory only.
        most_bytes: Size at which it is set aside as ``.1`` and begun anew.

    Attributes:
        newest: The newest events.
        written: Events on disk.
        failures: Events that are not, or not for certain.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._taken = 0
        self._handled = 0
        self._asked_s: float | None = None
        self._error = ""
        self.newest: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.written = 0
        self.failures = 0

    @property
    def error(self) -> str:
        """Why events are not on disk, "" while all is well."""
        asked_s = self._asked_s
        if asked_s is not None and time.monotonic() - asked_s >= SLOW_S:
            return "the disk does not answer"
        return self._error

    def append(self, kind: str, wall_ns: int, fields: Mapping[str, Any]) -> None:
        """Hand one event over; ``settle`` waits until it is on disk."""
        event = {"ts": wall_ns, "kind": kind, **fields}
        self.newest.append(event)
        if self._path is None:
            return
        line = orjson.dumps(event, default=str) + b"\n"
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self.failures += 1
                self._error = f"{MOST_WAITING} events wait for the disk"
                return
            self._waiting.append(line)
            self._taken += 1
            self._ending = False
            if self._thread is None:
                self._begin(self._path)
            self._changed.notify_all()

    async def settle(self, limit_s: float = SLOW_S) -> bool:
        """Wait until what was appended so far was written or failed; False if not in time."""
        if self._handled == self._taken:
            return True
        return await asyncio.to_thread(self.wait, limit_s)

    def wait(self, limit_s: float = SLOW_S) -> bool:
        """Wait as ``settle`` does, and the calling thread with it."""
        with self._changed:
            target = self._taken
            return self._changed.wait_for(lambda: self._handled >= target, limit_s)

    def close(self, limit_s: float = SLOW_S) -> None:
        """Write what waits, if the disk takes it in time, and close; the next event opens again."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(limit_s)

    def _begin(self, path: Path) -> None:
        self._thread = threading.Thread(
            target=self._write_all,
            args=(_File(path, self._most_bytes),),
            name="heqis-events",
            daemon=True,
        )
        self._thread.start()

    def _write_all(self, file: "_File") -> None:
        while lines := self._take():
            try:
                file.write(lines)
                error = ""
            except OSError as failed:
                error = failed.strerror or str(failed)
                file.drop()
            self._note(len(lines), error)
        file.drop()

    def _take(self) -> list[bytes]:
        """Return what waits; nothing once the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            lines = list(self._waiting)
            self._waiting.clear()
            if lines:
                self._asked_s = time.monotonic()
            else:
                self._thread = None
            return lines

    def _note(self, count: int, error: str) -> None:
        with self._changed:
            self._handled += count
            self._error = error
            self._asked_s = None
            if error:
                self.failures += count
            else:
                self.written += count
            self._changed.notify_all()


class _File:
    """Appends to a file that is set aside when it is long; the writing thread's own."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._file: IO[bytes] | None = None

    def write(self, lines: list[bytes]) -> None:
        """Have lines on disk."""
        for line in lines:
            self._opened().write(line)
        self._sync()

    def drop(self) -> None:
        """Close; what a full disk does not take is gone."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                return

    def _sync(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _opened(self) -> IO[bytes]:
        if self._file is not None and self._file.tell() >= self._most_bytes:
            self._sync()
            self.drop()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
        return self._file
