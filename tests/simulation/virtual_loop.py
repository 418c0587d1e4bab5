"""An event loop whose time is a number, and a process's share of it that can end at any moment."""

import asyncio
import contextvars
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from unittest import mock

START_NS: Final = 1_000_000_000_000
"""Of the monotonic clock."""
WALL_AT_START_NS: Final = 1_700_000_000_000_000_000
BASE_NS: Final = WALL_AT_START_NS - START_NS
MOST_TURNS_AN_INSTANT: Final = 5_000
_MOST_MADE: Final = 512


class NeverAtRestError(AssertionError):
    """The loop turned and turned, and no time passed."""


class Life:
    """One life of one simulated process: what it scheduled ends with it.

    Attributes:
        name: For the trace.
        context: In which everything of it runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.context = contextvars.copy_context()
        self.context.run(_OWNER.set, self)


_OWNER: contextvars.ContextVar[Life | None] = contextvars.ContextVar("owner", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Jumps to the next timer when nothing is left to do; owned by one simulated world.

    Attributes:
        now_ns: The monotonic time.
        turns: Turns so far.
        after_turn: Called after every turn.
    """

    _ready: deque[Any]
    _scheduled: list[Any]
    """The base class's own: handles that are due, and a heap of timers."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._clock_resolution = 1e-9
        self._dead: set[Life] = set()
        self._stopped: dict[Life, list[Any]] = {}
        self._instant = (START_NS, 0)
        self.now_ns = START_NS
        self.turns = 0
        self.after_turn: Callable[[], None] = lambda: None
        self._made: list[Any] = []
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now_ns / 1e9

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise NeverAtRestError("nothing is scheduled, and the end has not come")
        if timeout > 0:
            when_ns = math.ceil(self._scheduled[0]._when * 1e9)
            self.now_ns = max(self.now_ns + 1, when_ns)
        return []

    def _process_events(self, event_list: list[object]) -> None:
        return

    def _write_to_self(self) -> None:
        return

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc] # not in the stubs
        self.turns += 1
        at_ns, begun = self._instant
        if at_ns != self.now_ns:
            self._instant = (self.now_ns, self.turns)
        elif self.turns - begun > MOST_TURNS_AN_INSTANT:
            raise NeverAtRestError(f"{self.turns - begun} turns at {at_ns}")
        self.after_turn()

    def call_soon(  # type: ignore[override] # said more simply
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        self._withhold(handle)
        return handle

    def call_at(  # type: ignore[override] # said more simply
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self._withhold(handle)
        return handle

    def run_in_executor(  # type: ignore[override] # threads are simulated
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Do the work on a thread that is done a moment later."""
        done: asyncio.Future[Any] = self.create_future()
        self.call_later(100e-6, _settle, done, func, args)
        return done

    def kill(self, life: Life) -> None:
        """Let nothing of a life run any more."""
        self._stopped.pop(life, None)
        self._dead.add(life)
        handles: list[Any] = [*self._ready, *self._scheduled]
        for handle in handles:
            self._stop_if_dead(handle)
        self._scheduled = [h for h in self._scheduled if not h._cancelled]
        heapq.heapify(self._scheduled)
        self._timer_cancelled_count = 0

    def stop_life(self, life: Life) -> None:
        """Let nothing of a life run until it goes on."""
        if life in self._dead or life in self._stopped:
            return
        self._stopped[life] = []
        for handle in (*self._ready, *self._scheduled):
            self._withhold(handle)

    def go_on(self, life: Life) -> None:
        """Let a stopped life run what has become due, and the rest in its time."""
        for handle in self._stopped.pop(life, []):
            if handle._cancelled:
                continue
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(self._scheduled, handle)
            else:
                self._ready.append(handle)

    def unseen(self) -> BaseException | None:
        """Return the error of a task that ended with one, and nobody has looked."""
        for task in self._made:
            if task.done() and task._log_traceback:
                error: BaseException | None = task.exception()
                return error
        return None

    def bury(self) -> None:
        """End what is left of everybody, in whatever state it is; nothing of it counts any more."""
        for task in self._made:
            if not task.done():
                task._log_destroy_pending = False
                with suppress(BaseException):  # it was killed in the middle of whatever it did
                    task.get_coro().close()
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any
    ) -> "asyncio.Task[Any]":
        """Keep every task: one of a dead life would else run its ends when it is collected."""
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **kwargs)
        self._made.append(task)
        if len(self._made) > _MOST_MADE:
            error = self.unseen()
            if error is not None:
                raise error
            self._made = [one for one in self._made if not one.done()]
        return task

    def _withhold(self, handle: Any) -> None:
        """Keep what a dead or stopped life has scheduled from being run."""
        if not self._dead and not self._stopped:
            return
        self._stop_if_dead(handle)
        withheld = self._stopped.get(handle._context.get(_OWNER))
        if withheld is None or handle._cancelled:
            return
        withheld.append(handle)
        if isinstance(handle, asyncio.TimerHandle):
            self._scheduled = [one for one in self._scheduled if one is not handle]
            heapq.heapify(self._scheduled)
        else:
            self._ready.remove(handle)

    def _stop_if_dead(self, handle: Any) -> None:
        if self._dead and handle._context.get(_OWNER) in self._dead:
            handle._cancelled = True
            handle._callback = _nothing
            handle._args = ()


def _nothing() -> None:
    return


def _settle(done: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if done.cancelled():
        return
    try:
        done.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 # a thread's outcome, whatever it is
        done.set_exception(error)


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """Let every clock of this process show the loop's time."""

    def mono_ns(*_: object) -> int:
        return loop.now_ns

    clocks: dict[str, Any] = {
        "monotonic_ns": mono_ns,
        "perf_counter_ns": mono_ns,
        "clock_gettime_ns": mono_ns,
        "time_ns": lambda: loop.now_ns + BASE_NS,
        "time": lambda: (loop.now_ns + BASE_NS) / 1e9,
        "monotonic": lambda: loop.now_ns / 1e9,
        "perf_counter": lambda: loop.now_ns / 1e9,
    }
    with mock.patch.multiple(time, **clocks), mock.patch("latency.steady.BASE_NS", BASE_NS):
        yield
