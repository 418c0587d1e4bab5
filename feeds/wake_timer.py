"""Waits shorter than the loop's whole milliseconds, without polling: a Linux timer descriptor.

Where there is none, the loop's own timers are used, at their millisecond.
"""

import asyncio
import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC
_SECOND_NS: Final = 1_000_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class WakeTimer:
    """One timer of one task; made, used and closed on the running loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(self._libc, "timerfd_create"):
            self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._on_expired)

    def wake(self) -> None:
        """End the wait now, or the next one if none is under way."""
        self._event.set()

    async def wait(self, delay_ns: int) -> None:
        """Wait ``delay_ns``, at least one turn of the loop; ``wake`` ends it early."""
        if delay_ns <= 0:
            await asyncio.sleep(0)
            return
        if self._fd >= 0:
            self._arm(delay_ns)
            await self._event.wait()
        else:
            await self._wait_on_loop(delay_ns)
        self._event.clear()

    def close(self) -> None:
        """Give the descriptor back; closing twice does nothing."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, delay_ns: int) -> None:
        spec = _TimerSpec()
        spec.value.seconds, spec.value.nanoseconds = divmod(delay_ns, _SECOND_NS)
        if self._libc.timerfd_settime(self._fd, 0, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _on_expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._event.set()

    async def _wait_on_loop(self, delay_ns: int) -> None:
        try:
            async with asyncio.timeout(delay_ns / _SECOND_NS):
                await self._event.wait()
        except TimeoutError:
            return
