"""A real journal and a real stream on a free port, and clients that reach it over TCP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from stream_fakes import make_signal
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from engine.client import Backoff, Gap, SignalClient
from engine.core.signals import Signal
from engine.journal import Journal
from engine.stream import Health, SignalStream
from engine.stream_config import JournalConfig, StreamConfig


def run(work: Callable[[], Awaitable[None]], seconds: float = 40) -> None:
    """Run a test's coroutine on uvloop with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await work()

    uvloop.run(bounded())


class Rig:
    """Journals and publishes signals as the engine does."""

    def __init__(self, journal: Journal, stream: SignalStream) -> None:
        self.journal = journal
        self.stream = stream

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.stream.port}"

    def emit(self, count: int = 1, **fields: object) -> None:
        for _ in range(count):
            signal = make_signal(self.journal.epoch, self.journal.next_seq, **fields)
            self.journal.append_signal(signal)
            self.stream.publish(signal)

    def client(self, **options: object) -> SignalClient:
        backoff = Backoff(first_s=0.01, last_s=0.05)
        return SignalClient(self.url, backoff=backoff, **options)  # type: ignore[arg-type] # by name

    def connect(self) -> connect:
        return connect(self.url, compression=None, close_timeout=1)


@asynccontextmanager
async def rig(
    path: Path, health: Callable[[], Health] | None = None, **settings: object
) -> AsyncIterator[Rig]:
    """Open a journal at ``path`` and a stream on a free port, or on ``port``."""
    config = StreamConfig.model_validate({"port": 0, **settings})
    async with Journal(path, JournalConfig(commit_interval=1_000_000)) as journal:
        stream = SignalStream(
            config, epoch=journal.epoch, next_seq=journal.next_seq, store=journal, health=health
        )
        async with stream:
            yield Rig(journal, stream)


class Reader:
    """Reads a client in a task of its own and keeps what it yields."""

    def __init__(self, client: SignalClient) -> None:
        self.client = client
        self.seqs: list[int] = []
        self.gaps: list[Gap] = []
        self._moved = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for item in self.client:
            if isinstance(item, Signal):
                self.seqs.append(item.seq)
            elif isinstance(item, Gap):
                self.gaps.append(item)
            self._moved.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was read meets a condition."""
        while not condition():
            self._moved.clear()
            waiting = asyncio.create_task(self._moved.wait())
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if self._task.done():
                self._task.result()

    async def until_last(self, seq: int) -> None:
        await self.until(lambda: bool(self.seqs) and self.seqs[-1] >= seq)

    async def close(self) -> None:
        await self.client.aclose()
        await self._task


async def subscribed(client: SignalClient) -> Reader:
    """Start reading a client and wait until its subscription has begun."""
    reader = Reader(client)
    while client.position[1] is None:  # noqa: ASYNC110 - its first item may never come
        await asyncio.sleep(0.001)
    return reader


async def closed_with(connection: ClientConnection) -> int | None:
    """Read a connection to its end; return the close code."""
    try:
        async for _ in connection:
            pass
    except ConnectionClosedError as closed:
        return None if closed.rcvd is None else closed.rcvd.code
    return connection.close_code
