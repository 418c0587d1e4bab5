"""Runs the processes of one machine as children: starts them, notices deaths, stops them in order.

Each child leads a process group of its own, so that Ctrl-C reaches only the supervisor, which then
stops the children one after the other. A child whose supervisor is gone is told by the kernel
(Linux) and stops as well.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.core.errors import CheckFailedError, UserError

PARENT_VARIABLE: Final = "HEQIS_SUPERVISOR"
"""Environment variable with the supervisor's process id."""
TAIL_LINES: Final = 12
_TAIL_BYTES: Final = 16_384
_USER_ERROR: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Child:
    """One child process and its log.

    Attributes:
        name: What people call it.
        arguments: Command line.
        log: Where its stdout and stderr go; the log before is kept beside it as ``.1``.
        stop_timeout_s: How long it may take to stop before it is killed.
        may_end: Whether an end by itself, with status 0, is no failure.
        process: The process, once started.
    """

    name: str
    arguments: Sequence[str]
    log: Path
    stop_timeout_s: float
    may_end: bool = False
    process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start the process.

        Raises:
            UserError: its log cannot be written.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            if self.log.exists():
                self.log.replace(self.log.with_name(self.log.name + ".1"))
            with self.log.open("wb") as out:
                self.process = await asyncio.create_subprocess_exec(
                    *self.arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                    start_new_session=True,
                )
        except OSError as error:
            raise UserError(f"{self.log}: cannot be written: {error.strerror}") from error

    async def stop(self) -> bool:
        """Ask it to stop and wait; kill it if it does not.

        Returns:
            Whether it had stopped in time, or before.
        """
        process = self.process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False
        return True

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError as error:
            return f"({self.log} cannot be read: {error.strerror})"
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def death(self) -> UserError | CheckFailedError:
        """Return what to tell of its unexpected end, its last words included."""
        status = self.process.returncode if self.process is not None else None
        how = f"was killed by signal {-status}" if status and status < 0 else f"ended ({status})"
        words = "\n".join(f"  {line}" for line in self.tail().splitlines())
        text = f"{self.name} {how}; the end of {self.log}:\n{words}"
        return UserError(text) if status == _USER_ERROR else CheckFailedError(text)


class Supervisor:
    """Owns the children of one ``heqis run``; to be used with ``running``.

    Args:
        children: In the order in which they are to be stopped; all are started at once.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Supervisor"]:
        """Run the children around a block; all have ended when it is left."""
        try:
            for child in self.children:
                await child.start()
            yield self
        finally:
            for child in self.children:
                await child.stop()

    async def watch(self) -> Child:
        """Wait for a child to end by itself, which ends everything.

        The one place that decides what an end means: to start a child again, after a wait that
        grows, belongs here.

        Returns:
            The child, if its end is no failure.

        Raises:
            UserError: it ended because of something the user can mend.
            CheckFailedError: it ended otherwise.
        """
        waits = {
            asyncio.create_task(child.process.wait()): child
            for child in self.children
            if child.process is not None
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            child = waits[done.pop()]
            if child.may_end and child.process is not None and child.process.returncode == 0:
                return child
            raise child.death()
        finally:
            for task in waits:
                task.cancel()


def stop_on_signals() -> asyncio.Event:
    """Return an event of the running loop that SIGINT, SIGTERM and SIGHUP set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


def follow_supervisor() -> bool:
    """In a child: ask the kernel for SIGTERM when the supervisor dies, however it dies.

    Returns:
        Whether to go on: False if there was a supervisor and it is gone already.
    """
    supervisor = os.environ.pop(PARENT_VARIABLE, "")
    if not supervisor or not sys.platform.startswith("linux"):
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return str(os.getppid()) == supervisor
