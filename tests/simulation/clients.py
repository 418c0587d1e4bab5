"""Clients of the signal stream: they connect, read, stop reading, drop and resume."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any, Final

from simulation.processes import SimStream
from simulation.virtual_loop import VirtualLoop
from websockets.exceptions import ConnectionClosedError

from engine.client_state import ClientState, Gap
from engine.core.errors import StreamError
from engine.core.signals import Signal
from engine.stream_auth import OPEN
from engine.stream_link import StreamConnection
from engine.stream_messages import Subscribe, encode

MS: Final = 1_000_000


class Connection(StreamConnection):
    """Stands for a WebSocket: the engine's end writes, the client reads when it likes.

    Attributes:
        pipe: Messages the client has not read.
        buffered: Their bytes.
        largest_bytes: The most that was handed over at once while there was room.
        most_messages: The most messages that were handed over at once.
        ended: Nothing goes either way any more.
    """

    def __init__(self, loop: VirtualLoop, write_limit: int, on_message: Callable[[], None]) -> None:
        self.ended = False
        self.handed_bytes = 0
        self.paused = False
        self.on_room = self.on_shut = self.on_failed = self.knock = None
        self.grant = OPEN
        self.cut_off = False
        self.transport: Any = SimpleNamespace(is_closing=lambda: self.ended, abort=self.end)
        self.pipe: deque[bytes] = deque()
        self.buffered = 0
        self.largest_bytes = 0
        self.most_messages = 0
        self.code = 0
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._sim_loop = loop
        self._limit = write_limit
        self._tell = on_message
        self._engine = contextvars.copy_context()

    def push(self, message: bytes) -> None:
        self.push_many([message])

    def push_many(self, messages: list[bytes]) -> None:
        if self.ended or not messages:
            return
        size = sum(map(len, messages))
        self.handed_bytes += size
        self.most_messages = max(self.most_messages, len(messages))
        if not self.paused:
            self.largest_bytes = max(self.largest_bytes, size)
        self.buffered += size
        self.pipe.extend(messages)
        self.paused = self.paused or self.buffered > self._limit
        self._tell()

    @property
    def buffered_bytes(self) -> int:
        return self.buffered

    def shut(self, code: int, reason: str) -> None:
        self.code = code
        self.end()

    def abort(self) -> None:
        self.cut_off = True
        self.end()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.end()

    async def recv(self, decode: bool | None = None) -> Any:
        message = await self.requests.get()
        if message is None:
            raise ConnectionClosedError(None, None)
        return message

    def release(self) -> None:
        return

    def read(self) -> list[bytes]:
        """Take all there is, by the client."""
        taken = list(self.pipe)
        self.pipe.clear()
        self.buffered = 0
        if self.paused:
            self.paused = False
            if self.on_room is not None and not self.ended:
                self._sim_loop.call_soon(self._room, context=self._engine)
        return taken

    def _room(self) -> None:
        if self.on_room is not None and not self.ended and not self.paused:
            self.on_room()

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._sim_loop.call_soon(self.requests.put_nowait, None, context=self._engine)
            self._tell()


class Client:
    """One client with a ``ClientState`` of its own; owned by the world.

    Attributes:
        stalled: It does not read.
        away: It does not connect.
        items: What its user was given, in order.
    """

    def __init__(
        self, name: str, loop: VirtualLoop, rng: Random, write_limit: int, wish: Subscribe
    ) -> None:
        self.name = name
        self.state = ClientState(wish)
        self.stalled = False
        self.away = False
        self.signals: list[Signal] = []
        self.gaps: list[Gap] = []
        self.on_item: Callable[[Client, Signal | Gap], None] = lambda client, item: None
        self.refusals: list[str] = []
        self._loop = loop
        self._rng = rng
        self._limit = write_limit
        self._connection: Connection | None = None
        self._reading = False
        self.connects = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.ended

    @property
    def lag(self) -> int:
        return 0 if self._connection is None else len(self._connection.pipe)

    def connect(self, stream: SimStream, engine: contextvars.Context) -> None:
        """Connect and subscribe where it left off."""
        if self.connected:
            return
        self.connects += 1
        made = engine.copy().run(Connection, self._loop, self._limit, self._on_message)
        self._connection = made
        self._loop.call_soon(stream.accept, made, context=made._engine)
        delay_s = self._rng.uniform(0.0001, 0.005)
        message = encode(self.state.subscribe())
        self._loop.call_later(delay_s, self._request, made, message, context=made._engine)

    def _request(self, connection: Connection, message: bytes) -> None:
        if not connection.ended:
            connection.requests.put_nowait(message)

    def drop(self) -> None:
        """Go without a word; what was not read is lost."""
        if self._connection is not None:
            self._connection.end()
            self._connection.pipe.clear()
            self._connection = None

    def go_on(self) -> None:
        self.stalled = False
        self._on_message()

    def _on_message(self) -> None:
        if not self._reading and not self.stalled:
            self._reading = True
            # Run for the client, whoever it is that writes.
            self._loop.call_later(
                self._rng.uniform(0.0001, 0.004), self._read, context=contextvars.Context()
            )

    def _read(self) -> None:
        self._reading = False
        connection = self._connection
        if connection is None or self.stalled:
            return
        for message in connection.read():
            try:
                items = self.state.receive(message)
            except StreamError as error:
                self.refusals.append(str(error))
                self.drop()
                return
            for item in items:
                if isinstance(item, Signal | Gap):
                    self._take(item)

    def _take(self, item: Signal | Gap) -> None:
        if isinstance(item, Signal):
            self.signals.append(item)
        else:
            self.gaps.append(item)
        self.on_item(self, item)
