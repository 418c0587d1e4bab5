"""What stands between a gateway and an engine and does harm: to frames, or to connections."""

import contextlib
import random
import socket
import struct
import threading
from typing import Self

import zmq
from live_cases import free_endpoints

_CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)


class FrameMangler:
    """Takes frames like an engine, passes them on like a gateway; drops, doubles and swaps some.

    Args:
        target: Where the engine listens.
        share: Of frames, for each of the three.
        seed: Of the choice.
    """

    def __init__(self, target: str, share: float, seed: int = 1) -> None:
        self.share = share
        self.dropped = self.doubled = self.swapped = self.passed = 0
        self._random = random.Random(seed)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._source = self._context.socket(zmq.PULL)
        port = self._source.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._target = self._context.socket(zmq.PUSH)
        self._target.setsockopt(zmq.LINGER, 0)
        self._target.setsockopt(zmq.SNDTIMEO, 1000)
        self._target.connect(target)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._source.close(0)
        self._target.close(0)
        self._context.term()

    def _run(self) -> None:
        late: bytes | None = None
        while not self._stop.is_set():
            if not self._source.poll(50):
                continue
            frame = self._source.recv()
            choice = self._random.random()
            if choice < self.share:
                self.dropped += 1
                continue
            if late is None and choice > 1 - self.share:
                self.swapped += 1
                late = frame
                continue
            self._pass(frame)
            if choice < 2 * self.share:
                self.doubled += 1
                self._pass(frame)
            if late is not None:
                self._pass(late)
                late = None

    def _pass(self, frame: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._target.send(frame)
            self.passed += 1


class TcpProxy:
    """Passes bytes between whoever connects and a target, until it is told to do harm.

    Args:
        target: Where to, ``tcp://127.0.0.1:PORT``.
    """

    def __init__(self, target: str) -> None:
        self._port = int(target.rpartition(":")[2])
        (self.endpoint,) = free_endpoints(1)
        self._address = ("127.0.0.1", int(self.endpoint.rpartition(":")[2]))
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = True
        self._tear = False
        self._stop = False
        self._random = random.Random(3)
        self.connections = 0
        self.resets = 0
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = self._listen()
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop = True
        self.cut()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Take the link away: connections end, and new ones end at once."""
        self._open = False
        self._end_all()

    def mend(self) -> None:
        """Give the link back."""
        self._open = True

    def tear(self) -> None:
        """Reset the connection in the middle of the next chunk that passes."""
        self._tear = True

    @property
    def torn(self) -> bool:
        """Whether what ``tear`` asked for has been done."""
        return not self._tear

    def _listen(self) -> socket.socket:
        listener = socket.create_server(self._address)
        listener.settimeout(0.1)
        return listener

    def _accept(self) -> None:
        while not self._stop:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self._open:
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._port), timeout=1)
            except OSError:
                _reset(client)
                continue
            self._begin(client, server)

    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        self.connections += 1
        with self._lock:
            self._pairs.append((client, server))
        for source, sink in ((client, server), (server, client)):
            source.settimeout(0.2)
            forth = source is client
            thread = threading.Thread(target=self._pump, args=(source, sink, forth), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, forth: bool) -> None:
        try:
            while data := _receive(source):
                if forth and self._tear and len(data) > 64:
                    sink.sendall(data[: self._random.randrange(1, len(data))])
                    self.resets += 1
                    self._end_all()
                    self._tear = False
                    return
                sink.sendall(data)
        except OSError:
            return
        finally:
            _reset(source)
            _reset(sink)

    def _end_all(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                _reset(one)


def _receive(source: socket.socket) -> bytes:
    """Wait for bytes; none if the connection has ended, on whichever side."""
    while source.fileno() >= 0:
        try:
            return source.recv(_CHUNK)
        except TimeoutError:
            continue
    return b""


def _reset(connection: socket.socket) -> None:
    """End a connection at once, with a reset."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    connection.close()
