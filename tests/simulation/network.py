"""The network between gateway and engine: what is on its way, and what becomes of it.

Stands for ZeroMQ's sockets. The data way goes one way and pushes back; the control way goes both
ways. Like TCP it loses only what is under way when it is cut; unlike TCP it can be told to drop,
double, reorder and spoil single messages as well.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zmq
from simulation.virtual_loop import VirtualLoop

OnBurst = Callable[
    [npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], int, int], None
]
_OVERHEAD_BYTES: Final = 64


@dataclass
class Weather:
    """How the network behaves at the moment; shares of messages, times in nanoseconds."""

    delay_ns: int = 200_000
    jitter_ns: int = 0
    drop: float = 0.0
    double: float = 0.0
    spoil: float = 0.0
    reorder: bool = False
    cut: bool = False


class Way:
    """One direction of one connection; delivers in the receiver's context."""

    def __init__(self, network: "Network", deliver: Callable[..., None]) -> None:
        self._network = network
        self._deliver = deliver
        self._context = contextvars.copy_context()
        self._last = 0.0
        self.under_way = 0
        self.open = True

    def send(self, *parts: bytes) -> None:
        network, weather, rng = self._network, self._network.weather, self._network.rng
        if weather.drop and rng.random() < weather.drop:
            network.count("dropped")
            return
        if weather.spoil and rng.random() < weather.spoil:
            parts = (*parts[:-1], spoiled(parts[-1], rng))
            network.count("spoiled")
        self._put(parts)
        if weather.double and rng.random() < weather.double:
            network.count("doubled")
            self._put(parts)

    def _put(self, parts: tuple[bytes, ...]) -> None:
        network, weather = self._network, self._network.weather
        delay_ns = weather.delay_ns + network.rng.randrange(weather.jitter_ns + 1)
        when = network.loop.time() + delay_ns / 1e9
        if not weather.reorder:
            when = max(when, self._last)
        self._last = max(self._last, when)
        self.under_way += 1
        network.loop.call_at(when, self._arrive, network.connection, parts, context=self._context)

    def _arrive(self, connection: int, parts: tuple[bytes, ...]) -> None:
        self.under_way -= 1
        if connection != self._network.connection:
            self._network.count("lost_in_cuts")
        elif self.open:
            self._deliver(*parts)


class Network:
    """Everything between gateway and engine; owned by the world.

    Attributes:
        weather: How it is at the moment.
        connection: Counts up with every cut: what was under way then never arrives.
        counters: What became of messages.
    """

    def __init__(self, loop: VirtualLoop, rng: Random) -> None:
        self.loop = loop
        self.rng = rng
        self.weather = Weather()
        self.connection = 0
        self.largest_burst = 0
        self.counters: dict[str, int] = {}
        self.receivers: dict[str, Receiver] = {}
        self.servers: dict[str, Channel] = {}

    def cut(self) -> None:
        self.weather.cut = True
        self.connection += 1

    def mend(self) -> None:
        self.weather.cut = False

    def count(self, what: str) -> None:
        self.counters[what] = self.counters.get(what, 0) + 1


class Sender:
    """Stands for ``feeds.link.TickSender``."""

    def __init__(self, network: Network, endpoint: str, hwm: int, **_: object) -> None:
        self._network = network
        self._endpoint = endpoint
        self._hwm = hwm
        self._way: Way | None = None
        self._receiver: Receiver | None = None

    def send(self, frame: bytes | memoryview) -> bool:
        receiver = self._network.receivers.get(self._endpoint)
        if self._network.weather.cut or receiver is None:
            return False
        if self._way is None or receiver is not self._receiver:
            self._receiver, self._way = receiver, receiver.way()
        if self._way.under_way + len(receiver.inbox) >= self._hwm:
            return False
        self._way.send(bytes(frame))
        return True

    def close(self, linger_ms: int = 0) -> None:
        return


