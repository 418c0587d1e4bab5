"""The engine of a run: ``heqis engine`` as a child, live, at work, and what it tells at the end."""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from engine.child import Child
from engine.client import SignalClient, Status
from engine.config import Config
from engine.config_text import config_toml
from engine.core.errors import CheckFailedError
from engine.notify import NotifyListener
from engine.readiness import ask_health
from feeds.control_desk import ControlDesk

START_S: Final = 300.0
"""Longest start of the engine: a small machine compiles the kernel for minutes, once."""
DRAIN_S: Final = 60.0
STILL_S: Final = 2.0
"""The engine is done when it has taken nothing for so long."""
POLL_S: Final = 0.05
STATUS_S: Final = 10.0
NS_PER_S: Final = 1_000_000_000


@contextlib.asynccontextmanager
async def running_engine(
    config: Config, directory: Path, desk: ControlDesk
) -> AsyncIterator[Child]:
    """Run ``heqis engine``; inside, it is live.

    Args:
        config: Its configuration.
        directory: Where its configuration and its log are written.
        desk: Answers it as its gateway.

    Raises:
        UserError: it ended because of something the user can mend.
        CheckFailedError: it ended otherwise, or was not ready in time.
    """
    file = directory / "engine.toml"
    file.write_text(config_toml(config), encoding="utf-8")
    command = [sys.executable, "-m", "engine.cli", "engine", "-c", str(file)]
    stop_s = config.engine.stop_timeout / NS_PER_S + 5.0
    engine = Child("engine", command, directory / "engine.log", stop_s)
    # A socket's path may have some hundred characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="heqis-") as near,
        NotifyListener(Path(near) / "notify") as listener,
    ):
        engine.listener = listener
        await engine.start()
        try:
            await _ready(engine, desk)
            yield engine
        finally:
            await engine.stop()


async def _ready(engine: Child, desk: ControlDesk) -> None:
    """Wait until the engine has said that it is ready, and has greeted its gateway."""
    deadline_s = time.monotonic() + START_S
    while not (engine.ready_ns and desk.peers):
        if not engine.running:
            raise engine.death()
        if time.monotonic() > deadline_s:
            raise CheckFailedError(f"the engine was not ready after {START_S:.0f} s")
        engine.look(time.monotonic_ns())
        await asyncio.sleep(POLL_S)


async def drained(port: int, ticks: int) -> int:
    """Wait until the engine has taken so many ticks, or takes no more; return how many.

    Args:
        port: Of its stream.
        ticks: Sent to it.
    """
    taken, since_s, began_s = 0, time.monotonic(), time.monotonic()
    while time.monotonic() - began_s < DRAIN_S:
        health = await ask_health("127.0.0.1", port)
        now_taken = int(health["ticks"]) if health is not None else taken
        if now_taken >= ticks:
            return now_taken
        if now_taken != taken:
            taken, since_s = now_taken, time.monotonic()
        if time.monotonic() - since_s > STILL_S:
            break
        await asyncio.sleep(POLL_S)
    return taken


def free_port() -> int:
    """Return a TCP port on loopback that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def read_status(url: str) -> Mapping[str, Any]:
    """Return an engine's counters, as the topic ``status`` tells them.

    Raises:
        CheckFailedError: it tells none.
    """
    try:
        async with asyncio.timeout(STATUS_S), SignalClient(url, topics=("status",)) as client:
            while True:
                item = await client.next_item()
                if isinstance(item, Status):
                    return item.status
    except TimeoutError:
        raise CheckFailedError(f"the engine told no status within {STATUS_S:.0f} s") from None


def last_end_ns(path: Path) -> int:
    """Return the end of the last interval of a latency log, its start if there is none."""
    lines = path.read_text(encoding="ascii").rpartition("\n")[0].splitlines()
    start = next(line for line in lines if line.startswith("#[StartTime:"))
    start_s = float(start.split()[1])
    spans = [line.split(",")[1:3] for line in lines if line.startswith("Tag=")]
    return int((start_s + max((float(a) + float(b) for a, b in spans), default=0.0)) * 1e9)
