"""Where batches run: at once on the loop thread, or on the one thread that owns a device.

A device's thread is handed at most two batches: one to run and one to go on with, so that the
device does not stand still while the loop reads the last answer. Each finished batch comes back by
one ``call_soon_threadsafe``. A call that does not return is given up by the loop, not by the
thread: its batch is abandoned, the device is lost, and it is back once the call is.
"""

import asyncio
import contextlib
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from engine.core.models import Floats, LoadedModel
from runtime.hosted import HostedModel
from runtime.latency_model import LatencyModel
from runtime.request_queue import Request

DEPTH: Final = 2
"""Batches a device's thread has at most, running or next."""
_CHECKS_A_TIMEOUT: Final = 8
_NS_PER_S: Final = 1_000_000_000
_WARM_UP_RUNS: Final = 5

Clock = Callable[[], int]
Result = TypeVar("Result")


class Job:
    """One batch on its way through an executor.

    The loop makes it, the executor's thread fills in the times and what came out, the loop reads
    it; handing it over orders these.

    Attributes:
        hosted: The model on its lane.
        loaded: What runs it; stays when the model is swapped meanwhile.
        requests: Whose windows are in the staging buffer, in the order of its rows.
        ok: For each request whether its window was there.
        bucket: Rows computed, at least as many.
        slot: Staging buffer used.
        handed_ns: When it was handed over.
        started_ns: When the run began; 0 before.
        finished_ns: When the run ended; 0 before.
        output: float32 (bucket, O); None if the run failed.
        error: What the run raised.
        abandoned: Given up: nobody waits for the answer.
    """

    __slots__ = (
        "abandoned", "bucket", "error", "finished_ns", "handed_ns", "hosted", "loaded", "ok",
        "output", "requests", "slot", "started_ns",
    )  # fmt: skip

    def __init__(
        self, hosted: HostedModel, requests: list[Request], bucket: int, slot: int
    ) -> None:
        self.hosted = hosted
        self.loaded = hosted.loaded
        self.requests = requests
        self.ok: Sequence[bool] = ()
        self.bucket = bucket
        self.slot = slot
        self.handed_ns = 0
        self.started_ns = 0
        self.finished_ns = 0
        self.output: Floats | None = None
        self.error: Exception | None = None
        self.abandoned = False


def run_job(job: Job, clock: Clock) -> None:
    """Run a batch on this thread; whatever the device's library raises is kept, not raised."""
    job.started_ns = clock()
    try:
        job.output = job.loaded.run(job.bucket, job.slot)
    except Exception as error:  # noqa: BLE001  # the device's guard: a library may raise anything
        job.error = error
    job.finished_ns = clock()


def learn_latency(
    loaded: LoadedModel, clock: Clock = time.monotonic_ns, runs: int = _WARM_UP_RUNS
) -> LatencyModel:
    """Time every bucket of a model; on the thread that owns it.

    The first run of a bucket is not counted, for it may pay for what later ones find made, and of
    the others only the median: one pause here would be believed for long.

    Raises:
        DeviceError: the device or its library failed.
    """
    latency = LatencyModel(loaded.buckets)
    for bucket in loaded.buckets:
        loaded.run(bucket)
        taken_ns = int(statistics.median(_timed(loaded, bucket, clock) for _ in range(runs)))
        for _ in range(runs):
            latency.observe(bucket, taken_ns)
    return latency


def _timed(loaded: LoadedModel, bucket: int, clock: Clock) -> int:
    began_ns = clock()
    loaded.run(bucket)
    return clock() - began_ns


class ExecutorEvents(Protocol):
    """Whom an executor tells, always on the loop thread."""

    def on_finish(self, job: Job) -> None:
        """Take back a batch that ran, or failed."""
        ...

    def on_lost(self, jobs: list[Job]) -> None:
        """Hear that a call did not return in time, and which batches went with it."""
        ...

    def on_return(self) -> None:
        """Hear that the call of a lost device has returned after all."""
        ...

    def on_tick(self) -> None:
        """Hear that time passed, or other work ended, while the device was busy."""
        ...


class Executor(Protocol):
    """What runs a device's batches; one lane each."""

    threaded: bool
    lost: bool
    """A call has not returned in time; nothing is taken until it does."""
    calls: int
    """Other work handed over by ``call`` and not done yet."""

    @property
    def in_flight(self) -> int:
        """Batches handed over and not yet back."""
        ...

    def start(self, loop: asyncio.AbstractEventLoop, events: ExecutorEvents) -> None:
        """Begin; what happens is told to ``events`` on this loop."""
        ...

    def put(self, job: Job) -> None:
        """Hand a batch over."""
        ...

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do other work on the thread that owns the device, in its turn."""
        ...

    async def close(self, timeout_s: float = 1.0) -> bool:
        """End; False if the thread still hangs."""
        ...


class Inline:
    """Runs everything at once on the loop thread; nothing is ever in flight.

    Args:
        clock: Monotonic, nanoseconds.
    """

    threaded = False
    lost = False
    calls = 0
    in_flight: Final = 0

    def __init__(self, clock: Clock = time.monotonic_ns) -> None:
        self._clock = clock
        self._events: ExecutorEvents | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None, events: ExecutorEvents) -> None:
        """Begin; the loop is not used."""
        self._events = events

    def put(self, job: Job) -> None:
        """Run a batch and tell of it before returning."""
        run_job(job, self._clock)
        if self._events is not None:
            self._events.on_finish(job)

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do the work here and now."""
        return work()

    async def close(self, timeout_s: float = 1.0) -> bool:
        """Do nothing, successfully."""
        return True


