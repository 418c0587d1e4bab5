"""The control channel's sockets: the gateway's ROUTER and the engine's DEALER, over aiozmq."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiozmq
import zmq

from engine.core.errors import FrameError, LinkError
from engine.core.records import Instruments
from feeds.codec import decode_instruments
from feeds.config import LinkConfig
from feeds.control_desk import ControlDesk, StreamFacts
from feeds.control_messages import (
    BUSY,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    UNSUPPORTED,
    Bye,
    ErrorReply,
    Leave,
    NewInstruments,
    Resend,
    Resent,
    Restart,
    StatusReply,
    StatusRequest,
    Welcome,
    encode,
)
from feeds.control_session import ControlSession
from feeds.curve import client_of, gatekeeper_of
from feeds.peer_watch import PeerWatch
from latency.offset import OffsetEstimate
from latency.steady import steady_ns

__all__ = ["ControlClient", "ControlServer", "StreamFacts"]

_HWM: Final = 64
_PART_S: Final = 0.25
_WATCH_S: Final = 0.1
_PREFIX: Final = b"heqis"
_IDENTITY_BYTES: Final = 12
"""Random ones: an engine that connects again is the same peer, and no other is."""


class _Channel:
    """One aiozmq transport with its context; the protocol object aiozmq calls back."""

    def __init__(
        self, kind: int, max_bytes: int, on_message: Callable[[list[bytes]], None]
    ) -> None:
        self._on_message = on_message
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        self.socket.set_hwm(_HWM)
        self._kind = kind
        self._transport: Any = None
        self._lost = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Hand the socket, bound or connected, to the loop."""
        self._transport, _ = await aiozmq.create_zmq_connection(
            lambda: self, self._kind, zmq_sock=self.socket
        )

    def write(self, parts: Sequence[bytes]) -> bool:
        """Send one message; False while an earlier one still waits for a peer."""
        if self._transport is None or self._transport.get_write_buffer_size():
            return False
        self._transport.write(parts)
        return True

    async def close(self) -> None:
        """Close the socket and its context; closing twice does nothing."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
            await self._lost
        if not self.context.closed:
            self.socket.close()
            self.context.term()

    def connection_made(self, transport: object) -> None:
        """Called by aiozmq."""

    def connection_lost(self, error: Exception | None) -> None:
        """Called by aiozmq when the socket is closed."""
        self._transport = None
        if not self._lost.done():
            self._lost.set_result(None)

    def msg_received(self, parts: list[bytes]) -> None:
        """Called by aiozmq for each message."""
        self._on_message(parts)

    def pause_writing(self) -> None:
        """Called by aiozmq; ``write`` asks the buffer itself."""

    def resume_writing(self) -> None:
        """Called by aiozmq; ``write`` asks the buffer itself."""


class ControlServer:
    """The gateway's end, an asynchronous context: binds, answers, tells all peers of changes.

    Args:
        endpoint: Where to bind.
        desk: Answers the messages.
        keys: Directory of the key store that says who is let in; None lets everybody in.

    Raises:
        ConfigError: the key store cannot be used.
        LinkError: on entering, the endpoint cannot be bound.
    """

    def __init__(self, endpoint: str, desk: ControlDesk, keys: Path | None = None) -> None:
        self._endpoint = endpoint
        self._desk = desk
        self._gatekeeper = gatekeeper_of(keys)
        self._channel: _Channel | None = None
        self._watch: PeerWatch | None = None
        self._watching: asyncio.Task[None] | None = None
        self.unsent = 0

    @property
    def counters(self) -> dict[str, int]:
        """Peers let in and refused, by name."""
        watch, keeper = self._watch, self._gatekeeper
        counted = {} if watch is None else watch.counters
        return counted if keeper is None else {**counted, **keeper.counters}

    @property
    def endpoint(self) -> str:
        """The endpoint as bound, with the port the system chose."""
        if self._channel is None:
            return self._endpoint
        return self._channel.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def __aenter__(self) -> Self:
        channel = _Channel(zmq.ROUTER, MAX_REQUEST_BYTES, self._on_message)
        channel.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if self._gatekeeper is not None:
            self._gatekeeper.guard(channel.socket, channel.context)
        watch = PeerWatch(channel.socket)
        try:
            channel.socket.bind(self._endpoint)
        except zmq.ZMQError as error:
            watch.close()
            self._dismiss()
            await channel.close()
            raise LinkError(f"cannot bind control to {self._endpoint}: {error}") from None
        await channel.open()
        self._channel, self._watch = channel, watch
        self._watching = asyncio.create_task(self._keep_watch(watch), name="heqis-control-watch")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def ask_restart(self, reason: str) -> int:
        """Ask every peer to end in order and begin anew; return how many were asked."""
        self._broadcast(self._desk.restart(reason))
        return len(self._desk.peers)

    def tell_instruments(self) -> None:
        """Send every peer the definitions."""
        self._broadcast(self._desk.new_instruments())

    async def close(self) -> None:
        """Say goodbye to every peer and close; closing twice does nothing."""
        if self._channel is None:
            return
        self._broadcast(self._desk.bye())
        channel, self._channel = self._channel, None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._watch is not None:
            self._watch.close()
        channel.socket.setsockopt(zmq.LINGER, 100)
        self._dismiss()
        await channel.close()

    def _dismiss(self) -> None:
        if self._gatekeeper is not None:
            self._gatekeeper.close()

    async def _keep_watch(self, watch: PeerWatch) -> None:
        """Follow the connections; when a key was revoked, end all: who still may is back at once.

        A ROUTER does not tell whose connection is whose, and what is asked here is asked again.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            watch.read()
            if self._gatekeeper is not None and self._gatekeeper.take_cut():
                watch.shut(watch.descriptors)

    def _broadcast(self, payload: bytes) -> None:
        for peer in self._desk.peers:
            self._send(peer, payload)

    def _send(self, peer: bytes, *payload: bytes) -> None:
        if self._channel is None or not self._channel.write((peer, *payload)):
            self.unsent += 1

    def _on_message(self, parts: list[bytes]) -> None:
        peer, *payload = parts
        answer = self._desk.answer(peer, payload, steady_ns(), time.monotonic_ns())
        self._send(peer, *answer)


