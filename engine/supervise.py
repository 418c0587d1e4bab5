"""Runs the processes of one machine as children: starts, watches, restarts and stops them.

Each child leads a process group of its own, so that Ctrl-C reaches only the supervisor, which then
stops the children one after the other. A child whose supervisor is gone is told by the kernel
(Linux) and stops as well.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.child_log import TAIL_LINES, ChildLog
from engine.core.errors import CheckFailedError, UserError
from engine.exit_status import ExitStatus
from engine.notify import NOTIFY_VARIABLE, WATCHDOG_VARIABLE, NotifyListener, without_manager
from engine.restart_policy import RestartPolicy, RestartRule

__all__ = ["PARENT_VARIABLE", "TAIL_LINES", "Child", "Supervisor", "Watching"]

PARENT_VARIABLE: Final = "HEQIS_SUPERVISOR"
"""Environment variable with the supervisor's process id."""
LOG_BYTES: Final = 16 << 20
ABORT_S: Final = 1.0
"""How long a child may take to say where it hangs, once its watchdog is out of patience."""
LOOK_S: Final = 0.1
BOUND_S: Final = 1.0
_NS_PER_S: Final = 1_000_000_000
_PR_SET_PDEATHSIG: Final = 1
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


def _silent(line: str) -> None:
    return


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
        """Return what to tell of its unexpected end, its last words included."""
        status = self.process.returncode if self.process is not None else None
        words = "\n".join(f"  {line}" for line in self.tail().splitlines())
        text = f"{self.name} {self.how()}; the end of {self.log}:\n{words}"
        return UserError(text) if status == ExitStatus.USER else CheckFailedError(text)


class Supervisor:
    """Owns the children of one ``heqis run``; to be used with ``running``.

    Args:
        children: In the order in which they are to be stopped; all are started at once.
        rule: How often an ended child is started again; by default never.
        say: Takes a line about what was done.

    Attributes:
        restarts: Children started again so far.
    """

    def __init__(
        self,
        children: Sequence[Child],
        rule: RestartRule | None = None,
        say: Say = _silent,
    ) -> None:
        self.children = list(children)
        self.restarts = 0
        self._policies = [RestartPolicy(rule or RestartRule(most=0)) for _ in self.children]
        self._say = say

    @property
    def ready(self) -> bool:
        """Whether every child does its work."""
        return all(child.running and child.ready_ns for child in self.children)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Supervisor"]:
        """Run the children around a block; all have ended when it is left."""
        directory = Path(tempfile.mkdtemp(prefix="heqis-"))
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            for child in self.children:
                listener = NotifyListener(directory / child.name)
                child.listener = stack.enter_context(listener)
            try:
                for child in self.children:
                    await child.start()
                yield self
            finally:
                for child in self.children:
                    await child.stop()

    async def watch(self) -> Child:
        """Keep every child running until one ends that is not to be started again.

        A child that was never ready and refuses its configuration is not started again, nor is one
        that ended because of its budget, nor one that ended too often.

        Returns:
            The child, if its end is no failure.

        Raises:
            UserError: it ended because of something the user can mend.
            CheckFailedError: it ended otherwise.
        """
        keeping = [
            asyncio.create_task(self._keep(child, policy))
            for child, policy in zip(self.children, self._policies, strict=True)
        ]
        try:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, child: Child, policy: RestartPolicy) -> Child:
        while True:
            await self._attend(child)
            status = child.process.returncode if child.process is not None else None
            if child.may_end and status == 0:
                return child
            final = status == ExitStatus.BUDGET or (
                status == ExitStatus.USER and not child.ready_ns and not policy.restarts
            )
            wait_ns = None if final else policy.wait_ns(child.ready_ns, time.monotonic_ns())
            if wait_ns is None:
                raise child.death()
            self._say(f"{child.name} {child.how()}; starting it again in {wait_ns / 1e9:.2f} s")
            await asyncio.sleep(wait_ns / _NS_PER_S)
            self.restarts += 1
            await child.start()

    async def _attend(self, child: Child) -> None:
        """Watch one process until it has ended, by itself or because it gave no sign of life."""
        assert child.process is not None
        ended = asyncio.create_task(child.process.wait())
        bounded_s = time.monotonic()
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=LOOK_S)
                now_ns = time.monotonic_ns()
                if wrong := child.look(now_ns):
                    await child.abort(wrong)
                if now_ns / _NS_PER_S - bounded_s >= BOUND_S:
                    bounded_s = now_ns / _NS_PER_S
                    child.file.bound()
        finally:
            ended.cancel()


def stop_on_signals(numbers: Sequence[signal.Signals] = _STOP_SIGNALS) -> asyncio.Event:
    """Return an event of the running loop that these signals set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    return stop


def on_hang_up(reload: Callable[[], None], stop: asyncio.Event) -> None:
    """Let SIGHUP mean "read your configuration anew", but where a terminal has gone: the end."""

    def hang_up() -> None:
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            stop.set()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


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
