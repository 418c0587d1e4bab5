"""Accepts connections for the stream, no more than it may, before TLS or HTTP costs anything."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from engine.stream_admission import Admission, source_of
from engine.stream_link import StreamConnection

_log = logging.getLogger(__name__)
_ACCEPTED_A_TURN: Final = 2
_RETRY_S: Final = 0.1
"""After the system would not accept: no descriptors, or no memory."""


class Knock:
    """A connection that was let in to say who it is; belongs to a ``StreamListener``."""

    __slots__ = ("_listener", "_socket", "ended", "source")

    def __init__(self, sock: socket.socket, source: str, listener: "StreamListener") -> None:
        self._socket = sock
        self._listener = listener
        self.source = source
        self.ended = False

    def known(self) -> None:
        """Let it stay as long as it likes: it said who it is."""
        self._listener.admit(self)

    def lost(self) -> None:
        """Count its end."""
        self._listener.forget(self)

    def cut(self) -> None:
        """End it, in whatever state it is."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class StreamListener:
    """Does for ``websockets`` what ``asyncio.Server`` does, and chooses whom to serve.

    Owned by the loop thread. Connections that do not say in time who they are make room, oldest
    first, when there are too many such.

    Args:
        listening: A listening socket.
        make: Makes the protocol object of one connection.
        admission: Decides who may knock.
        tls: Encrypts; None does not.
        timeout_s: Longest TLS handshake, and TLS goodbye, seconds.
        counters: Counts refusals.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], StreamConnection],
        admission: Admission,
        tls: ssl.SSLContext | None,
        timeout_s: tuple[float, float],
        counters: MutableMapping[str, int],
    ) -> None:
        self._socket: socket.socket | None = listening
        self._make = make
        self._admission = admission
        self._tls = tls
        self._timeout_s = timeout_s
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._knocks: dict[Knock, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept_some)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket."""
        return () if self._socket is None else (self._socket,)

    @property
    def handshaking(self) -> int:
        """Connections that have not said yet who they are."""
        return len(self._knocks)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether connections are accepted."""
        return self._socket is not None

    def close(self) -> None:
        """Stop listening, and end whoever has not said who it is."""
        listening, self._socket = self._socket, None
        if listening is None:
            return
        self._loop.remove_reader(listening)
        listening.close()
        for knock in list(self._knocks):
            knock.cut()

    async def wait_closed(self) -> None:
        """Wait until every handshake has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept_some(self) -> None:
        now_ns = time.monotonic_ns()
        for _ in range(_ACCEPTED_A_TURN):
            if self._socket is None:
                return
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(self._socket, error)
                return
            self._judge(sock, source_of(address[0]), now_ns)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave the descriptor alone for a while; it would wake us again at once."""
        self._counters["accepts_failed"] += 1
        _log.error("cannot accept a connection: %s", error.strerror)
        self._loop.remove_reader(listening)
        self._loop.call_later(_RETRY_S, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._accept_some)

    def _judge(self, sock: socket.socket, source: str, now_ns: int) -> None:
        refusal = self._admission.refusal(source, now_ns)
        if refusal:
            self._counters[refusal] += 1
            sock.close()
            return
        knock = Knock(sock, source, self)
        self._admission.opened(source)
        self._knocks[knock] = None
        if len(self._knocks) > self._admission.limits.handshaking:
            oldest = next(iter(self._knocks))
            del self._knocks[oldest]
            self._counters["handshakes_displaced"] += 1
            oldest.cut()
        task = self._loop.create_task(self._open(sock, knock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, sock: socket.socket, knock: Knock) -> None:
        sock.setblocking(False)
        opening_s, closing_s = self._timeout_s
        how: dict[str, Any] = {}
        if self._tls is not None:
            how = {"ssl_handshake_timeout": opening_s, "ssl_shutdown_timeout": closing_s}
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                lambda: self._begin(knock), sock, ssl=self._tls, **how
            )
        except OSError:  # TLS errors and timeouts are such
            self._counters["handshakes_failed"] += 1
            self.forget(knock)
            sock.close()

    def _begin(self, knock: Knock) -> StreamConnection:
        connection = self._make()
        connection.knock = knock
        return connection

    def admit(self, knock: Knock) -> None:
        """Let a connection stay as long as it likes."""
        self._knocks.pop(knock, None)

    def forget(self, knock: Knock) -> None:
        """Count the end of a connection, once."""
        if not knock.ended:
            knock.ended = True
            self._knocks.pop(knock, None)
            self._admission.closed(knock.source)
