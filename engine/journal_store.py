"""The journal's file: opening it, one transaction, one page, one prune. No queue, no policy.

Two connections, each with its thread: the only writer, and a reader that sees what is committed.
Times are wall nanoseconds passed in. Every method raises ``sqlite3.Error`` as SQLite gives it.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final, Self

import aiosqlite

from engine.core.errors import JournalError
from engine.core.signals import Signal
from engine.journal_alarm import DiskState
from engine.journal_migrate import migrate
from engine.journal_schema import (
    INSERT_EVENT,
    INSERT_REFUSAL,
    INSERT_SIGNAL,
    KEEP_LASTING,
    LASTING,
    PUT_META,
    RESTART_GATE,
    SCHEMA,
    SELECT_BOUNDS,
    SELECT_DECISIONS,
    SELECT_EVENTS,
    SELECT_EXPIRED,
    SELECT_NEWEST,
    SELECT_PAGE,
    SELECT_PAST,
    SELECT_REACHED,
    VERSION,
    Decision,
    Event,
    Reached,
    Record,
    SampledRefusal,
    entry_of_row,
    event_row,
    reached_rows,
    refusal_row,
    signal_row,
)
from engine.stream_ring import SignalEntry

DAMAGED: Final = (sqlite3.Error, UnicodeDecodeError)
"""What reading a file raises that is damaged: SQLite's own message may quote bytes of it."""
_MOST_NUMBER: Final = 1 << 62
_AGE_COLUMN: Final = {"signals": "ts_emit", "refusals": "ts_refused", "events": "ts"}
_ORDER: Final = {"signals": "epoch, seq", "refusals": "row", "events": "row"}
SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA cache_size = -512",  # KiB: the journal is written at its end
)
"""Of the writer's connection; a checkpoint writes at most about 1,000 pages, 4 MB."""


