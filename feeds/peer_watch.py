"""Who is connected to a bound socket, as its monitor tells; parts with peers by their descriptors.

ZeroMQ has no call that ends one connection of a bound socket. Its monitor tells the descriptor of
each, and a connection that is shut down beneath ZeroMQ is one that the peer has lost.
"""

import os
import socket as sockets
import struct
from collections.abc import Iterable
from typing import Any, Final

import zmq

_EVENTS: Final = (
    zmq.Event.ACCEPTED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_ACCEPTED: Final = int(zmq.Event.ACCEPTED)
_DISCONNECTED: Final = int(zmq.Event.DISCONNECTED)
_EVENT: Final = struct.Struct("=Hi")
"""Event number and value: a descriptor, for connections that came or went."""
_NOBLOCK: Final = int(zmq.NOBLOCK)
_HANDSHAKE_MS: Final = 2000
_BACKLOG: Final = 256
MAX_CONNECTIONS: Final = 256


class PeerWatch:
    """Counts a bound socket's connections; to be made before it is bound. One thread's own.

    Attributes:
        accepted: Connections so far.
        disconnected: Of them, those that ended.
        failed: Handshakes that failed.
        excess: Connections ended because there were too many.
        cut: Connections ended by ``shut``.

    Args:
        watched: The socket.
        most: Most connections at a time; a newer one is ended.
    """

    def __init__(self, watched: "zmq.Socket[Any]", most: int = MAX_CONNECTIONS) -> None:
        self._watched = watched
        self._most = most
        self._open: set[int] = set()
        watched.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        watched.setsockopt(zmq.BACKLOG, _BACKLOG)
        self._monitor: zmq.Socket[bytes] = watched.get_monitor_socket(_EVENTS)
        self.accepted = 0
        self.disconnected = 0
        self.failed = 0
        self.excess = 0
        self.cut = 0

    @property
    def descriptors(self) -> frozenset[int]:
        """Descriptors of the connections open now, as of the last ``read``."""
        return frozenset(self._open)

    @property
    def counters(self) -> dict[str, int]:
        """Connections by what became of them."""
        return {
            "connections": self.accepted,
            "disconnections": self.disconnected,
            "failed_handshakes": self.failed,
            "excess_connections": self.excess,
            "cut_off": self.cut,
        }

    def read(self, most: int = 4096) -> int:
        """Take in what happened, at most so many events; return how many.

        ZeroMQ's own thread waits for room in the monitor, so it must be read often.
        """
        for count in range(most):
            try:
                parts = self._monitor.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return count
            self._take(*_EVENT.unpack(parts[0]))
        return most

    def shut(self, descriptors: Iterable[int]) -> int:
        """End connections; return how many of them were open."""
        ended = sum(_shut(one, self._watched) for one in self._open.intersection(descriptors))
        self.cut += ended
        return ended

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        self._watched.disable_monitor()
        self._monitor.close(linger=0)

    def _take(self, event: int, descriptor: int) -> None:
        if event == _ACCEPTED:
            self.accepted += 1
            self._open.add(descriptor)
            if len(self._open) > self._most:
                self.excess += _shut(descriptor, self._watched)
        elif event == _DISCONNECTED:
            self.disconnected += 1
            self._open.discard(descriptor)
        else:
            self.failed += 1


def _shut(descriptor: int, bound: "zmq.Socket[Any]") -> bool:
    """Shut a connection down, if the descriptor still is one of the bound socket's."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    try:
        connection = sockets.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return False
    with connection:
        if not _belongs(connection, bound):
            return False
        try:
            connection.shutdown(sockets.SHUT_RDWR)
        except OSError:
            return False
    return True


def _belongs(connection: sockets.socket, bound: "zmq.Socket[Any]") -> bool:
    """Return whether a connection came in where the socket is bound; its number may be reused."""
    endpoint = bound.getsockopt_string(zmq.LAST_ENDPOINT)
    name = connection.getsockname()
    if connection.family == sockets.AF_UNIX:
        return endpoint == f"ipc://{name}"
    return endpoint.startswith("tcp://") and endpoint.rpartition(":")[2] == str(name[1])
