"""The engine's end of the control channel: a DEALER that keeps in touch by itself."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import zmq

from engine.core.errors import FrameError
from engine.core.records import Instruments
from feeds.codec import decode_instruments
from feeds.config import LinkConfig
from feeds.control_channel import Channel
from feeds.control_messages import (
    BUSY,
    MAX_REPLY_BYTES,
    UNSUPPORTED,
    Bye,
    ErrorReply,
    Leave,
    NewInstruments,
    Pong,
    Resend,
    Resent,
    Restart,
    StatusReply,
    StatusRequest,
    Welcome,
    encode,
)
from feeds.control_session import ControlSession
from feeds.curve import client_of
from latency.offset import OffsetEstimate
from latency.steady import steady_ns

_PART_S: Final = 0.25
_PREFIX: Final = b"heqis"
_IDENTITY_BYTES: Final = 12
"""Random ones: an engine that connects again is the same peer, and no other is."""


class ControlClient:
    """The engine's end: an asynchronous context that keeps in touch with the gateway by itself.

    Args:
        config: The link.
        name: What the engine calls itself.
        on_instruments: Called with all definitions, shape (I,), and the stream's epoch: at every
            welcome, and whenever they change.
        on_welcome: Called at every welcome, after ``on_instruments``.
        on_resent: Called with each answer to a resend, and the frames that came with it.
        on_pong: Called with each answer to a ping.
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
        on_pong: Callable[[Pong], None] | None = None,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._on_restart = on_restart
        self._on_welcome = on_welcome
        self._on_resent = on_resent
        self._on_pong = on_pong
        self._curve = client_of(config.keys, config.server_key)
        self._identity = _PREFIX + os.urandom(_IDENTITY_BYTES)
        self._session = ControlSession(config, name)
        self._on_instruments = on_instruments
        self._channel: Channel | None = None
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
        channel = Channel(zmq.DEALER, MAX_REPLY_BYTES, self._on_message)
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
        elif isinstance(reply, Pong) and self._on_pong is not None:
            self._on_pong(reply)
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
