"""One socket of the control channel, over aiozmq."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiozmq
import zmq

_HWM: Final = 64


class Channel:
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
