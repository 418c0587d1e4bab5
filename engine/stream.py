"""The signal stream's server: sockets, timers and reads from the journal around ``StreamCore``."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import replace
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidOrigin

from engine.core.errors import HeqisError, StreamError
from engine.core.signals import Signal
from engine.process import collect_young
from engine.stream_commands import Commands, OnForbidden
from engine.stream_config import StreamConfig
from engine.stream_door import Door
from engine.stream_link import StreamConnection
from engine.stream_messages import (
    CloseCode,
    DataGap,
    GateState,
    Operate,
    Operated,
    SetState,
    StateMessage,
)
from engine.stream_pacing import TurnQueue
from engine.stream_pages import PageReader, SignalStore
from engine.stream_port import open_port
from engine.stream_protocol import StreamCore
from engine.stream_reception import Health, Reception
from engine.stream_ring import SignalRing, make_entry
from engine.stream_session import Session, StallMeter

__all__ = ["Health", "SignalStore", "SignalStream"]

_log = logging.getLogger(__name__)
TOO_BIG: Final = 1009
"""Close code of the WebSocket library for a message above ``max_message_bytes``."""
NS_PER_S: Final = 1_000_000_000


class SignalStream:
    """The WebSocket port; ``await start()``, then ``publish`` signals in sequence.

    Owned by the loop thread. No client can hold up ``publish`` or another client.

    Args:
        config: Where to listen, and the bounds.
        epoch: The stream's epoch.
        next_seq: Sequence number of the first signal that will be published.
        store: Where older signals are read from; without one they are gaps.
        health: Answers ``GET /health``.
        set_state: Carries out a command on the risk gate, of the operator of a name, at once;
            returns the state before, and what waits until the command is on the disk and returns
            why it is not, "" if it is.
        operate: Carries out another command of the operator of a name; returns what came of it, or
            raises a HeqisError.
        on_forbidden: Is told who wanted to command what, and may not.

    Raises:
        ConfigError: tokens or certificate cannot be used.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        epoch: int,
        next_seq: int = 1,
        store: SignalStore | None = None,
        health: Callable[[], Health] | None = None,
        set_state: Callable[[GateState, str], tuple[GateState, Awaitable[str]]] | None = None,
        operate: Callable[[Operate, str], Awaitable[Mapping[str, Any]]] | None = None,
        on_forbidden: OnForbidden | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._health = health or _unknown_health
        ring = SignalRing(epoch, next_seq - 1, config.ring_signals, config.snapshot_keys)
        begin = None if operate is None else self._begin_command
        change = None if set_state is None else self._begin_change
        self._operate = operate
        self._set_state = set_state
        commands = Commands(change, begin, on_forbidden)
        self._core = StreamCore(config, ring, self._wake, self._wake_pager, commands)
        self._pages = PageReader(store, epoch, config.page_rows, self._core.counters)
        self._door = Door(config, self._core.counters)
        self._connections: dict[Session, tuple[StreamConnection, StallMeter]] = {}
        self._working = False
        self._data_gaps = 0
        self._page_wanted = asyncio.Event()
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = TurnQueue(config.turn_connections, self._call_soon, collect_young)

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
    def problems(self) -> list[str]:
        """What is wrong with tokens or certificate now."""
        return self._door.problems

    @property
    def clients(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def next_seq(self) -> int:
        """Sequence number of the next signal."""
        return self._core.ring.head + 1

    def reconfigure(self, config: StreamConfig) -> None:
        """Go by other bounds from now on; what is about the listening port stays as it was."""
        self._config = config
        self._core.reconfigure(config)
        self._pages.reconfigure(config.page_rows)

    def publish(self, signal: Signal) -> None:
        """Send a signal to every client that asked for it; never waits.

        Raises:
            StreamError: not the next sequence number of the epoch.
        """
        self._core.delivery.publish(make_entry(signal))

    def rehearse(self, signal: Signal) -> None:
        """Encode a signal as ``publish`` does, and send it to nobody."""
        self._core.delivery.rehearse(make_entry(signal))

    def publish_status(self, status: dict[str, Any]) -> None:
        """Send the engine's state to every client that subscribed to it; never waits."""
        self._core.publish_status(status, time.time_ns())

    def publish_data_gap(self, facts: Mapping[str, Any]) -> None:
        """Tell every client that asked for it of market data that did not come; never waits.

        Args:
            facts: Fields of a ``DataGap`` but for its time and number.
        """
        self._data_gaps += 1
        fields = {"reason": "", **facts}
        self._core.publish_data_gap(DataGap(time.time_ns(), self._data_gaps, **fields))

    def _begin_change(
        self, message: SetState, who: str, answer: Callable[[StateMessage], None]
    ) -> None:
        if self._set_state is None:
            return
        previous, kept = self._set_state(message.state, who)
        self._keep(self._confirm(StateMessage(message.id, message.state, previous), kept, answer))

    @staticmethod
    async def _confirm(
        message: StateMessage, kept: Awaitable[str], answer: Callable[[StateMessage], None]
    ) -> None:
        answer(replace(message, problem=await kept))

    def _begin_command(
        self, message: Operate, who: str, answer: Callable[[Operated], None]
    ) -> None:
        self._keep(self._carry_out(message, who, answer))

    async def _carry_out(
        self, message: Operate, who: str, answer: Callable[[Operated], None]
    ) -> None:
        if self._operate is None:
            return
        try:
            answer(Operated(message.id, "", dict(await self._operate(message, who))))
        except HeqisError as error:
            answer(Operated(message.id, str(error), {}))
        except Exception as error:  # noqa: BLE001 - the operator waits for an answer
            _log.critical("a command failed", exc_info=True)
            answer(Operated(message.id, f"the engine failed: {type(error).__name__}: {error}", {}))

    async def _listen(self) -> Server:
        config = self._config
        reception = Reception(
            self._door,
            self.counters,
            self._health,
            lambda: len(self._connections) >= self._config.max_connections,
        )
        return await open_port(
            config,
            self._door,
            serve_client=self._serve_client,
            admit=reception.admit,
            prepare=self._prepare,
            counters=self.counters,
        )

    def _prepare(self, connection: StreamConnection) -> None:
        connection.on_failed = self._count_failed
        connection.defer = self._turns.add

    def _count_failed(self, connection: StreamConnection) -> None:
        wrong_origin = isinstance(connection.protocol.handshake_exc, InvalidOrigin)
        self.counters["refused_origins" if wrong_origin else "handshakes_failed"] += 1

    async def _serve_client(self, connection: ServerConnection) -> None:
        if not isinstance(connection, StreamConnection):
            raise StreamError("the server made a connection of another kind")
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: connection.release())
        now_ns = time.monotonic_ns()
        connection.on_shut = lambda code, reason: self._shut(connection, code, reason)
        session = self._core.connect(connection, now_ns, connection.grant)
        if connection.knock is not None:
            connection.knock.known()
        connection.on_room = lambda: self._core.delivery.resume(session)
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

    def _call_soon(self, work: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon(work)

    def _wake(self) -> None:
        if not self._working and self._loop is not None:
            self._working = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Serve a bounded amount of catching up, then let the loop do something else."""
        self._working = False
        if self._core.delivery.work(self._config.turn_signals):
            self._wake()

    def _wake_pager(self) -> None:
        self._page_wanted.set()

    async def _read_pages(self) -> None:
        """Read pages for clients that ask for what is older than the ring, one at a time."""
        while True:
            await self._page_wanted.wait()
            self._page_wanted.clear()
            while (request := self._core.delivery.next_page()) is not None:
                page = await self._pages.read(request.epoch, request.from_seq)
                self._core.delivery.take_page(request, page)

    async def _keep_time(self) -> None:
        """Send heartbeats, and part with clients that fell too far behind or stopped reading."""
        next_ns = time.monotonic_ns() + self._config.heartbeat_interval
        while True:
            await asyncio.sleep(self._config.check_interval / NS_PER_S)
            now_ns = time.monotonic_ns()
            self._core.check_lag()
            self._check_rights()
            self._cut_off_stalled(now_ns)
            if now_ns >= next_ns:
                next_ns = now_ns + self._config.heartbeat_interval
                await self._send_heartbeats()

    async def _send_heartbeats(self) -> None:
        """Send every client a heartbeat, a few a turn of the loop."""
        sessions, a_turn = list(self._core.sessions), self._config.turn_connections
        for first in range(0, len(sessions), a_turn):
            self._core.heartbeat(time.time_ns(), sessions[first : first + a_turn])
            await asyncio.sleep(0)

    def _check_rights(self) -> None:
        """Part with clients whose token has expired or was revoked."""
        self._door.refresh()
        if not self._door.asks:
            return
        for session in list(self._connections):
            why = self._door.end_of(session.grant)
            if why is not None:
                self._core.expel(session, why)

    def _cut_off_stalled(self, now_ns: int) -> None:
        for connection, meter in self._connections.values():
            buffered_bytes = connection.buffered_bytes
            stalled_ns = meter.stalled_ns(connection.handed_bytes, buffered_bytes, now_ns)
            if stalled_ns >= self._config.stall_timeout and not connection.cut_off:
                self.counters["evicted_stalled"] += 1
                connection.abort()


def _unknown_health() -> Health:
    return Health(True, {})
