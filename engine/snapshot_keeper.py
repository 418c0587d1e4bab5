"""Takes snapshots of a live engine: copies on the loop thread, writing in another.

A snapshot goes to disk only when the journal has everything that was decided before it: what the
snapshot holds as booked must never be missing in the journal.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from engine.checkpoint import CHECKPOINT, Checkpoints
from engine.core.errors import SnapshotError
from engine.ingest import Ingest
from engine.journal import Journal
from engine.snapshot import JournalPlace, RecordingPlace, Snapshot, StreamPlace
from engine.snapshot_file import SnapshotFiles

_log = logging.getLogger(__name__)
_NS_PER_S: Final = 1_000_000_000


class SnapshotKeeper:
    """Owned by the loop thread.

    Args:
        ingest: Whose state is kept.
        journal: Must have caught up before a snapshot is written.
        files: Where they go.
        identity: Returns what the configuration in force is; see ``identity_of``.
        session: The session that is recorded now.
        interval_ns: Between two snapshots.

    Attributes:
        counters: ``taken``, ``failed``; of the last one ``bytes``, ``copy_ns`` (on the loop
            thread) and ``write_ns``.
        last_error: Why the last one failed, "" if none did.
    """

    def __init__(
        self,
        ingest: Ingest,
        journal: Journal,
        files: SnapshotFiles,
        *,
        identity: Callable[[], str],
        session: int,
        interval_ns: int,
    ) -> None:
        self._ingest = ingest
        self._journal = journal
        self._files = files
        self._identity = identity
        self._session = session
        self._interval_ns = interval_ns
        self.counters: dict[str, int] = dict.fromkeys(
            ("taken", "failed", "bytes", "copy_ns", "write_ns"), 0
        )
        self.last_error = ""
        self._lock = asyncio.Lock()
        recorder = ingest.recorder
        self._checkpoints = Checkpoints(
            ingest.pipeline.kernel.plan, None if recorder is None else recorder.path
        )

    async def run(self) -> None:
        """Keep one now, and then one an interval, for ever."""
        while True:
            await self.keep()
            await asyncio.sleep(self._interval_ns / _NS_PER_S)

    async def keep(self) -> bool:
        """Take one and write it; False, counted and told, if that failed."""
        async with self._lock:
            return await self._keep()

    async def _keep(self) -> bool:
        try:
            began_ns = time.perf_counter_ns()
            snapshot = self.take()
            copied_ns = time.perf_counter_ns()
            await self._await_journal()
            if self._ingest.recorder is not None:
                self._ingest.recorder.flush()
            size, facts = await asyncio.to_thread(self._write, snapshot)
        except SnapshotError as error:
            self._fail(str(error))
            return False
        self._journal.append_event(CHECKPOINT, facts, snapshot.taken_ns)
        self._checkpoints.told(snapshot)
        self.counters["taken"] += 1
        self.counters["bytes"] = size
        self.counters["copy_ns"] = copied_ns - began_ns
        self.counters["write_ns"] = time.perf_counter_ns() - copied_ns
        self.last_error = ""
        return True

    def _write(self, snapshot: Snapshot) -> tuple[int, dict[str, Any]]:
        return self._files.write(snapshot), self._checkpoints.facts(snapshot)

    def take(self) -> Snapshot:
        """Return the state between two bursts.

        Raises:
            SnapshotError: a Python strategy cannot be kept.
        """
        ingest, journal = self._ingest, self._journal
        recorder = ingest.recorder
        place = None if recorder is None else recorder.place
        return Snapshot(
            taken_ns=time.time_ns(),
            kernel_key=ingest.pipeline.kernel.key,
            identity=self._identity(),
            streams=[
                StreamPlace(gateway, epoch, next_seq)
                for gateway, (epoch, next_seq) in ingest.decoder.expected().items()
            ],
            recording=None if place is None else RecordingPlace(self._session, *place),
            journal=JournalPlace(journal.epoch, journal.next_seq),
            pipeline=ingest.pipeline.export_state(),
        )

    def status(self) -> dict[str, Any]:
        """Return the counters and the last error."""
        return {**self.counters, "error": self.last_error}

    async def _await_journal(self) -> None:
        try:
            async with asyncio.timeout(self._interval_ns / _NS_PER_S):
                await self._journal.flush()
        except TimeoutError:
            raise SnapshotError("the journal did not take what was decided before it") from None

    def _fail(self, problem: str) -> None:
        self.counters["failed"] += 1
        if problem != self.last_error:
            self.last_error = problem
            _log.warning("no snapshot: %s", problem)
            self._ingest.pipeline.judge.sink.on_event("snapshot_failed", 0, {"reason": problem})
