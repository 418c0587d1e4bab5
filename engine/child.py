"""One process of ours run as a child: started, listened to, told to stop, and its log.

It leads a process group of its own, so that Ctrl-C reaches only the supervisor.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.child_log import ChildLog
from engine.core.errors import BudgetSpentError, CheckFailedError, UserError
from engine.exit_status import ExitStatus
from engine.notify import NOTIFY_VARIABLE, WATCHDOG_VARIABLE, NotifyListener, without_manager

PARENT_VARIABLE: Final = "HEQIS_SUPERVISOR"
"""Environment variable with the supervisor's process id."""
LOG_BYTES: Final = 16 << 20
ABORT_S: Final = 1.0
"""How long a child may take to say where it hangs, once its watchdog is out of patience."""
_NS_PER_S: Final = 1_000_000_000
_DEATHS: Final[dict[int | None, type[UserError | CheckFailedError]]] = {
    ExitStatus.USER: UserError,
    ExitStatus.BUDGET: BudgetSpentError,
}


@dataclass(frozen=True, slots=True)
class Watching:
    """What a child owes its supervisor.

    Attributes:
        watchdog_ns: Longest time between two signs of life once it is ready; 0: none are asked.
        start_ns: Longest time until it is ready; asked only of those that owe signs of life.
    """

    watchdog_ns: int = 0
    start_ns: int = 600 * _NS_PER_S


@dataclass(slots=True)
class Child:
    """One child process and its log.

    Attributes:
        name: What people call it.
        arguments: Command line.
        log: Where its stdout and stderr go; the log before is kept beside it as ``.1``.
        stop_timeout_s: How long it may take to stop before it is killed.
        may_end: Whether an end by itself, with status 0, is no failure.
        watching: What it owes.
        log_bytes: Size at which its log begins anew.
        process: The process, once started.
        listener: Hears what it says of itself.
        ready_ns: When it said that it is ready, monotonic; 0 before.
        started_ns: When it was started, monotonic.
        overdue: Why it was ended by its supervisor, "" if it was not.
    """

    name: str
    arguments: Sequence[str]
    log: Path
    stop_timeout_s: float
    may_end: bool = False
    watching: Watching = Watching()
    log_bytes: int = LOG_BYTES
    process: asyncio.subprocess.Process | None = field(default=None)
    listener: NotifyListener | None = None
    ready_ns: int = 0
    started_ns: int = 0
    overdue: str = ""
    _file: ChildLog | None = None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.returncode is None

    @property
    def file(self) -> ChildLog:
        """Its log."""
        if self._file is None:
            self._file = ChildLog(self.log, self.log_bytes)
        return self._file

    async def start(self) -> None:
        """Start the process.

        Raises:
            UserError: its log cannot be written.
        """
        self.ready_ns, self.overdue = 0, ""
        self.started_ns = time.monotonic_ns()
        if self.listener is not None:
            self.listener.take(self.started_ns)
            self.listener.reset()
        try:
            with self.file.open() as out:
                self.process = await asyncio.create_subprocess_exec(
                    *self.arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=self._environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise UserError(f"{self.log}: cannot be written: {error.strerror}") from error

    def _environment(self) -> dict[str, str]:
        environ = {**without_manager(os.environ), PARENT_VARIABLE: str(os.getpid())}
        if self.listener is not None:
            environ[NOTIFY_VARIABLE] = str(self.listener.path)
            if self.watching.watchdog_ns:
                environ[WATCHDOG_VARIABLE] = str(self.watching.watchdog_ns // 1_000)
        return environ

    async def stop(self) -> bool:
        """Ask it to stop and wait; kill it if it does not.

        Returns:
            Whether it had stopped in time, or before.
        """
        return await self._end(signal.SIGTERM, self.stop_timeout_s)

    async def abort(self, why: str) -> None:
        """End one that gives no sign of life; it has a moment to log where it hangs."""
        self.overdue = why
        await self._end(signal.SIGABRT, ABORT_S)

    async def _end(self, number: signal.Signals, patience_s: float) -> bool:
        process = self.process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(patience_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False
        return True

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def look(self, now_ns: int) -> str:
        """Hear what it said; return what is wrong with it, "" if nothing is."""
        listener, owed = self.listener, self.watching
        if listener is None or not self.running:
            return ""
        listener.take(now_ns)
        if listener.is_ready and not self.ready_ns:
            self.ready_ns = now_ns
        if listener.is_stopping or not owed.watchdog_ns:
            return ""
        if not listener.is_ready:
            late = now_ns > max(self.started_ns + owed.start_ns, listener.extended_ns)
            return (
                f"was not ready after {(now_ns - self.started_ns) / _NS_PER_S:.0f} s"
                if late
                else ""
            )
        if now_ns - listener.fed_ns > owed.watchdog_ns:
            return f"gave no sign of life for {(now_ns - listener.fed_ns) / _NS_PER_S:.1f} s"
        return ""

    def tail(self) -> str:
        """Return the last lines of its log."""
        return self.file.tail()

    def how(self) -> str:
        """Return how it ended."""
        status = self.process.returncode if self.process is not None else None
        how = f"was killed by signal {-status}" if status and status < 0 else f"ended ({status})"
        return f"{self.overdue} and {how}" if self.overdue else how

    def death(self) -> UserError | CheckFailedError:
        """Return what to tell of its unexpected end, its last words included.

        The supervisor ends with the child's own status where that says whose matter it is.
        """
        status = self.process.returncode if self.process is not None else None
        words = "\n".join(f"  {line}" for line in self.tail().splitlines())
        text = f"{self.name} {self.how()}; the end of {self.log}:\n{words}"
        return _DEATHS.get(status, CheckFailedError)(text)