def lock_file(path: Path) -> int:
    """Take the lock that keeps a second engine from the journal; it goes with the process.

    Returns:
        The lock's file descriptor.

    Raises:
        JournalError: somebody has it, or the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise JournalError(f"{path}: another engine is writing this journal") from error
    return descriptor


def read_uri(path: Path) -> str:
    """Return the address under which SQLite opens the journal for reading only."""
    return f"{path.absolute().as_uri()}?mode=ro"


def disk_state(path: Path, inode: int) -> DiskState:
    """Ask the file system about the journal; may wait for as long as the disk does.

    Args:
        path: The journal.
        inode: Of the file that is open.
    """
    try:
        room = os.statvfs(path.parent)
        same = path.stat().st_ino == inode
    except OSError:
        return DiskState(0, same_file=False)
    return DiskState(room.f_bavail * room.f_frsize, same_file=same)


class JournalStore:
    """An open journal file; made by ``open``."""

    def __init__(
        self, path: Path, lock: int, writer: aiosqlite.Connection, reader: aiosqlite.Connection
    ) -> None:
        self.path = path
        self.writer = writer
        self.inode = path.stat().st_ino
        self.damaged_rows = 0
        """Signals read whose checksum was wrong; nobody was given them."""
        self._lock = lock
        self._reader = reader

    @classmethod
    async def open(cls, path: Path, busy_timeout_s: float) -> Self:
        """Open or create the journal's file.

        Raises:
            JournalError: not a journal of this version, in use, or not writable.
        """
        lock = lock_file(path)
        try:
            writer = await aiosqlite.connect(path, timeout=busy_timeout_s)
        except DAMAGED as error:
            os.close(lock)
            raise JournalError(f"{path}: cannot be opened: {error}") from error
        try:
            await _prepare(path, writer)
            reader = await aiosqlite.connect(read_uri(path), uri=True, timeout=busy_timeout_s)
        except (*DAMAGED, JournalError) as error:
            await writer.close()
            os.close(lock)
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"{path}: cannot be used as a journal: {error}") from error
        return cls(path, lock, writer, reader)

    async def begin_epoch(self, now_wall_ns: int) -> tuple[int, int]:
        """Return epoch and next sequence number, and mark the journal as in use.

        After a clean stop both go on. Otherwise signals may have been sent that were never
        committed, so a new epoch begins: its number is the wall clock in milliseconds, or one
        more than the last, so that a journal made anew does not take an old one's number.
        """
        rows = await self.writer.execute_fetchall("SELECT key, CAST(value AS INTEGER) FROM meta")
        meta = {str(key): _number(value) for key, value in rows}
        epoch, next_seq = meta.get("epoch", 0), meta.get("next_seq", 1)
        if not meta.get("clean", 0):
            epoch, next_seq = max(epoch + 1, now_wall_ns // 1_000_000), 1
        await self.mark(epoch, next_seq, clean=False)
        return epoch, next_seq

    async def mark(self, epoch: int, next_seq: int, *, clean: bool) -> None:
        """Write the stream's place, durable before this returns even if the power fails."""
        await self.writer.rollback()
        await self.writer.execute("PRAGMA synchronous = FULL")
        meta = [("epoch", epoch), ("next_seq", next_seq), ("clean", int(clean))]
        await self.writer.executemany(PUT_META, meta)
        await self.writer.commit()
        await self.writer.execute("PRAGMA synchronous = NORMAL")

    async def commit(self, records: Sequence[Record]) -> int:
        """Write records in one transaction, all or none; rows are made in the writer's thread.

        Returns:
            Signals already known, by id or place, and therefore not written again.
        """
        signals = [r for r in records if isinstance(r, Signal)]
        refusals = [r for r in records if isinstance(r, SampledRefusal)]
        events = [r for r in records if isinstance(r, Event)]
        reached = [row for r in records if isinstance(r, Reached) for row in reached_rows(r)]
        known = 0
        try:
            if signals:
                cursor = await self.writer.executemany(INSERT_SIGNAL, map(signal_row, signals))
                known = len(signals) - cursor.rowcount
            if refusals:
                await self.writer.executemany(INSERT_REFUSAL, map(refusal_row, refusals))
            if events:
                await self.writer.executemany(INSERT_EVENT, map(event_row, events))
            if reached:
                await self.writer.executemany(PUT_META, reached)
            await self.writer.commit()
        except DAMAGED:
            await self._roll_back()
            raise
        return known

    async def page(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        """Return at most ``limit`` committed signals of an epoch, ``seq >= from_seq``, in order."""
        rows = await self._reader.execute_fetchall(SELECT_PAGE, (epoch, from_seq, limit))
        return self._entries(rows)

    async def past(
        self, epoch: int, from_seq: int, before_epoch: int, limit: int
    ) -> list[SignalEntry]:
        """Return at most ``limit`` committed signals from a place on, of epochs before one."""
        place = (epoch, from_seq, before_epoch, limit)
        return self._entries(await self._reader.execute_fetchall(SELECT_PAST, place))

    async def newest(self, limit: int) -> list[SignalEntry]:
        """Return the last ``limit`` committed signals, of any epoch, oldest first."""
        rows = await self._reader.execute_fetchall(SELECT_NEWEST, (limit,))
        return self._entries(rows)[::-1]

    def _entries(self, rows: Iterable[sqlite3.Row]) -> list[SignalEntry]:
        entries = []
        for row in rows:
            entry = entry_of_row(row)
            if entry is None:
                self.damaged_rows += 1
            else:
                entries.append(entry)
        return entries

    async def bounds(self, epoch: int) -> tuple[int | None, int | None]:
        """Return the oldest and newest sequence number an epoch has, None if it has none."""
        rows = await self._reader.execute_fetchall(SELECT_BOUNDS, (epoch,))
        oldest, newest = next(iter(rows))
        if oldest is None or newest is None:
            return None, None
        return _number(oldest), _number(newest)

    async def oldest(self) -> tuple[int, int] | None:
        """Return epoch and sequence number of the oldest signal kept; None if there is none."""
        query = "SELECT epoch, seq FROM signals ORDER BY epoch, seq LIMIT 1"
        rows = await self._reader.execute_fetchall(query)
        return next(((_number(epoch), _number(seq)) for epoch, seq in rows), None)

    async def knows(self, signal_id: str) -> bool:
        """Return whether a signal with this id is committed."""
        query = "SELECT EXISTS (SELECT 1 FROM signals WHERE id = ?)"
        rows = await self._reader.execute_fetchall(query, (signal_id,))
        return bool(next(iter(rows))[0])

    async def excess(self, table: str, keep: int) -> int:
        """Return how many rows a table has beyond ``keep``."""
        rows = await self._reader.execute_fetchall(f"SELECT count(*) FROM {table}")
        return max(0, int(next(iter(rows))[0]) - keep)

    async def remove_oldest(self, table: str, count: int, before_wall_ns: int | None) -> int:
        """Remove the ``count`` oldest rows of a table, or of them those up to a time.

        The newest event of a kind that lasts is written once more instead.

        Returns:
            Rows removed.
        """
        order, age = _ORDER[table], _AGE_COLUMN[table]
        oldest = f"FROM {table} ORDER BY {order} LIMIT ?"
        statement = f"DELETE FROM {table} WHERE ({order}) IN (SELECT {order} {oldest})"
        try:
            if before_wall_ns is not None:
                # A clock may have been set back: what lies between younger rows stays.
                ages = await self.writer.execute_fetchall(f"SELECT {age} {oldest}", (count,))
                count = sum(1 for _ in takewhile(lambda row: row[0] < before_wall_ns, ages))
            if table == "events":
                await self.writer.execute(KEEP_LASTING, (count, LASTING))
            cursor = await self.writer.execute(statement, (count,))
            await self.writer.commit()
        except DAMAGED:
            await self._roll_back()
            raise
        return cursor.rowcount

    async def pages(self) -> tuple[int, int, int]:
        """Return the file's pages, how many of them are free, and the bytes of one."""
        found = []
        for name in ("page_count", "freelist_count", "page_size"):
            rows = await self.writer.execute_fetchall(f"PRAGMA {name}")
            found.append(int(next(iter(rows))[0]))
        return found[0], found[1], found[2]

    async def give_back(self, pages: int) -> None:
        """Return at most ``pages`` free pages to the file system, in one transaction."""
        try:
            await self.writer.execute_fetchall(f"PRAGMA incremental_vacuum({pages})")
            await self.writer.commit()
        except DAMAGED:
            await self._roll_back()
            raise

    async def rebuild(self) -> None:
        """Write the whole file anew without free pages, and able to give pages back later.

        Takes as long as copying it, and as much disk again meanwhile.
        """
        await self.writer.rollback()
        await self._reader.close()
        # The setting takes effect by a VACUUM, and by that only outside WAL mode.
        for statement in (
            "PRAGMA journal_mode = DELETE",
            "PRAGMA auto_vacuum = INCREMENTAL",
            "VACUUM",
            "PRAGMA journal_mode = WAL",
        ):
            await self.writer.execute_fetchall(statement)
        self._reader = await aiosqlite.connect(read_uri(self.path), uri=True)

    async def last_event(self, kind: str) -> str | None:
        """Return the fields, as JSON, of the newest event of a kind."""
        query = "SELECT fields FROM events WHERE kind = ? ORDER BY row DESC LIMIT 1"
        rows = await self._reader.execute_fetchall(query, (kind,))
        return next((str(row[0]) for row in rows), None)

    async def newest_events(self, kind: str, limit: int) -> list[str]:
        """Return the fields, as JSON, of the newest events of a kind, oldest first."""
        rows = await self._reader.execute_fetchall(SELECT_EVENTS, (kind, limit))
        return [str(row[0]) for row in rows][::-1]

    async def reached(self) -> dict[int, tuple[int, int]]:
        """Return the epoch and next number that were reached in each gateway's stream."""
        rows = await self._reader.execute_fetchall(SELECT_REACHED)
        return {_number(one): (_number(epoch), _number(seq)) for one, epoch, seq in rows}

    async def decisions(
        self, epoch: int, from_seq: int, limit: int
    ) -> tuple[list[Decision], list[Decision]]:
        """Return the newest signals from a place on, and the newest that expired in a restart."""
        signals = await self._reader.execute_fetchall(SELECT_DECISIONS, (epoch, from_seq, limit))
        expired = await self._reader.execute_fetchall(SELECT_EXPIRED, (RESTART_GATE, limit))
        return self._decisions(signals), self._decisions(expired)

    def _decisions(self, rows: Iterable[sqlite3.Row]) -> list[Decision]:
        found = []
        for row in rows:
            if [type(value) for value in row] == [str, int, int, int]:
                found.append(Decision(*row))
            else:
                self.damaged_rows += 1
        return found

    async def close(self) -> None:
        """Close both connections and give up the lock."""
        try:
            await self._reader.close()
            await self.writer.close()
        finally:
            os.close(self._lock)

    async def _roll_back(self) -> None:
        try:
            await self.writer.rollback()
        except DAMAGED:
            return


async def _prepare(path: Path, writer: aiosqlite.Connection) -> None:
    rows = await writer.execute_fetchall("PRAGMA user_version")
    version = int(next(iter(rows))[0])
    if not 0 <= version <= VERSION:
        raise JournalError(f"{path}: journal version {version}; this engine writes {VERSION}")
    if version == 0:
        # Before the first table; a journal of an earlier version has it from its first compaction.
        await writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for setting in SETTINGS:
        await writer.execute(setting)
    if 0 < version < VERSION:
        await migrate(writer, version)
    statements = (s for s in SCHEMA.split(";") if s.strip())
    for statement in (*statements, f"PRAGMA user_version = {VERSION}"):
        await writer.execute(statement)
    await writer.commit()


def _number(value: object) -> int:
    """Return an epoch or a sequence number; a damaged page may hold anything in its place.

    Raises:
        sqlite3.DatabaseError: it is none.
    """
    if not isinstance(value, int) or not 0 <= value < _MOST_NUMBER:
        raise sqlite3.DatabaseError("a damaged page has no number where one belongs")
    return value
