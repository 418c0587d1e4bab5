"""Where trials run: in this process, or in several beside it; on a cluster, see ``ray_pool``.

A pool takes trials by number and gives outcomes in whatever order they are ready. Every place runs
the same bench, so it makes no difference to an outcome where it was made.
"""

import contextlib
import signal
from collections import deque
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, Protocol

from engine.core.errors import HeqisError
from replay.sweep.dimension import Scalar
from replay.sweep.parcel import Parcel, open_parcel
from replay.sweep.trial import Bench, Outcome, Task
from strategies.kernel_cache import share_modules

Wanted = tuple[int, dict[str, Scalar]]
"""A trial: its number and its parameters."""
MAX_DEATHS: Final = 8
"""Most workers in a row that end without an outcome."""
_TRIES: Final = 2
_STOP_S: Final = 5.0


class WorkersDiedError(HeqisError):
    """Workers end as often as they are started: it is not one trial's fault."""


class Pool(Protocol):
    """Runs trials; ``submit`` as many as wanted, ``take`` until all have come back."""

    size: int

    def submit(self, wanted: Wanted) -> None:
        """Queue a trial."""

    def take(self) -> list[Outcome]:
        """Wait until at least one outcome is ready; return all that are."""

    def close(self) -> None:
        """End the workers; what they were at is lost."""


class InlinePool:
    """One trial after the other, in this process."""

    def __init__(self, task: Task, recording: Any) -> None:
        self.size = 1
        self._bench = Bench(task, recording)
        self._queue: deque[Wanted] = deque()

    def submit(self, wanted: Wanted) -> None:
        """Queue a trial."""
        self._queue.append(wanted)

    def take(self) -> list[Outcome]:
        """Run the next one."""
        return [self._bench.run(*self._queue.popleft())]

    def close(self) -> None:
        """Forget what is queued, and the kernels."""
        self._queue.clear()
        share_modules(shared=False)


class ProcessPool:
    """Worker processes on this machine; they all look at one copy of the recording.

    A worker that dies, killed for its memory perhaps, is replaced, and its trial is tried again in
    another; a trial that costs two workers is an outcome with that error.

    Args:
        task: What to run.
        recording: What it plays, loaded.
        size: How many workers.
    """

    def __init__(self, task: Task, recording: Any, size: int) -> None:
        self.size = size
        self._task = task
        self._parcel = Parcel(recording)
        self._queue: deque[Wanted] = deque()
        self._tries: dict[int, int] = {}
        self._deaths = 0
        self._workers = [self._start() for _ in range(size)]

    def submit(self, wanted: Wanted) -> None:
        """Queue a trial, or give it to a worker that has nothing to do."""
        self._queue.append(wanted)
        self._feed()

    def take(self) -> list[Outcome]:
        """Wait for workers.

        Raises:
            WorkersDiedError: they keep dying.
        """
        outcomes: list[Outcome] = []
        while not outcomes:
            ready = wait([worker.connection for worker in self._workers])
            for at, worker in enumerate(self._workers):
                if worker.connection in ready:
                    outcomes += self._hear(at, worker)
            self._feed()
        return outcomes

    def close(self) -> None:
        """Kill the workers: what they write nobody reads."""
        for worker in self._workers:
            worker.kill()
        self._parcel.close()

    def _start(self) -> "_Worker":
        return _Worker(self._task, self._parcel.path)

    def _feed(self) -> None:
        for worker in self._workers:
            if self._queue and worker.wanted is None:
                worker.give(self._queue.popleft())

    def _hear(self, at: int, worker: "_Worker") -> list[Outcome]:
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(at, worker)
        self._deaths = 0
        worker.wanted = None
        return [outcome]

    def _replace(self, at: int, worker: "_Worker") -> list[Outcome]:
        worker.kill()
        self._deaths += 1
        told = f"its worker ended with status {worker.process.exitcode}"
        if self._deaths > MAX_DEATHS:
            raise WorkersDiedError(
                f"{self._deaths} workers died one after the other; the last: {told}"
            )
        self._workers[at] = self._start()
        if worker.wanted is None:
            return []
        number, params = worker.wanted
        self._tries[number] = self._tries.get(number, 0) + 1
        if self._tries[number] < _TRIES:
            self._queue.appendleft(worker.wanted)
            return []
        return [Outcome(number, params, error=f"{told}, twice")]


class _Worker:
    """One process and the pipe to it; ``wanted`` is the trial it has, None if it has none."""

    def __init__(self, task: Task, parcel: Path) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.wanted: Wanted | None = None
        self.process: SpawnProcess = context.Process(
            target=serve, args=(theirs, task, parcel), name="heqis-sweep", daemon=True
        )
        told = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: this process says when
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, told)
        theirs.close()

    def give(self, wanted: Wanted) -> None:
        self.wanted = wanted
        with contextlib.suppress(OSError):  # it is dead, which whoever listens to it will see
            self.connection.send(wanted)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(_STOP_S)
        self.connection.close()


def serve(connection: "Connection[Any, Any]", task: Task, parcel: Path) -> None:
    """Be a worker: answer trials until the other end is closed.

    Args:
        connection: Takes ``Wanted``, gives ``Outcome``.
        task: What to run.
        parcel: Where the recording lies.
    """
    bench = Bench(task, open_parcel(parcel))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(bench.run(*connection.recv()))