class Receiver:
    """Stands for ``feeds.link.TickReceiver``."""

    def __init__(
        self, network: Network, endpoint: str, *, slots: int, hwm: int, gatekeeper: object = None
    ) -> None:
        self._network = network
        self._slots = slots
        self._context = contextvars.copy_context()
        self._on_burst: OnBurst | None = None
        self._awake = False
        self.endpoint = endpoint
        self.problem = ""
        self.counters: dict[str, int] = {}
        self.inbox: deque[bytes] = deque()
        network.receivers[endpoint] = self

    def way(self) -> Way:
        return self._context.copy().run(Way, self._network, self._take)

    def attach(self, loop: asyncio.AbstractEventLoop, on_burst: OnBurst) -> None:
        self._on_burst = on_burst
        self._wake()

    def detach(self) -> None:
        self._on_burst = None

    def close(self) -> None:
        self.detach()
        if self._network.receivers.get(self.endpoint) is self:
            del self._network.receivers[self.endpoint]

    def _take(self, message: bytes) -> None:
        self.inbox.append(message)
        self._wake()

    def _wake(self) -> None:
        if not self._awake and self._on_burst is not None and self.inbox:
            self._awake = True
            self._network.loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._awake = False
        if self._on_burst is None:
            return
        count = min(self._slots, len(self.inbox))
        if count:
            messages = [self.inbox.popleft() for _ in range(count)]
            size = sum(map(len, messages)) + _OVERHEAD_BYTES * count
            self._network.largest_burst = max(self._network.largest_burst, size)
            burst = laid_out(messages)
            self._on_burst(*burst, count, self._network.loop.now_ns)
        self._wake()


class Socket:
    """What ``feeds.control`` does to a socket besides sending."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel

    def setsockopt(self, option: int, value: bytes | int) -> None:
        if option == zmq.IDENTITY and isinstance(value, bytes):
            self._channel.identity = value

    def bind(self, endpoint: str) -> None:
        self._channel.network.servers[endpoint] = self._channel
        self._channel.endpoint = endpoint

    def connect(self, endpoint: str) -> None:
        self._channel.endpoint = endpoint

    def getsockopt_string(self, _: int) -> str:
        return self._channel.endpoint


class Channel:
    """Stands for the control channel's ``Channel``: a ROUTER that binds, or a DEALER."""

    def __init__(
        self,
        network: Network,
        kind: int,
        max_bytes: int,
        on_message: Callable[[list[bytes]], None],
    ) -> None:
        self.network = network
        self.identity = b""
        self.endpoint = ""
        self.context = None
        self.socket: Any = Socket(self)
        self._routes = kind == zmq.ROUTER
        self._max_bytes = max_bytes
        self._on_message = on_message
        self._own = contextvars.copy_context()
        self._peers: dict[bytes, Way] = {}
        self._server: Channel | None = None
        self._way: Way | None = None
        self.closed = False

    async def open(self) -> None:
        return

    def write(self, parts: Sequence[bytes]) -> bool:
        if self.network.weather.cut or self.closed:
            return False
        if self._routes:
            way = self._peers.get(parts[0])
            if way is not None:
                way.send(*parts[1:])
            return True
        server = self.network.servers.get(self.endpoint)
        if server is None:
            return False
        if server is not self._server or self._way is None:
            self._server, self._way = server, server.meet(self)
        self._way.send(self.identity, *parts)
        return True

    def meet(self, client: "Channel") -> Way:
        """Take a peer; return the way to us."""
        self._peers[client.identity] = client._own.copy().run(Way, self.network, client.take)
        return self._own.copy().run(Way, self.network, self.take)

    def take(self, *parts: bytes) -> None:
        if not self.closed and all(len(part) <= self._max_bytes for part in parts):
            self._on_message(list(parts))

    async def close(self) -> None:
        self.closed = True
        if self.network.servers.get(self.endpoint) is self:
            del self.network.servers[self.endpoint]


class NoWatch:
    """Stands for ``feeds.peer_watch.PeerWatch``."""

    def __init__(self, socket: object) -> None:
        self.counters: dict[str, int] = {}
        self.descriptors: list[int] = []

    def read(self) -> None:
        return

    def shut(self, descriptors: object) -> None:
        return

    def close(self) -> None:
        return


def spoiled(payload: bytes, rng: Random) -> bytes:
    """Return the bytes with a bit turned over, or cut short."""
    if not payload:
        return b"\0"
    if rng.random() < 0.3:
        return payload[: rng.randrange(len(payload))]
    at, spoiled = rng.randrange(len(payload)), bytearray(payload)
    spoiled[at] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def laid_out(
    messages: list[bytes],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lay messages of any length side by side, each at a multiple of 8."""
    lengths = np.fromiter(map(len, messages), np.int64, len(messages))
    padded = (lengths + 7) // 8 * 8
    offsets = np.cumsum(padded) - padded
    parts = [m + b"\0" * (int(p) - len(m)) for m, p in zip(messages, padded, strict=True)]
    wire = np.frombuffer(b"".join(parts) or bytes(8), np.uint64).view(np.uint8)
    return wire, offsets, lengths
