"""The journal: what the engine decided, on disk, off the hot path.

Appending is one bounded queue away from the caller and never waits; what has queued up is written
in groups, see ``engine.journal_writer``. SQLite in WAL mode, ``synchronous=NORMAL``: a killed
process loses nothing committed, a power failure may lose the last groups, and neither leaves part
of one.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import orjson

from engine.core.errors import JournalError
from engine.core.signals import Refusal, Signal
from engine.journal_alarm import NS_PER_S, Cause
from engine.journal_schema import (
    COMMANDED,
    OPERATOR_STATE,
    Decision,
    Reached,
    Record,
    RefusalSampler,
    SampledRefusal,
    make_event,
)
from engine.journal_store import DAMAGED, JournalStore
from engine.journal_writer import JournalWriter
from engine.stream_config import JournalConfig
from engine.stream_ring import SignalEntry, make_entry

T = TypeVar("T")

COUNTERS: Final = (
    "appended", "committed", "commits", "known_again", "refusals", "refusals_sampled_out",
    "dropped", "dropped_commands", "refused_signals", "failures", "pruned", "alarms",
    "damaged_rows", "freed_bytes",
)  # fmt: skip


class Journal:
    """The engine's journal; ``await open()`` before use, ``await close()`` at the end.

    Owned by the loop thread. Signals must come in sequence: ``epoch`` and ``next_seq`` say which
    is next. Bound: ``max_queued`` rows waiting, see ``JournalConfig.on_full``, and one for a halt.

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
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._config = config
        self._wall_ns = wall_ns
        self._sampler = RefusalSampler(config.refusals_first, config.refusals_every)
        self._store: JournalStore | None = None
        self._writer = JournalWriter(
            path,
            config,
            self.counters,
            on_halt=on_halt,
            tell=lambda kind, fields: self.append_event(kind, fields, wall_ns()),
            wall_ns=wall_ns,
        )

    def reconfigure(self, config: JournalConfig) -> None:
        """Go by other bounds from now on; what the file was opened with stays as it was."""
        self._config = config
        self._writer.reconfigure(config)

    async def open(self) -> Self:
        """Open the file and begin, or go on with, an epoch.

        Raises:
            JournalError: in use, not writable, or not a journal of this version.
        """
        store = await JournalStore.open(self.path, self._config.busy_timeout / NS_PER_S)
        try:
            self.epoch, self.next_seq = await store.begin_epoch(self._wall_ns())
            self._writer.oldest_seq, newest = await store.bounds(self.epoch)
        except DAMAGED as error:
            await store.close()
            raise JournalError(f"{self.path}: cannot be written: {error}") from error
        self.next_seq = max(self.next_seq, (newest or 0) + 1)
        self._store = store
        self._writer.begin(store, self.epoch)
        return self

    async def close(self) -> None:
        """Write what is queued, mark the stop as clean and close the file.

        Raises:
            JournalError: rows could not be written in time; the stop then counts as unclean.
        """
        store = self._store
        if store is None:
            return
        await self._writer.end()
        try:
            if not self._writer.queue:
                await store.mark(self.epoch, self.next_seq, clean=True)
                await store.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except DAMAGED as error:
            self._writer.raise_alarm(Cause.WRITE, f"the stop could not be marked as clean: {error}")
        await store.close()
        self._store = None
        if self.queued:
            raise JournalError(f"{self.path}: closed with {self.queued} rows not written")

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
    def alarm(self) -> str | None:
        """Why rows are not reaching the disk or finding room, None when all is well."""
        return self._writer.alarm

    @property
    def queued(self) -> int:
        """Rows waiting for the disk."""
        return len(self._writer.queue)

    @property
    def accepting(self) -> bool:
        """Whether a signal appended now has room."""
        return len(self._writer.queue) < self._config.max_queued

    @property
    def oldest_seq(self) -> int:
        """Oldest sequence number of this epoch still kept; ``next_seq`` if there is none."""
        oldest_seq = self._writer.oldest_seq
        return self.next_seq if oldest_seq is None else oldest_seq

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
        if len(self._writer.queue) >= self._config.max_queued:
            self.counters["refused_signals"] += 1
            self._writer.overflow()
            raise JournalError(f"{self.path}: {len(self._writer.queue)} rows wait for the disk")
        self.next_seq += 1
        self._writer.append(signal)

    def append_refusal(self, refusal: Refusal) -> None:
        """Count a refusal, and queue it if sampling chooses it; dropped if there is no room."""
        self.counters["refusals"] += 1
        nth = self._sampler.count(refusal.reason)
        if nth is None:
            self.counters["refusals_sampled_out"] += 1
        else:
            self._append_lesser(SampledRefusal(refusal, nth))

    def append_expired(self, refusal: Refusal) -> None:
        """Queue the refusal of a signal that expired during a restart; sampling does not apply."""
        self.counters["refusals"] += 1
        nth = self._sampler.count(refusal.reason) or self._sampler.seen(refusal.reason)
        self._append_lesser(SampledRefusal(refusal, nth))

    def append_event(self, kind: str, fields: Mapping[str, Any], ts: int) -> None:
        """Queue an event; ``ts`` is wall nanoseconds. Dropped, and counted, without room.

        What was commanded has the room that signals have.
        """
        event = make_event(kind, fields, ts)
        commanded = kind in COMMANDED
        if commanded and self.accepting:
            self._writer.append(event)
        else:
            self.counters["dropped_commands"] += commanded
            self._append_lesser(event)

    def append_halt(self, fields: Mapping[str, Any], ts: int) -> None:
        """Queue what the risk gate allows from a fault on, an event of kind OPERATOR_STATE.

        There is room for one when there is none for anything else: a full queue may be the fault.
        """
        if len(self._writer.queue) <= self._config.max_queued:
            self._writer.append(make_event(OPERATOR_STATE, fields, ts))
        else:
            self.counters["dropped_commands"] += 1

    def append_reached(self, gateway: int, epoch: int, next_seq: int) -> bool:
        """Queue how far the engine has got in a gateway's stream; False if there is no room."""
        if len(self._writer.queue) >= self._config.max_queued // 2:
            return False
        self._writer.append(Reached(gateway, epoch, next_seq))
        return True

    async def flush(self) -> None:
        """Wait until everything appended so far is committed."""
        await self._writer.flush()

    async def read_signals(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        """Return at most ``limit`` committed signals of an epoch from ``from_seq`` on, in order.

        A first one later than ``from_seq`` means that those before are no longer kept, or not
        committed yet.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._read(self._opened().page(epoch, from_seq, limit))

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

    async def read_past(
        self, epoch: int, from_seq: int, before_epoch: int, limit: int
    ) -> list[SignalEntry]:
        """Return at most ``limit`` signals from a place on, of epochs before one, in order.

        All of them are committed, or lost: an epoch ends with the engine.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._read(self._opened().past(epoch, from_seq, before_epoch, limit))

    async def read_newest(self, limit: int) -> list[SignalEntry]:
        """Return the last ``limit`` committed signals, of any epoch, oldest first.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._read(self._opened().newest(limit))

    async def known(self, signal_id: str) -> bool:
        """Return whether a signal with this id was appended, now or before a restart.

        Raises:
            JournalError: the journal cannot be read.
        """
        store = self._opened()
        if any(isinstance(r, Signal) and r.id == signal_id for r in self._writer.queue):
            return True
        return await self._read(store.knows(signal_id))

    async def read_last_event(self, kind: str) -> dict[str, Any] | None:
        """Return the fields of the newest committed event of a kind, None without one.

        Raises:
            JournalError: the journal cannot be read.
        """
        fields = await self._read(self._opened().last_event(kind))
        return None if fields is None else orjson.loads(fields)

    async def read_fields(self, kind: str, limit: int) -> list[dict[str, Any]]:
        """Return the fields of the newest ``limit`` committed events of a kind, oldest first.

        Raises:
            JournalError: the journal cannot be read.
        """
        rows = await self._read(self._opened().newest_events(kind, limit))
        return [fields for fields in map(_object_of, rows) if fields is not None]

    async def read_decisions(
        self, epoch: int, from_seq: int, limit: int
    ) -> tuple[list[Decision], list[Decision]]:
        """Return the newest ``limit`` committed signals from a place on, and as many that expired.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._read(self._opened().decisions(epoch, from_seq, limit))

    async def read_reached(self) -> dict[int, tuple[int, int]]:
        """Return the epoch and next number that were reached in each gateway's stream.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._read(self._opened().reached())

    async def is_whole_from(self, epoch: int, seq: int) -> bool:
        """Return whether every signal journaled from a place on is still kept.

        Raises:
            JournalError: the journal cannot be read.
        """
        oldest = await self._read(self._opened().oldest())
        return oldest is None or oldest <= (epoch, seq) or oldest[1] == 1

    async def has(self, epoch: int, seq: int) -> bool:
        """Return whether a signal is committed.

        Raises:
            JournalError: the journal cannot be read.
        """
        return bool(await self.read_signals(epoch, seq, 1))

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            result = await reading
        except DAMAGED as error:
            raise JournalError(f"{self.path}: cannot be read: {error}") from error
        self.counters["damaged_rows"] = self._opened().damaged_rows
        return result

    def _queued(self, epoch: int, from_seq: int, limit: int) -> list[Signal]:
        signals = (record for record in self._writer.queue if isinstance(record, Signal))
        due = (s for s in signals if s.epoch == epoch and s.seq >= from_seq)
        return list(islice(due, limit))

    def _opened(self) -> JournalStore:
        if self._store is None:
            raise JournalError(f"{self.path}: the journal is not open")
        return self._store

    def _append_lesser(self, record: Record) -> None:
        bound = self._config.max_queued
        halts = self._config.on_full == "halt"
        if len(self._writer.queue) < (bound if halts else bound // 2):
            self._writer.append(record)
            return
        self.counters["dropped"] += 1
        if halts:
            self._writer.overflow()


def _object_of(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, None if a damaged row holds something else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
