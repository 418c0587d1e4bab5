"""Follows an engine's stream and shows it: a live view on a terminal, plain lines elsewhere."""

import asyncio
import time
from typing import Final

from rich.console import Console
from rich.live import Live

from engine.access import Access
from engine.client import Backoff, SignalClient
from engine.core.signals import Signal
from engine.view import render, signal_line, status_line
from engine.view_events import event_text
from engine.view_state import ViewState

REDRAW_S: Final = 0.25
"""Shortest time between two drawings."""
IDLE_REDRAW_S: Final = 1.0
"""Longest time between two drawings: what counts seconds goes on counting."""
STATUS_LINE_S: Final = 5.0
LONGEST_WAIT_S: Final = 1.0
"""Between two attempts to connect: somebody is looking."""


async def watch(
    url: str,
    console: Console,
    stop: asyncio.Event,
    *,
    note: str = "",
    plain: bool = False,
    access: Access | None = None,
) -> ViewState:
    """Show an engine until ``stop`` is set; connects, and reconnects, without end.

    Args:
        url: The stream, ``ws://host:port``.
        console: Where to show it.
        stop: Ends it.
        note: A line for the bottom of the view.
        plain: Print lines even on a terminal.
        access: Token and certificates, where the engine asks for such.

    Returns:
        What was known at the end.

    Raises:
        StreamError: there is something else at the address.
    """
    state = ViewState(url, time.monotonic(), note)
    client = SignalClient(
        url,
        topics=("signals", "status"),
        on_slow="conflate",
        backoff=Backoff(last_s=LONGEST_WAIT_S),
        access=access,
    )
    lines = plain or not console.is_terminal
    show = _print_status(state, console) if lines else _draw(state, console)
    read = _read(state, client, console if lines else None)
    tasks = [asyncio.create_task(work) for work in (read, show, stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
    return state


async def _read(state: ViewState, client: SignalClient, out: Console | None) -> None:
    async for item in client:
        noticed = state.noticed
        state.take(item, time.monotonic())
        if out is None:
            continue
        if isinstance(item, Signal):
            _print(out, signal_line(item))
        for event in reversed(list(state.events)[: state.noticed - noticed]):
            _print(out, f"models: {event_text(event)}")


async def _print_status(state: ViewState, console: Console) -> None:
    _print(console, f"waiting for the engine at {state.url}")
    while True:
        await asyncio.sleep(STATUS_LINE_S)
        now_s = time.monotonic()
        if state.status and not state.stale(now_s):
            _print(console, status_line(state))
        else:
            silent_s = state.silent_s(now_s)
            _print(console, f"waiting for the engine at {state.url}: {silent_s:.0f} s")


def _print(console: Console, line: str) -> None:
    console.file.write(f"{line}\n")
    console.file.flush()


async def _draw(state: ViewState, console: Console) -> None:
    """Redraw when something changed, at most every ``REDRAW_S``."""
    drawn: tuple[int, int, int] | None = None
    drawn_s = 0.0
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            now_s = time.monotonic()
            width, height = console.size
            shown = (state.changes, width, height)
            if shown != drawn or now_s - drawn_s >= IDLE_REDRAW_S:
                drawn, drawn_s = shown, now_s
                live.update(render(state, width, height, now_s), refresh=True)
            await asyncio.sleep(REDRAW_S)
