"""Writes the journal's queued rows to the disk in groups, and notices when they do not get there.

A group that cannot be written stays queued, raises the alarm and is tried again. So does a write
that does not come back, and a disk that is nearly full, whether or not there is anything to write.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from engine.core.signals import Refusal, Signal
from engine.journal_alarm import NS_PER_S, Cause, DiskState, JournalAlarm, StuckQueue, disk_problem
from engine.journal_retention import Retention
from engine.journal_schema import Record, SampledRefusal
from engine.journal_store import DAMAGED, JournalStore, disk_state
from engine.stream_config import JournalConfig

_log = logging.getLogger(__name__)

FAILED: Final = "journal_failed"
"""Kind of the event that tells, once rows reach the disk again, what kept them from it."""


def next_group(queue: Iterable[Record], rows: int) -> list[Record]:
    """Return what is to be committed together, oldest first.

    Signals of one tick are not parted, because a restart takes a tick for decided when a signal of
    it is journaled.

    Args:
        queue: All that waits.
        rows: So many, and whatever else belongs to the tick of the last signal among them.
    """
    waiting = iter(queue)
    group = list(islice(waiting, rows))
    last = next((record for record in reversed(group) if isinstance(record, Signal)), None)
    if last is None:
        return group
    more: list[Record] = []
    for record in waiting:
        more.append(record)
        told = record.refusal if isinstance(record, SampledRefusal) else record
        if not isinstance(told, Signal | Refusal):
            continue
        if (told.tick_epoch, told.tick_seq) != (last.tick_epoch, last.tick_seq):
            break
        group += more
        more.clear()
    return group


class JournalWriter:
    """The queue in front of one journal's file, and the tasks behind it; ``begin``, then ``end``.

    Owned by the loop thread.

    Attributes:
        queue: Rows that wait for the disk, oldest first.
        oldest_seq: Oldest sequence number of this epoch on the disk, None if there is none.

    Args:
        path: The journal's file.
        config: Bounds and policies.
        counters: Where it counts; shared with the journal.
        on_halt: Called with the reason when a policy asks for the engine to halt; once until the
            alarm is over.
        tell: Takes an event's kind and fields, to be put on record.
        wall_ns: The wall clock, nanoseconds.
    """

    def __init__(
        self,
        path: Path,
        config: JournalConfig,
        counters: dict[str, int],
        *,
        on_halt: Callable[[str], None] | None,
        tell: Callable[[str, dict[str, Any]], None],
        wall_ns: Callable[[], int],
    ) -> None:
        self.queue: deque[Record] = deque()
        self.oldest_seq: int | None = None
        self._path = path
        self._config = config
        self._counters = counters
        self._on_halt = on_halt
        self._tell = tell
        self._wall_ns = wall_ns
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._moved = asyncio.Event()
        self._halted = False
        self._epoch = 0
        self._retention: Retention | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._next_prune_ns = 0
        self._alarm = JournalAlarm(str(path), self._on_alarm, self._on_alarm_over)

    @property
    def alarm(self) -> str | None:
        """Why rows are not reaching the disk or finding room, None when all is well."""
        return self._alarm.reason

    def reconfigure(self, config: JournalConfig) -> None:
        """Go by other bounds from now on."""
        self._config = config
        if self._retention is not None:
            self._retention.reconfigure(config)

    def begin(self, store: JournalStore, epoch: int) -> None:
        """Begin to write to an open file, and to look after its disk."""
        self._epoch = epoch
        self._tasks = [
            asyncio.create_task(self._write_forever(store), name="journal"),
            asyncio.create_task(self._watch_forever(store), name="journal-watch"),
        ]

    async def end(self) -> None:
        """Write what is queued, if that can be done in time, and end the tasks."""
        try:
            async with asyncio.timeout(self._config.close_timeout / NS_PER_S):
                await self._empty.wait()
        except TimeoutError:
            self.raise_alarm(Cause.WRITE, "rows could not be written before the stop")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def flush(self) -> None:
        """Wait until everything appended so far is committed."""
        target = self._counters["appended"]
        while self._counters["committed"] < target:
            self._moved.clear()
            await self._moved.wait()

    def append(self, record: Record) -> None:
        """Queue a row; the caller has seen that there is room."""
        self.queue.append(record)
        self._counters["appended"] += 1
        self._empty.clear()
        self._wake.set()

    def overflow(self) -> None:
        """Say that the queue is full, and ask the engine to halt."""
        self.raise_alarm(Cause.QUEUE, f"{len(self.queue)} rows wait for the disk")
        self._ask_to_halt()

    def raise_alarm(self, cause: Cause, problem: str) -> None:
        """Say what is wrong."""
        self._alarm.begin(cause, problem, time.monotonic_ns())

    def _on_alarm(self, reason: str) -> None:
        self._counters["alarms"] += 1
        _log.error("journal: %s", reason)

    def _on_alarm_over(self, reason: str, cause: Cause, lasted_ns: int) -> None:
        """Put it on record, and let a later one halt the engine again."""
        self._halted = False
        _log.warning("journal: rows reach the disk again after %.1f s", lasted_ns / NS_PER_S)
        fields = {"reason": reason, "cause": cause.value, "lasted_s": lasted_ns / NS_PER_S}
        self._tell(FAILED, fields)

    def _ask_to_halt(self) -> None:
        if self._on_halt is not None and not self._halted:
            self._halted = True
            self._on_halt(self.alarm or "journal")

    async def _write_forever(self, store: JournalStore) -> None:
        write = partial(self._write_queued, store)
        retention = self._retention = Retention(store, self._config, write)
        while True:
            if not self.queue:
                self._empty.set()
                await self._wait_for_rows()
                await asyncio.sleep(self._config.commit_interval / NS_PER_S)
            await self._write_queued(store)
            await self._prune_if_due(store, retention)

    async def _wait_for_rows(self) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.prune_interval / NS_PER_S):
                await self._wake.wait()

    async def _write_queued(self, store: JournalStore) -> None:
        retry_ns = self._config.retry_min
        while self.queue:
            group = next_group(self.queue, self._config.commit_rows)
            try:
                known = await store.commit(group)
            except (*DAMAGED, OverflowError) as error:
                self._counters["failures"] += 1
                self._fail(Cause.WRITE, f"cannot be written: {error}")
                await asyncio.sleep(retry_ns / NS_PER_S)
                retry_ns = min(2 * retry_ns, self._config.retry_max)
            else:
                self._written(group, known)
                retry_ns = self._config.retry_min

    def _written(self, group: list[Record], known: int) -> None:
        for _ in group:
            self.queue.popleft()
        self._counters["commits"] += 1
        self._counters["committed"] += len(group)
        self._counters["known_again"] += known
        self._moved.set()
        if self.oldest_seq is None:
            self.oldest_seq = next((r.seq for r in group if isinstance(r, Signal)), None)
        if self.alarm is not None:
            now_ns = time.monotonic_ns()
            self._alarm.end(Cause.QUEUE, now_ns)
            self._alarm.end(Cause.WRITE, now_ns)

    def _fail(self, cause: Cause, problem: str) -> None:
        self.raise_alarm(cause, problem)
        if self._config.on_failure == "halt":
            self._ask_to_halt()

    async def _watch_forever(self, store: JournalStore) -> None:
        """Notice a disk that fills up or falls silent, whether or not there is a row to write."""
        stuck, loop = StuckQueue(), asyncio.get_running_loop()
        while True:
            asked_ns = time.monotonic_ns()
            asked = loop.run_in_executor(None, disk_state, self._path, store.inode)
            while True:
                await asyncio.sleep(self._config.check_interval / NS_PER_S)
                self._judge_queue(stuck)
                if asked.done():
                    break
                if time.monotonic_ns() - asked_ns >= self._config.slow_write:
                    self._judge_disk(None)
            self._judge_disk(asked.result())

    def _judge_queue(self, stuck: StuckQueue) -> None:
        now_ns = time.monotonic_ns()
        waited_ns = stuck.waited_ns(len(self.queue), self._counters["committed"], now_ns)
        late = waited_ns >= self._config.slow_write + self._config.commit_interval
        if late and not self._alarm.has(Cause.WRITE):
            self._fail(Cause.WRITE, f"nothing was written for {waited_ns / NS_PER_S:.1f} s")

    def _judge_disk(self, state: DiskState | None) -> None:
        problem = disk_problem(state, self._config.min_free_bytes)
        if problem is not None:
            self._fail(Cause.DISK, problem)
        elif self.alarm is not None:
            self._alarm.end(Cause.DISK, time.monotonic_ns())

    async def _prune_if_due(self, store: JournalStore, retention: Retention) -> None:
        if (now_ns := time.monotonic_ns()) < self._next_prune_ns:
            return
        self._next_prune_ns = now_ns + self._config.prune_interval
        try:
            await retention.apply(self._wall_ns())
            self.oldest_seq, _ = await store.bounds(self._epoch)
        except DAMAGED as error:
            self._counters["failures"] += 1
            self._fail(Cause.WRITE, f"cannot be pruned: {error}")
        self._counters["pruned"] = retention.pruned
        self._counters["freed_bytes"] = retention.freed_bytes
