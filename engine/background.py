"""Tasks beside the duty cycle, each ended with its owner; one that fails is told, not lost."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


class Background:
    """Starts tasks on the running loop; owned by the loop thread.

    Args:
        failures: Gets the text of each task that ended by itself with an error.
    """

    def __init__(self, failures: list[str]) -> None:
        self._failures = failures
        self._asked: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None], stack: contextlib.AsyncExitStack) -> None:
        """Run a coroutine until the stack is unwound."""
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._on_end)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)

    def start_rounds(
        self, interval_s: float, act: Callable[[], None], stack: contextlib.AsyncExitStack
    ) -> None:
        """Do something again and again until the stack is unwound."""
        self.start(_every(interval_s, act), stack)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end; nobody waits for it."""
        task = asyncio.create_task(coroutine)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        """Tell of a task that ended by itself; trading goes on, health says so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", exc_info=error)
            self._failures.append(f"{type(error).__name__}: {error}")


async def _every(interval_s: float, act: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        act()
