"""The way of one client's messages into its socket: no await, no copy beyond one, no queue of ours.

``websockets`` offers ``send`` (waits when the buffer is full) and ``broadcast`` (neither waits nor
tells). Here a finished frame goes straight to the transport, whose own limits say when the client
has no room; ``tests/engine/test_stream_link.py`` pins what that takes for granted of the library.
"""

import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from engine.stream_auth import OPEN

_TEXT: Final = 0x81
"""FIN and opcode text (RFC 6455, section 5.2); a server does not mask."""
_SHORT: Final = struct.Struct("!BB")
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")
_RESET: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: close at once, and keep nothing for the other side."""


def text_frame(payload: bytes) -> bytes:
    """Return the one unmasked, uncompressed text frame that carries UTF-8 ``payload``."""
    length = len(payload)
    if 126 <= length < 65_536:
        return _MEDIUM.pack(_TEXT, 126, length) + payload
    if length < 126:
        return _SHORT.pack(_TEXT, length) + payload
    return _LONG.pack(_TEXT, 127, length) + payload


def _at_once(work: Callable[[], None]) -> None:
    work()


class Knock(Protocol):
    """What let the connection in."""

    def known(self) -> None:
        """Take note that the client has said who it is."""
        ...

    def lost(self) -> None:
        """Take note that the connection has ended."""
        ...


class StreamConnection(ServerConnection):
    """A server connection that is the stream protocol's ``Link``.

    ``paused`` is the library's own flag: the transport sets it when more than ``write_limit``
    bytes are buffered and clears it when the buffer has drained.

    Attributes:
        handed_bytes: Bytes given to the transport so far.
        on_room: Called when ``paused`` ends.
        on_shut: Called with code and reason to close the connection.
        on_failed: Called when what came was no WebSocket handshake and no request we answer.
        knock: To be told when the client has said who it is, and when it is gone.
        grant: What the client may do.
        defer: Has work done in its turn: a handshake and an end are dear, and come in crowds.
        cut_off: Whether it was ended by force.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.handed_bytes = 0
        self._descriptor = -1
        self.on_room: Callable[[], None] | None = None
        self.on_shut: Callable[[int, str], None] | None = None
        self.on_failed: Callable[[StreamConnection], None] | None = None
        self.knock: Knock | None = None
        self.grant = OPEN
        self.defer: Callable[[Callable[[], None]], None] = _at_once
        self.cut_off = False

    def push(self, message: bytes) -> None:
        """Hand one message over; dropped if the connection is closing."""
        self._write(text_frame(message))

    def push_many(self, messages: list[bytes]) -> None:
        """Hand several messages over in one write."""
        if messages:
            self._write(b"".join(map(text_frame, messages)))

    def shut(self, code: int, reason: str) -> None:
        """Close the connection in the background."""
        if self.on_shut is not None:
            self.on_shut(code, reason)

    def resume_writing(self) -> None:
        """Take up the client again; called by the transport."""
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    def connection_made(self, transport: Any) -> None:
        """Note the socket, where frames may go to it as they are; called by the transport."""
        super().connection_made(transport)
        if transport.get_extra_info("ssl_object") is None:
            self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """Take what came, in its turn until the handshake is done; called by the transport."""
        if self.protocol.state is not State.CONNECTING:
            super().data_received(data)
            if self.protocol.parser_exc is not None and not self.cut_off:
                self._stop_reading()
            return
        self.transport.pause_reading()
        self.defer(lambda: self._take_handshake(data))

    def eof_received(self) -> None:
        """Leave the end to ``connection_lost``, which follows; called by the transport."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, in its turn; called by the transport."""
        if self.knock is not None:
            self.knock.lost()
        self.defer(lambda: self._end(exc))

    def abort(self) -> None:
        """End the connection by force, with a reset: what it has not read is thrown away here."""
        self.cut_off = True
        descriptor = self.transport.get_extra_info("socket").fileno()
        if descriptor >= 0:
            with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed over that the kernel has not taken."""
        return int(self.transport.get_write_buffer_size())

    def release(self) -> None:
        """Let go of what refers back to us, so that the collector need not find it; called twice.

        Five hundred ended connections are a garbage collection of 70 ms on the loop otherwise.
        The library makes another such reference after the connection is lost.
        """
        self.on_room = self.on_shut = self.on_failed = self.knock = None
        self.defer = _at_once
        self.protocol.parser.close()
        vars(self.protocol).pop("select_subprotocol", None)
        if self.protocol.parser_exc is not None:
            self.protocol.parser_exc.with_traceback(None)

    def _stop_reading(self) -> None:
        """Take no more of what is no message; the library would read on and throw it away."""
        self.cut_off = True
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self.loop.call_later(self.close_timeout or 0.0, self.transport.abort)

    def _take_handshake(self, data: bytes) -> None:
        super().data_received(data)
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _end(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.protocol.handshake_exc is not None and self.on_failed is not None:
            self.on_failed(self)
        self.release()

    def _write(self, frames: bytes) -> None:
        transport = self.transport
        if self.protocol.state is not State.OPEN or transport.is_closing():
            return
        self.handed_bytes += len(frames)
        if self._descriptor >= 0 and not transport.get_write_buffer_size():
            frames = self._write_now(frames)
        if frames:
            transport.write(frames)

    def _write_now(self, frames: bytes) -> bytes:
        """Give the kernel what it takes now, and return the rest.

        The transport would do the same, but after everything else the loop is about to do. What
        is wrong with the socket, the transport finds out by the rest.
        """
        try:
            return frames[os.write(self._descriptor, frames) :]
        except OSError:
            return frames
