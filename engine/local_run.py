"""Gateway and engine as children of one process on one machine, and what is shown of them."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from engine.access import Access
from engine.child import Child, Watching
from engine.config import Config
from engine.core.errors import CheckFailedError
from engine.notify import Notifier
from engine.readiness import wait_for_health
from engine.restart_policy import RestartRule
from engine.supervise import Supervisor, on_hang_up, stop_on_signals
from engine.view_state import ViewState
from engine.watch import watch

ANSWER_S: Final = 300.0
"""Longest start: a small machine compiles the kernel for minutes, once."""
HEALTHY_S: Final = 10.0
"""Longest wait for the first data after that."""
STOP_MARGIN_S: Final = 2.0
NS_PER_S: Final = 1e9

Say = Callable[[str], None]


FEED_S: Final = 0.25
"""Between two looks at whether our own service manager is to be told something."""


async def run_local(
    config: Config,
    files: Sequence[Path],
    logs: Path,
    *,
    view: bool,
    say: Say,
    notifier: Notifier | None = None,
) -> ViewState | None:
    """Run both processes until a signal to stop, or the source's end; both have ended on return.

    A process that dies, or gives no sign of life, is started again; SIGHUP is handed on to both,
    so that they read their configuration anew, unless a terminal goes away with it.

    Args:
        config: The configuration, loaded from ``files``.
        files: Its files, handed to the processes.
        logs: Directory of their logs.
        view: Whether to show the stream, or only to say when the engine is ready.
        say: Takes a line for the person who started it.
        notifier: Tells the service manager of this process, if it has one.

    Returns:
        What the view knew when it was stopped; None without one, or if the source ended.

    Raises:
        UserError: a process ended because of something the user can mend.
        CheckFailedError: a process died too often, or the engine never answered.
    """
    notifier = notifier or Notifier()
    stop = stop_on_signals((signal.SIGINT, signal.SIGTERM))
    supervisor = Supervisor(make_children(config, files, logs), restart_rule(config), say)
    _hand_on_hangups(supervisor, stop)
    async with supervisor.running():
        show = asyncio.create_task(_show(config, logs, stop, say, view=view))
        deaths = asyncio.create_task(supervisor.watch())
        telling = asyncio.create_task(_tell_manager(supervisor, notifier))
        try:
            await asyncio.wait((show, deaths), return_when=asyncio.FIRST_COMPLETED)
            if deaths.done():
                say(f"{deaths.result().name} came to its end")
                return None
            return show.result()
        finally:
            notifier.stopping("stopping gateway and engine")
            await _end(show, deaths, telling)
            say("stopping gateway and engine")


def make_children(config: Config, files: Sequence[Path], logs: Path) -> list[Child]:
    """Return the processes in the order in which they stop: the source of the data first."""
    options = [part for file in files for part in ("-c", str(file))]
    timeouts = {"gateway": config.gateway.stop_timeout, "engine": config.engine.stop_timeout}
    return [
        Child(
            name,
            [sys.executable, "-m", "engine.cli", name, *options],
            logs / f"{name}.log",
            timeout / NS_PER_S + STOP_MARGIN_S,
            may_end=name == "gateway",
            watching=Watching(config.supervision.watchdog, config.supervision.start_timeout),
            log_bytes=config.supervision.log_bytes,
        )
        for name, timeout in timeouts.items()
    ]


def restart_rule(config: Config) -> RestartRule:
    """Return how often a process that died is started again."""
    chosen = config.supervision
    return RestartRule(
        first_wait_ns=chosen.restart_wait,
        longest_wait_ns=chosen.restart_wait_most,
        healthy_ns=chosen.healthy_after,
        most=chosen.max_restarts,
        window_ns=chosen.restart_window,
    )


def _hand_on_hangups(supervisor: Supervisor, stop: asyncio.Event) -> None:
    def hand_on() -> None:
        for child in supervisor.children:
            child.tell(signal.SIGHUP)

    on_hang_up(hand_on, stop)


async def _tell_manager(supervisor: Supervisor, notifier: Notifier) -> None:
    """Tell our own service manager when all are ready, and then that this loop lives."""
    told = False
    while notifier.heard:
        await asyncio.sleep(FEED_S)
        if supervisor.ready and not told:
            told = notifier.ready("gateway and engine run")
        if told and notifier.watchdog_ns:
            notifier.feed()


def stream_url(config: Config, scheme: str = "ws") -> str:
    """Return where the engine's stream is, for this machine; TLS if it has a certificate."""
    host = stream_host(config)
    scheme = f"{scheme}s" if config.stream.tls is not None else scheme
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.stream.port}"


def stream_host(config: Config) -> str:
    """Return the address at which this machine reaches the stream."""
    host = config.stream.host
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def own_access(config: Config) -> Access:
    """Return how to reach one's own engine: its certificate is in its configuration."""
    tls = config.stream.tls
    return Access(os.environ.get("HEQIS_TOKEN"), own=None if tls is None else tls.certificate)


async def _show(
    config: Config, logs: Path, stop: asyncio.Event, say: Say, *, view: bool
) -> ViewState | None:
    if view:
        note = f"logs in {logs}/, Ctrl-C stops"
        url, access = stream_url(config), own_access(config)
        return await watch(url, Console(), stop, note=note, access=access)
    await _announce(config, logs, stop, say)
    return None


async def _announce(config: Config, logs: Path, stop: asyncio.Event, say: Say) -> None:
    ready = asyncio.create_task(_tell_ready(config, logs, say))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            await stopped
    finally:
        await _end(ready, stopped)


async def _tell_ready(config: Config, logs: Path, say: Say) -> None:
    began_s = time.monotonic()
    stream = config.stream
    health = await wait_for_health(
        stream_host(config),
        stream.port,
        answer_s=ANSWER_S,
        healthy_s=HEALTHY_S,
        tls=None if stream.tls is None else own_access(config).context(),
    )
    if health is None:
        raise CheckFailedError(f"the engine did not answer within {ANSWER_S:.0f} s; see {logs}/")
    problems = "; ".join(health.get("problems", []))
    state = f"running, but not healthy ({problems})" if problems else "ready"
    where = f"signals at {stream_url(config)}, health at {stream_url(config, 'http')}/health"
    say(f"{state} after {time.monotonic() - began_s:.1f} s: {where}, logs in {logs}/")


async def _end(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
