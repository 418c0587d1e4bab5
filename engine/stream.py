"""The signal stream's server: sockets, timers and reads from the journal around ``StreamCore``."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin

from engine.core.errors import HeqisError, JournalError, StreamError
from engine.core.signals import Signal
from engine.stream_config import StreamConfig
from engine.stream_link import StreamConnection
from engine.stream_messages import CloseCode, GateState, Operate, Operated
from engine.stream_protocol import StreamCore
from engine.stream_ring import SignalEntry, SignalRing, make_entry
from engine.stream_session import Session, StallMeter

_log = logging.getLogger(__name__)
TOO_BIG: Final = 1009
"""Close code of the WebSocket library for a message above ``max_message_bytes``."""
NS_PER_S: Final = 1_000_000_000
LOGGER: Final = logging.getLogger("engine.stream.websockets")
LOGGER.addFilter(lambda record: record.msg != "opening handshake failed")
"""The library's own; a stranger's garbage is counted, and not a traceback in the log each time."""
BACKLOG: Final = 512
"""Connections the kernel holds for us while we are busy."""


class SignalStore(Protocol):
    """Where signals older than the ring are read from; the journal is one."""

    async def read_published(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        """Return what is kept of an epoch's signals from ``from_seq`` on, in order."""
        ...

    async def read_newest(self, limit: int) -> list[SignalEntry]:
        """Return the last signals of any epoch, oldest first."""
        ...


class Health(NamedTuple):
    """What ``GET /health`` answers: status 200 if ``good``, else 503, and the facts as JSON."""

    good: bool
    facts: Mapping[str, Any]


