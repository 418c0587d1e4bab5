"""A disk that is slow, full or broken when told so, under the journal and under every log."""

import asyncio
import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

from engine.journal_alarm import DiskState
from engine.journal_store import lock_file

MS: Final = 1_000_000
_ROOMY: Final = 1 << 40


class Disk:
    """One disk; owned by the world.

    Attributes:
        refuses: Every write fails, with this error number; 0: none does.
        slow_ns: What every operation of the journal takes besides.
        written: Bytes written to logs so far, by the directory that the logs are in.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.refuses = 0
        self.slow_ns = 0
        self.refused = 0
        self.written: Counter[str] = Counter()
        self.connections: list[Connection] = []
        self.locks: list[int] = []

    def connect(self, database: str | Path, **kwargs: Any) -> "Opening":
        """Stand for ``aiosqlite.connect``."""
        return Opening(self, lambda: sqlite3.connect(database, **kwargs))

    async def pause(self) -> None:
        """Take as long as an operation does."""
        await asyncio.sleep((self.rng.randrange(200_000) + self.slow_ns) / 1e9)

    def check(self) -> None:
        """Refuse a write of the journal, if it is to be refused."""
        if self.refuses:
            self.refused += 1
            full = self.refuses == errno.ENOSPC
            raise sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Stand for ``os.write`` of a log."""
        if self.refuses:
            self.refused += 1
            raise OSError(self.refuses, os.strerror(self.refuses))
        log, _ = os.path.split(os.readlink(f"/proc/self/fd/{descriptor}"))
        taken = os.write(descriptor, data)
        self.written[os.path.dirname(log)] += taken
        return taken

    def state(self, path: Path, inode: int) -> DiskState:
        """Stand for ``engine.journal_store.disk_state``."""
        return DiskState(0 if self.refuses == errno.ENOSPC else _ROOMY, same_file=True)

    def lock_file(self, path: Path) -> int:
        """Stand for ``engine.journal_store.lock_file``."""
        self.locks.append(lock_file(path))
        return self.locks[-1]

    def forget_uncommitted(self) -> None:
        """Do what the kernel does with a killed process's open files."""
        for connection in self.connections:
            connection.raw.rollback()  # else a statement that nobody ended keeps the lock
            connection.raw.close()
        self.connections.clear()
        for descriptor in self.locks:
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".lock"):
                    os.close(descriptor)
        self.locks.clear()


class Opening:
    """What ``aiosqlite.connect`` returns: something to await."""

    def __init__(self, disk: Disk, make: Callable[[], sqlite3.Connection]) -> None:
        self._disk = disk
        self._make = make

    def __await__(self) -> Any:
        return self._open().__await__()

    async def _open(self) -> "Connection":
        await self._disk.pause()
        connection = Connection(self._disk, self._make())
        self._disk.connections.append(connection)
        return connection


class Connection:
    """Stands for ``aiosqlite.Connection``: SQLite itself, in this thread, in its own time."""

    def __init__(self, disk: Disk, raw: sqlite3.Connection) -> None:
        self._disk = disk
        self.raw = raw

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        await self._disk.pause()
        if not sql.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self._disk.check()
        return self.raw.execute(sql, tuple(parameters))

    async def executemany(self, sql: str, rows: Iterable[Iterable[Any]]) -> sqlite3.Cursor:
        await self._disk.pause()
        self._disk.check()
        return self.raw.executemany(sql, [tuple(row) for row in rows])

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] = ()) -> Iterable[Any]:
        await self._disk.pause()
        return self.raw.execute(sql, tuple(parameters)).fetchall()

    async def commit(self) -> None:
        await self._disk.pause()
        self._disk.check()
        self.raw.commit()
        await self._disk.pause()

    async def rollback(self) -> None:
        await self._disk.pause()
        self.raw.rollback()

    async def close(self) -> None:
        await self._disk.pause()
        self.raw.close()
        if self in self._disk.connections:
            self._disk.connections.remove(self)
