"""The journal: what the engine decided, on disk, off the hot path.

Appending is one bounded queue away from the caller and never waits. One task writes what has
queued up in groups; a group that cannot be written stays queued, raises ``alarm`` and is tried
again. SQLite in WAL mode, ``synchronous=NORMAL``: a killed process loses nothing committed, a
power failure may lose the last groups, and neither leaves part of one.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from engine.core.errors import JournalError
from engine.core.signals import Refusal, Signal
from engine.journal_schema import Record, RefusalSampler, SampledRefusal, make_event
from engine.journal_store import JournalStore
from engine.stream_config import JournalConfig
from engine.stream_ring import SignalEntry, make_entry

COUNTERS: Final = (
    "appended", "committed", "commits", "known_again", "refusals", "refusals_sampled_out",
    "dropped", "refused_signals", "failures", "pruned",
)  # fmt: skip

NS_PER_S: Final = 1_000_000_000


class Journal:
    """The engine's journal; ``await open()`` before use, ``await close()`` at the end.

    Owned by the loop thread. Signals must come in sequence: ``epoch`` and ``next_seq`` say which
    is next. Bound: ``max_queued`` rows waiting, see ``JournalConfig.on_full``.

    Args:
        path: The SQLite file; its directory is created.
        config: Bounds and policies.
        on_halt: Called with the reason when a policy asks for the engine to halt; once until the
            alarm is over.
        wall_ns: The wall clock, nanoseconds.
    """

    def __init__(
        self,
        path: Path,
        config: JournalConfig,
        *,
        on_halt: Callable[[str], None] | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.epoch = 0
        self.next_seq = 0
        self.alarm: str | None = None
        """Why rows are not reaching the disk or finding room, None when all is well."""
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._config = config
        self._on_halt = on_halt
        self._wall_ns = wall_ns
        self._queue: deque[Record] = deque()
        self._sampler = RefusalSampler(config.refusals_first, config.refusals_every)
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._halted = False
        self._oldest: int | None = None
        self._store: JournalStore | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_prune_ns = 0

    async def open(self) -> Self:
        """Open the file and begin, or go on with, an epoch.

        Raises:
            JournalError: in use, not writable, or not a journal of this version.
        """
        store = await JournalStore.open(self.path, self._config.busy_timeout / NS_PER_S)
        try:
            self.epoch, self.next_seq = await store.begin_epoch(self._wall_ns())
            self._oldest, newest = await store.bounds(self.epoch)
        except sqlite3.Error as error:
            await store.close()
            raise JournalError(f"{self.path}: cannot be written: {error}") from error
        self.next_seq = max(self.next_seq, (newest or 0) + 1)
        self._store = store
        self._task = asyncio.create_task(self._write_forever(store), name="journal")
        return self

    async def close(self) -> None:
        """Write what is queued, mark the stop as clean and close the file.

        Raises:
            JournalError: rows could not be written in time; the stop then counts as unclean.
        """
        store, task = self._store, self._task
        if store is None or task is None:
            return
        try:
            async with asyncio.timeout(self._config.close_timeout / NS_PER_S):
                await self._empty.wait()
        except TimeoutError:
            self._raise_alarm("rows could not be written before the stop")
        task.cancel()
        await asyncio.wait([task])
        try:
            if not self._queue:
                await store.mark(self.epoch, self.next_seq, clean=True)
                await store.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self._raise_alarm(f"the stop could not be marked as clean: {error}")
        await store.close()
        self._store = self._task = None
        if self._queue:
            raise JournalError(f"{self.path}: closed with {len(self._queue)} rows not written")

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def queued(self) -> int:
        """Rows waiting for the disk."""
        return len(self._queue)

    @property
    def accepting(self) -> bool:
        """Whether a signal appended now has room."""
        return len(self._queue) < self._config.max_queued

    @property
    def oldest_seq(self) -> int:
        """Oldest sequence number of this epoch still kept; ``next_seq`` if there is none."""
        return self.next_seq if self._oldest is None else self._oldest

    def append_signal(self, signal: Signal) -> None:
        """Queue a signal.

        Raises:
            JournalError: the queue is full, and the signal must not be sent; or it is not the
                next of the epoch.
        """
        if signal.seq != self.next_seq or signal.epoch != self.epoch:
            raise JournalError(
                f"signal {signal.epoch}/{signal.seq}: {self.epoch}/{self.next_seq} is next"
            )
        if len(self._queue) >= self._config.max_queued:
            self.counters["refused_signals"] += 1
            self._overflow()
            raise JournalError(f"{self.path}: {len(self._queue)} rows wait for the disk")
        self.next_seq += 1
        self._append(signal)

    def append_refusal(self, refusal: Refusal) -> None:
        """Count a refusal, and queue it if sampling chooses it; dropped if there is no room."""
        self.counters["refusals"] += 1
        nth = self._sampler.count(refusal.reason)
        if nth is None:
            self.counters["refusals_sampled_out"] += 1
        else:
            self._append_lesser(SampledRefusal(refusal, nth))

    def append_event(self, kind: str, fields: Mapping[str, Any], ts: int) -> None:
        """Queue an event; ``ts`` is wall nanoseconds. Dropped, and counted, without room."""
        self._append_lesser(make_event(kind, fields, ts))

    async def flush(self) -> None:
        """Wait until everything appended so far is committed."""
        await self._empty.wait()

    async def read_signals(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        """Return at most ``limit`` committed signals of an epoch from ``from_seq`` on, in order.

        A first one later than ``from_seq`` means that those before are no longer kept, or not
        committed yet.

        Raises:
            JournalError: the journal cannot be read.
        """
        store = self._opened()
        try:
            return await store.page(epoch, from_seq, limit)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    async def read_published(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        """Return like ``read_signals``, then those that still wait for the disk.

        Live clients have seen these already; one that resumes need not miss them.

        Raises:
            JournalError: the journal cannot be read.
        """
        queued = self._queued(epoch, from_seq, limit)
        page = await self.read_signals(epoch, from_seq, limit)
        last = page[-1].seq if page else from_seq - 1
        later = [make_entry(signal) for signal in queued if signal.seq > last]
        return (page + later)[:limit]

    async def read_newest(self, limit: int) -> list[SignalEntry]:
        """Return the last ``limit`` committed signals, of any epoch, oldest first.

        Raises:
            JournalError: the journal cannot be read.
        """
        store = self._opened()
        try:
            return await store.newest(limit)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    async def known(self, signal_id: str) -> bool:
        """Return whether a signal with this id was appended, now or before a restart.

        Raises:
            JournalError: the journal cannot be read.
        """
        store = self._opened()
        if any(isinstance(r, Signal) and r.id == signal_id for r in self._queue):
            return True
        try:
            return await store.knows(signal_id)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error

    async def read_last_event(self, kind: str) -> dict[str, Any] | None:
        """Return the fields of the newest committed event of a kind, None without one.

        Raises:
            JournalError: the journal cannot be read.
        """
        try:
            fields = await self._opened().last_event(kind)
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error
        return None if fields is None else orjson.loads(fields)

    def _queued(self, epoch: int, from_seq: int, limit: int) -> list[Signal]:
        signals = (record for record in self._queue if isinstance(record, Signal))
        due = (s for s in signals if s.epoch == epoch and s.seq >= from_seq)
        return list(islice(due, limit))

    def _opened(self) -> JournalStore:
        if self._store is None:
            raise JournalError(f"{self.path}: the journal is not open")
        return self._store

    def _append(self, record: Record) -> None:
        self._queue.append(record)
        self.counters["appended"] += 1
        self._empty.clear()
        self._wake.set()

    def _append_lesser(self, record: Record) -> None:
        bound = self._config.max_queued
        halts = self._config.on_full == "halt"
        if len(self._queue) < (bound if halts else bound // 2):
            self._append(record)
            return
        self.counters["dropped"] += 1
        if halts:
            self._overflow()

    def _overflow(self) -> None:
        self._raise_alarm(f"{len(self._queue)} rows wait for the disk")
        self._ask_to_halt()

    def _raise_alarm(self, reason: str) -> None:
        self.alarm = f"{self.path}: {reason}"

    def _ask_to_halt(self) -> None:
        if self._on_halt is not None and not self._halted:
            self._halted = True
            self._on_halt(self.alarm or "journal")

    async def _write_forever(self, store: JournalStore) -> None:
        config = self._config
        while True:
            if not self._queue:
                self._empty.set()
                await self._wait_for_rows()
                await asyncio.sleep(config.commit_interval / NS_PER_S)
            await self._write_queued(store)
            await self._prune_if_due(store)

    async def _wait_for_rows(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(self._config.prune_interval / NS_PER_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write_queued(self, store: JournalStore) -> None:
        retry_ns = self._config.retry_min
        while self._queue:
            group = list(islice(self._queue, self._config.commit_rows))
            try:
                known = await store.commit(group)
            except (sqlite3.Error, OverflowError) as error:
                self._fail(error)
                await asyncio.sleep(retry_ns / NS_PER_S)
                retry_ns = min(2 * retry_ns, self._config.retry_max)
            else:
                self._written(group, known)
                retry_ns = self._config.retry_min

    def _written(self, group: list[Record], known: int) -> None:
        for _ in group:
            self._queue.popleft()
        self.counters["commits"] += 1
        self.counters["committed"] += len(group)
        self.counters["known_again"] += known
        self.alarm = None
        self._halted = False
        if self._oldest is None:
            self._oldest = next((r.seq for r in group if isinstance(r, Signal)), None)

    def _fail(self, error: Exception) -> None:
        self.counters["failures"] += 1
        self._raise_alarm(f"cannot be written: {error}")
        if self._config.on_failure == "halt":
            self._ask_to_halt()

    async def _prune_if_due(self, store: JournalStore) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._next_prune_ns:
            return
        self._next_prune_ns = now_ns + self._config.prune_interval
        config = self._config
        before = None if config.keep_age is None else self._wall_ns() - config.keep_age
        tables = {
            "signals": config.keep_signals,
            "refusals": config.keep_refusals,
            "events": config.keep_events,
        }
        try:
            for table, keep in tables.items():
                await self._prune(store, table, keep, before)
            self._oldest, _ = await store.bounds(self.epoch)
        except sqlite3.Error as error:
            self._fail(error)

    async def _prune(self, store: JournalStore, table: str, keep: int, before: int | None) -> None:
        """Remove what is too much or too old in small transactions, queued rows between them."""
        limit = self._config.prune_rows
        excess = await store.excess(table, keep)
        while excess > 0:
            removed = await store.remove_oldest(table, min(excess, limit), None)
            self.counters["pruned"] += removed
            excess -= limit
            await self._write_queued(store)
        removed = 0 if before is None else limit
        while removed >= limit:
            removed = await store.remove_oldest(table, limit, before)
            self.counters["pruned"] += removed
            await self._write_queued(store)