class DeviceThread:
    """The one thread that owns a device; the loop thread hands it work and watches it.

    Attributes:
        device: Its name.
        lost: A call has not returned within the timeout. The thread cannot be ended from outside,
            so there is never a second one for the device; when the call returns, it goes on.
        calls: Other work handed over and not done yet.
        hangs: Times it was lost.

    Args:
        device: As above.
        timeout_ns: How long one batch may take.
        clock: Monotonic, nanoseconds; called from both threads.
    """

    threaded = True

    def __init__(
        self, device: str, *, timeout_ns: int = _NS_PER_S, clock: Clock = time.monotonic_ns
    ) -> None:
        self.device = device
        self.lost = False
        self.calls = 0
        self.hangs = 0
        self._timeout_ns = timeout_ns
        self._clock = clock
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._jobs: deque[Job] = deque()
        self._abandoned = 0
        self._progress_ns = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: ExecutorEvents | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._work, name=f"device-{device}", daemon=True)

    @property
    def in_flight(self) -> int:
        """Batches handed over and not yet back."""
        return len(self._jobs)

    def start(self, loop: asyncio.AbstractEventLoop, events: ExecutorEvents) -> None:
        """Start the thread; once."""
        self._loop, self._events = loop, events
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hand a batch over; at most ``DEPTH`` at a time.

        Raises:
            RuntimeError: the thread has as many as it may, or is lost.
        """
        if self.lost or len(self._jobs) >= DEPTH:
            raise RuntimeError(f"{self.device}: a batch too many, or the device is lost")
        self._jobs.append(job)
        self._inbox.put(job)
        if self._timer is None:
            self._watch()

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do other work on the thread: load, probe, close. It is not watched: give up by timeout.

        Raises:
            Exception: whatever the work raised.
        """
        done: asyncio.Future[Result] = self._running_loop().create_future()
        self.calls += 1
        self._inbox.put((work, done))
        if self._timer is None:
            self._watch()
        return await done

    async def close(self, timeout_s: float = 1.0) -> bool:
        """End the thread after what it was handed; False if it still hangs after ``timeout_s``.

        What it hangs at is given up then, so that nobody waits for it.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is None:
            return True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, timeout_s)
        if not self._thread.is_alive():
            return True
        if self._jobs:
            self._lose()
        return False

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError(f"{self.device}: the thread was not started")
        return self._loop

    def _watch(self) -> None:
        delay_s = self._timeout_ns / _CHECKS_A_TIMEOUT / _NS_PER_S
        self._timer = self._running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._jobs and not self.calls:
            return
        if self._jobs:
            since_ns = max(self._jobs[0].handed_ns, self._progress_ns)
            if self._clock() - since_ns > self._timeout_ns:
                self._lose()
        if self._events is not None:
            self._events.on_tick()
        if self._timer is None:
            self._watch()

    def _lose(self) -> None:
        jobs = list(self._jobs)
        self._jobs.clear()
        for job in jobs:
            job.abandoned = True
        self._abandoned += len(jobs)
        self.lost = True
        self.hangs += 1
        if self._events is not None:
            self._events.on_lost(jobs)

    def _on_job(self, job: Job) -> None:
        self._progress_ns = self._clock()
        if self._events is None:
            return
        if not job.abandoned:
            self._jobs.popleft()
            self._events.on_finish(job)
            return
        self._abandoned -= 1
        # The second may have begun before it was given up: its buffers are in use until it is back.
        if self.lost and not self._abandoned:
            self.lost = False
            self._events.on_return()

    def _on_call(
        self, done: asyncio.Future[Any], result: object, error: BaseException | None
    ) -> None:
        self._progress_ns = self._clock()
        self.calls -= 1
        if not done.done():
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)
        if self._events is not None:
            self._events.on_tick()

    def _work(self) -> None:
        """Be the thread."""
        loop, inbox, clock = self._running_loop(), self._inbox, self._clock
        try:
            while (item := inbox.get()) is not None:
                if isinstance(item, Job):
                    if not item.abandoned:
                        run_job(item, clock)
                    loop.call_soon_threadsafe(self._on_job, item)
                else:
                    loop.call_soon_threadsafe(self._on_call, item[1], *_outcome(item[0]))
                del item
        except RuntimeError:
            return  # the loop is closed: nobody is left to tell


async def run_apart(work: Callable[[], Result]) -> Result:
    """Do work on a thread of its own, which ends with it and keeps no process from ending.

    Raises:
        Exception: whatever the work raised.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def act() -> None:
        outcome = _outcome(work)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=act, name="loading", daemon=True).start()
    return await done


def _outcome(work: Callable[[], object]) -> tuple[object, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001  # the device's guard: told to whoever asked
        return None, error
