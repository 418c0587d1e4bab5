"""Calls a recovery's turns when they are due: the loop and the clock around ``LinkRecovery``."""

import asyncio
import time
from collections.abc import Callable

Turn = Callable[[int], int | None]
"""Takes the monotonic time and returns when to be back, both in nanoseconds; None: when woken."""


class RecoveryTimer:
    """One pending call at most; owned by the loop thread.

    Args:
        turn: What to call.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Call soon."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._run)

    def close(self) -> None:
        """Call no more."""
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()

    def _run(self) -> None:
        self._soon = None
        if self._later is not None:
            self._later.cancel()
            self._later = None
        wait_ns = self._turn(time.monotonic_ns())
        if wait_ns == 0:
            self.wake()
        elif wait_ns is not None and self._soon is None:
            self._later = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._run)