class SignalStream:
    """The WebSocket port; ``await start()``, then ``publish`` signals in sequence.

    Owned by the loop thread. No client can hold up ``publish`` or another client.

    Args:
        config: Where to listen, and the bounds.
        epoch: The stream's epoch.
        next_seq: Sequence number of the first signal that will be published.
        store: Where older signals are read from; without one they are gaps.
        health: Answers ``GET /health``.
        set_state: Carries out an operator's command on the risk gate; returns the state before.
        operate: Carries out a command about a model; returns what came of it, or raises a
            HeqisError.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        epoch: int,
        next_seq: int = 1,
        store: SignalStore | None = None,
        health: Callable[[], Health] | None = None,
        set_state: Callable[[GateState], GateState] | None = None,
        operate: Callable[[Operate], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._health = health
        ring = SignalRing(epoch, next_seq - 1, config.ring_signals, config.snapshot_keys)
        begin = None if operate is None else self._begin_command
        self._operate = operate
        self._core = StreamCore(config, ring, self._wake, self._wake_pager, set_state, begin)
        self._connections: dict[Session, tuple[StreamConnection, StallMeter]] = {}
        self._working = False
        self._page_wanted = asyncio.Event()
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Fill the ring from the store and listen.

        Raises:
            StreamError: the port cannot be listened on.
            JournalError: the store cannot be read.
        """
        self._loop = asyncio.get_running_loop()
        if self._store is not None:
            rows = await self._store.read_newest(self._config.ring_signals)
            self._core.ring.preload(rows)
        self._server = await self._listen()
        for work in (self._keep_time(), self._read_pages()):
            self._keep(work)

    async def stop(self) -> None:
        """Close every connection and the port; those that do not answer are cut off."""
        server, self._server = self._server, None
        if server is None:
            return
        for task in list(self._tasks):
            task.cancel()
        server.close(code=CloseCode.GOING_AWAY, reason="stopping")
        try:
            async with asyncio.timeout(self._config.close_timeout / NS_PER_S):
                await server.wait_closed()
        except TimeoutError:
            for connection, _ in self._connections.values():
                connection.transport.abort()
            await server.wait_closed()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            StreamError: it does not.
        """
        if self._server is None:
            raise StreamError("the stream is not listening")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def counters(self) -> dict[str, int]:
        """What happened so far, by name."""
        return self._core.counters

    @property
    def clients(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def next_seq(self) -> int:
        """Sequence number of the next signal."""
        return self._core.ring.head + 1

    def publish(self, signal: Signal) -> None:
        """Send a signal to every client that asked for it; never waits.

        Raises:
            StreamError: not the next sequence number of the epoch.
        """
        self._core.publish(make_entry(signal))

    def rehearse(self, signal: Signal) -> None:
        """Encode a signal as ``publish`` does, and send it to nobody."""
        self._core.rehearse(make_entry(signal))

    def publish_status(self, status: dict[str, Any]) -> None:
        """Send the engine's state to every client that subscribed to it; never waits."""
        self._core.publish_status(status, time.time_ns())

    def _begin_command(self, message: Operate, answer: Callable[[Operated], None]) -> None:
        self._keep(self._carry_out(message, answer))

    async def _carry_out(self, message: Operate, answer: Callable[[Operated], None]) -> None:
        if self._operate is None:
            return
        try:
            answer(Operated(message.id, "", dict(await self._operate(message))))
        except HeqisError as error:
            answer(Operated(message.id, str(error), {}))
        except Exception as error:  # noqa: BLE001 - the operator waits for an answer
            _log.critical("a command failed", exc_info=True)
            answer(Operated(message.id, f"the engine failed: {type(error).__name__}: {error}", {}))

    async def _listen(self) -> Server:
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        try:
            listener = socket.create_server((config.host, config.port), family=family)
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise StreamError(f"cannot listen on {where}: {error.strerror}") from error
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, config.socket_buffer_bytes)
        return await serve(
            self._serve_client,
            sock=listener,
            backlog=BACKLOG,
            process_request=self._admit,
            origins=[None, *(Origin(origin) for origin in config.allowed_origins)],
            compression=None,
            server_header=None,
            open_timeout=config.open_timeout / NS_PER_S,
            ping_interval=config.ping_interval / NS_PER_S,
            ping_timeout=config.ping_timeout / NS_PER_S,
            close_timeout=config.close_timeout / NS_PER_S,
            max_size=config.max_message_bytes,
            write_limit=config.send_buffer_bytes,
            logger=LOGGER,
            create_connection=self._make_connection,  # type: ignore[arg-type] # only ever called
        )

    def _make_connection(self, *args: Any, **kwargs: Any) -> StreamConnection:
        connection = StreamConnection(*args, **kwargs)
        connection.on_failed = self._count_failed_handshake
        return connection

    def _count_failed_handshake(self) -> None:
        self.counters["handshakes_failed"] += 1

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decide on a request before it becomes a connection: the one place for authentication."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return self._answer_health()
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "no such page\n")
        if len(self._connections) >= self._config.max_connections:
            self.counters["refused_connections"] += 1
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    def _answer_health(self) -> Response:
        health = Health(True, {}) if self._health is None else self._health()
        status = HTTPStatus.OK if health.good else HTTPStatus.SERVICE_UNAVAILABLE
        body = orjson.dumps(dict(health.facts), default=str)
        headers = Headers(
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Connection", "close"),
            ]
        )
        return Response(status, status.phrase, headers, body)

    async def _serve_client(self, connection: ServerConnection) -> None:
        if not isinstance(connection, StreamConnection):
            raise StreamError("the server made a connection of another kind")
        now_ns = time.monotonic_ns()
        connection.on_shut = lambda code, reason: self._shut(connection, code, reason)
        session = self._core.connect(connection, now_ns)
        connection.on_room = lambda: self._core.resume(session)
        self._connections[session] = (connection, StallMeter(now_ns))
        try:
            while True:
                data = await connection.recv(decode=False)
                self._core.receive(session, data, time.monotonic_ns(), time.time_ns())
        except ConnectionClosed as closed:
            too_big = closed.sent is not None and closed.sent.code == TOO_BIG
            self.counters["oversize_messages"] += too_big
        finally:
            self._core.disconnect(session)
            del self._connections[session]

    def _shut(self, connection: StreamConnection, code: int, reason: str) -> None:
        self._keep(self._close(connection, code, reason))

    async def _close(self, connection: StreamConnection, code: int, reason: str) -> None:
        """Close with a reason; by force if the client does not take it."""
        try:
            async with asyncio.timeout(self._config.close_timeout / NS_PER_S):
                await connection.close(code, reason)
        except TimeoutError:
            connection.transport.abort()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        if not self._working and self._loop is not None:
            self._working = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Serve a bounded amount of catching up, then let the loop do something else."""
        self._working = False
        if self._core.work(self._config.turn_signals):
            self._wake()

    def _wake_pager(self) -> None:
        self._page_wanted.set()

    async def _read_pages(self) -> None:
        """Read pages for clients that ask for what is older than the ring, one at a time."""
        while True:
            await self._page_wanted.wait()
            self._page_wanted.clear()
            while (request := self._core.next_page()) is not None:
                page = await self._read_page(request.epoch, request.from_seq)
                self._core.take_page(request, page)

    async def _read_page(self, epoch: int, from_seq: int) -> list[SignalEntry]:
        if self._store is None:
            await asyncio.sleep(0)
            return []
        try:
            return await self._store.read_published(epoch, from_seq, self._config.page_rows)
        except JournalError:
            self.counters["page_errors"] += 1
            return []

    async def _keep_time(self) -> None:
        """Send heartbeats, and part with clients that fell too far behind or stopped reading."""
        next_ns = time.monotonic_ns() + self._config.heartbeat_interval
        while True:
            await asyncio.sleep(self._config.check_interval / NS_PER_S)
            now_ns = time.monotonic_ns()
            self._core.check_lag()
            self._cut_off_stalled(now_ns)
            if now_ns >= next_ns:
                next_ns = now_ns + self._config.heartbeat_interval
                self._core.heartbeat(time.time_ns())

    def _cut_off_stalled(self, now_ns: int) -> None:
        for connection, meter in self._connections.values():
            buffered_bytes = connection.buffered_bytes
            stalled_ns = meter.stalled_ns(connection.handed_bytes, buffered_bytes, now_ns)
            if stalled_ns >= self._config.stall_timeout and not connection.transport.is_closing():
                self.counters["evicted_stalled"] += 1
                connection.transport.abort()
