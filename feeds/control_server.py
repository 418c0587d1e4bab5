"""The gateway's end of the control channel: a ROUTER."""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq

from engine.core.errors import LinkError
from feeds.control_channel import Channel
from feeds.control_desk import ControlDesk
from feeds.control_messages import MAX_REQUEST_BYTES
from feeds.curve import gatekeeper_of
from feeds.peer_watch import PeerWatch
from latency.steady import steady_ns

_WATCH_S: Final = 0.1
_NOBODY: Final[frozenset[str]] = frozenset()


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
        self._channel: Channel | None = None
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
    def problem(self) -> str:
        """What is wrong with the key store now, "" if nothing."""
        return "" if self._gatekeeper is None else self._gatekeeper.problem

    @property
    def revoked(self) -> frozenset[str]:
        """Public keys that the store has revoked."""
        return _NOBODY if self._gatekeeper is None else self._gatekeeper.revoked

    @property
    def endpoint(self) -> str:
        """The endpoint as bound, with the port the system chose."""
        if self._channel is None:
            return self._endpoint
        return self._channel.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def __aenter__(self) -> Self:
        channel = Channel(zmq.ROUTER, MAX_REQUEST_BYTES, self._on_message)
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
