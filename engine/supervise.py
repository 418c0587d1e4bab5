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
from pathlib import Path
from typing import Final

from engine.child import PARENT_VARIABLE, Child
from engine.exit_status import ExitStatus
from engine.notify import NotifyListener
from engine.restart_policy import RestartPolicy, RestartRule

LOOK_S: Final = 0.1
BOUND_S: Final = 1.0
_NS_PER_S: Final = 1_000_000_000
_PR_SET_PDEATHSIG: Final = 1
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


def _silent(line: str) -> None:
    return


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