class ControlClient:
    """The engine's end: an asynchronous context that keeps in touch with the gateway by itself.

    Args:
        config: The link.
        name: What the engine calls itself.
        on_instruments: Called with all definitions, shape (I,), and the stream's epoch: at every
            welcome, and whenever they change.
        on_welcome: Called at every welcome, after ``on_instruments``.
        on_resent: Called with each answer to a resend, and the frames that came with it.
        on_restart: Called with a reason when the gateway asks for a new beginning.
    """

    def __init__(
        self,
        config: LinkConfig,
        *,
        name: str = "engine",
        on_instruments: Callable[[Instruments, int], None] | None = None,
        on_welcome: Callable[[Welcome], None] | None = None,
        on_resent: Callable[[Resent | ErrorReply, bytes], None] | None = None,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._on_restart = on_restart
        self._on_welcome = on_welcome
        self._on_resent = on_resent
        self._curve = client_of(config.keys, config.server_key)
        self._identity = _PREFIX + os.urandom(_IDENTITY_BYTES)
        self._session = ControlSession(config, name)
        self._on_instruments = on_instruments
        self._channel: _Channel | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._parted = asyncio.Event()
        self._status: asyncio.Future[dict[str, Any]] | None = None

    @property
    def peer_alive(self) -> bool:
        """Whether the gateway was heard lately."""
        return self._session.peer_alive(time.monotonic_ns())

    @property
    def welcome(self) -> Welcome | None:
        """The stream the gateway sends, None while it is unknown."""
        return self._session.welcome

    @property
    def heard_ns(self) -> int:
        """Monotonic time at which the gateway was last heard, 0 before the first time."""
        return self._session.heard_ns or 0

    @property
    def offset(self) -> OffsetEstimate | None:
        """The gateway's clock minus ours, with its error bound; None until known."""
        return self._session.estimate

    @property
    def counters(self) -> dict[str, int]:
        """Messages by type and refused ones by reason."""
        return dict(self._session.counters)

    async def __aenter__(self) -> Self:
        channel = _Channel(zmq.DEALER, MAX_REPLY_BYTES, self._on_message)
        channel.socket.setsockopt(zmq.IDENTITY, self._identity)
        channel.socket.setsockopt(zmq.IMMEDIATE, 1)
        if self._curve is not None:
            self._curve.secure(channel.socket)
        channel.socket.connect(self._config.control)
        await channel.open()
        self._channel = channel
        self._task = asyncio.create_task(self._keep_in_touch(), name="heqis-control")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()
        if self._status is not None:
            self._status.cancel()

    async def hello(self) -> Welcome:
        """Wait until the gateway has said what it sends."""
        while self._session.welcome is None:
            self._welcomed.clear()
            await self._welcomed.wait()
        return self._session.welcome

    async def status(self) -> dict[str, Any]:
        """Ask for the gateway's counters; callers at the same time share one answer."""
        if self._status is None or self._status.done():
            self._status = asyncio.get_running_loop().create_future()
            self._write(encode(StatusRequest()))
        return await asyncio.shield(self._status)

    async def leave(self, *, returns: bool) -> None:
        """Say that we stop by decision, and whether we mean to be back at once.

        Waits a moment for the answer: what is closed at once sends nothing any more. After it
        nothing is said, not even hello.
        """
        if not self.peer_alive:
            return
        if self._task is not None:
            self._task.cancel()
        self._parted.clear()
        self._write(encode(Leave(returns)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PART_S):
                await self._parted.wait()

    def ask(self, request: Resend) -> bool:
        """Ask for records again; False if the channel cannot take the request now."""
        return self._channel is not None and self._channel.write((encode(request),))

    async def _keep_in_touch(self) -> None:
        while True:
            message = self._session.outgoing(time.monotonic_ns(), steady_ns())
            if message is not None:
                self._write(message)
            self._wake.clear()
            wait_s = self._session.wait_ns(time.monotonic_ns()) / 1e9
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _write(self, message: bytes) -> None:
        if self._channel is None or not self._channel.write((message,)):
            counters = self._session.counters
            counters["unsent"] = counters.get("unsent", 0) + 1

    def _on_message(self, parts: list[bytes]) -> None:
        reply = self._session.incoming(parts[0], time.monotonic_ns(), steady_ns())
        if isinstance(reply, Welcome):
            self._welcomed.set()
        if isinstance(reply, Welcome | NewInstruments):
            self._define(reply)
        elif isinstance(reply, Resent | ErrorReply):
            self._hand_over(reply, b"".join(parts[1:]))
        elif isinstance(reply, Bye):
            self._parted.set()
        elif isinstance(reply, Restart) and self._on_restart is not None:
            self._on_restart(reply.reason)
        elif isinstance(reply, StatusReply) and self._status and not self._status.done():
            self._status.set_result(reply.status)
        if isinstance(reply, Welcome) and self._on_welcome is not None:
            self._on_welcome(reply)
        if self._session.wait_ns(time.monotonic_ns()) == 0:
            self._wake.set()

    def _hand_over(self, reply: Resent | ErrorReply, frames: bytes) -> None:
        about_resend = isinstance(reply, Resent) or reply.reason in {BUSY, UNSUPPORTED}
        if about_resend and self._on_resent is not None:
            self._on_resent(reply, frames)

    def _define(self, reply: Welcome | NewInstruments) -> None:
        try:
            instruments = decode_instruments(reply.instruments)
        except FrameError:
            counters = self._session.counters
            counters["refused_instruments"] = counters.get("refused_instruments", 0) + 1
            return
        if self._on_instruments is not None:
            self._on_instruments(instruments, reply.epoch)
