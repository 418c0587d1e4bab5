"""The data link: frames over ZeroMQ PUSH/PULL, drained into a preallocated burst.

The engine binds a PULL; each gateway connects a PUSH. What a full link cannot take is refused to
the sender, who counts or spools it; nothing waits.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zmq

from engine.core.errors import LinkError
from engine.core.records import MAX_FRAME_BYTES
from feeds.curve import CurveClient, Gatekeeper
from feeds.cutoff import Cutoff, InspectingReceive
from feeds.link_receive import Receive, make_receive
from feeds.peer_watch import PeerWatch

__all__ = ["OnBurst", "TickReceiver", "TickSender"]

OnBurst = Callable[
    [npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], int, int], object
]
"""Takes wire bytes (u1, read-only), offsets and lengths (i8, bytes), the number of messages and
the monotonic time of the wake, ns. The arrays are used again once it returns."""

_SLOT_BYTES: Final = (MAX_FRAME_BYTES + 63) // 64 * 64
_KEEPALIVE_S: Final = 1
_KEEPALIVES: Final = 3
_UNANSWERED_MS: Final = 10_000
_SAFETY_TICK_S: Final = 0.1
_NOBLOCK: Final = int(zmq.NOBLOCK)


class TickReceiver:
    """Binds a PULL and hands over whatever has arrived as one burst a turn of the loop.

    A message longer than a sequenced frame may be makes ZeroMQ drop the peer that sent it; the
    peer's next connection is a new one. All counters are read-only to others.

    Args:
        endpoint: Where to bind, for example ``tcp://127.0.0.1:*``.
        slots: Most messages in a burst, and in a turn of the loop.
        hwm: Most messages waiting in ZeroMQ; at that point the peers' sends block.
        context: A ZeroMQ context to use; by default one is made, and ended by ``close``.
        gatekeeper: Lets peers in, by their keys; closed with the receiver. Without one everybody
            is let in.

    Raises:
        LinkError: the endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        slots: int = 512,
        hwm: int = 100_000,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        gatekeeper: Gatekeeper | None = None,
    ) -> None:
        self._own_context = None if context else zmq.Context()
        used: zmq.Context[zmq.Socket[bytes]] = context or self._own_context  # type: ignore[assignment] # one of them is there
        self._socket: zmq.Socket[bytes] = used.socket(zmq.PULL)
        self._gatekeeper = gatekeeper
        self._cutoff: Cutoff | None = None
        self._socket.setsockopt(zmq.RCVHWM, hwm)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        _find_the_gone(self._socket)
        if gatekeeper is not None:
            gatekeeper.guard(self._socket, used)
        self._watch = PeerWatch(self._socket)
        buffer = np.zeros(slots * _SLOT_BYTES, np.uint8)
        self._wire = buffer.view()
        self._wire.flags.writeable = False
        self._offsets = np.arange(slots, dtype=np.int64) * _SLOT_BYTES
        self._lengths = np.zeros(slots, np.int64)
        self._buffer = buffer
        # Before peers can connect: the first call of a machine compiles it.
        self._receive_all = make_receive(self._socket, buffer, self._lengths)
        self._receive: Receive = self._receive_all
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise LinkError(f"cannot listen for ticks on {endpoint}: {error}") from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """The endpoint with its real port."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_burst: OnBurst | None = None
        self._again = False
        self._tick: asyncio.TimerHandle | None = None
        self.messages = 0
        self.bursts = 0
        self.full_bursts = 0
        """Bursts that filled every slot: more was waiting."""
        self.rescued = 0
        """Messages that only the safety tick found."""
        self.refused = 0
        """Messages of peers whose key was revoked."""

    @property
    def connections(self) -> int:
        """Connections so far, as of the last safety tick."""
        return self._watch.accepted

    @property
    def disconnections(self) -> int:
        """Connections that ended, as of the last safety tick."""
        return self._watch.disconnected

    @property
    def failed_handshakes(self) -> int:
        """Handshakes that failed, for whatever reason, as of the last safety tick."""
        return self._watch.failed

    @property
    def peers(self) -> int:
        """Gateways connected, as of the last safety tick."""
        return self.connections - self.disconnections

    @property
    def counters(self) -> dict[str, int]:
        """Peers let in and refused, by name."""
        counted = {**self._watch.counters, "refused_messages": self.refused}
        keeper = self._gatekeeper
        return counted if keeper is None else {**counted, **keeper.counters}

    @property
    def problem(self) -> str:
        """What is wrong with the key store now, "" if nothing."""
        return "" if self._gatekeeper is None else self._gatekeeper.problem

    def attach(self, loop: asyncio.AbstractEventLoop, on_burst: OnBurst) -> None:
        """Begin to receive on a loop's thread.

        Args:
            loop: The loop; the calling thread is the one that runs it.
            on_burst: Called with every burst; it must not keep the arrays.
        """
        self._loop = loop
        self._on_burst = on_burst
        loop.add_reader(self._socket.fileno(), self._on_readable)
        self._tick = loop.call_later(_SAFETY_TICK_S, self._on_safety_tick)
        self._call_again()

    def detach(self) -> None:
        """Stop receiving; what waits in ZeroMQ stays there."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._tick is not None:
            self._tick.cancel()
        self._loop = None
        self._on_burst = None

    def close(self) -> None:
        """Detach and close the socket; closing twice does nothing."""
        if self._socket.closed:
            return
        if hasattr(self, "_loop"):
            self.detach()
        self._watch.close()
        self._socket.close(linger=0)
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        if self._own_context is not None:
            self._own_context.term()

    def drain(self) -> int:
        """Receive what has arrived, at most a burst, and hand it over; return how many.

        The descriptor is edge-triggered: it may be left alone only after EAGAIN, so a burst that
        filled every slot calls for another turn.
        """
        woken_mono_ns = time.monotonic_ns()
        count = self._receive()
        if count == len(self._lengths):
            self.full_bursts += 1
            self._call_again()
        if count:
            self.messages += count
            self.bursts += 1
            if self._on_burst is not None:
                self._on_burst(self._wire, self._offsets, self._lengths, count, woken_mono_ns)
        return count

    def _call_again(self) -> None:
        if self._loop is not None and not self._again:
            self._again = True
            self._loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._again = False
        if self._loop is not None:
            self.drain()

    def _on_readable(self) -> None:
        if not self._again:
            self.drain()

    def _on_safety_tick(self) -> None:
        if self._loop is None:
            return
        self._tick = self._loop.call_later(_SAFETY_TICK_S, self._on_safety_tick)
        self._watch.read()
        if self._gatekeeper is not None:
            self._part_with_revoked(self._gatekeeper)
        if not self._again:
            self.rescued += self.drain()

    def _part_with_revoked(self, gatekeeper: Gatekeeper) -> None:
        """Look at every message for a while after a key was revoked, and end its connections."""
        now_ns = time.monotonic_ns()
        revoked = gatekeeper.take_cut()
        if revoked:
            self._cutoff = Cutoff(revoked, self._watch.descriptors, now_ns)
            self._receive = InspectingReceive(
                self._socket, self._buffer, self._lengths, self._cutoff, self._count_refused
            )
        if self._cutoff is not None:
            self._watch.shut(self._cutoff.take_due(now_ns))
            if self._cutoff.is_over(now_ns):
                self._cutoff = None
                self._receive = self._receive_all

    def _count_refused(self) -> None:
        self.refused += 1


class TickSender:
    """Connects a PUSH; sends frames to one engine, and never waits.

    Args:
        endpoint: Where the engine has bound.
        hwm: Most frames waiting in ZeroMQ for the engine; more are refused.
        context: A ZeroMQ context to use; by default one is made, and ended by ``close``.
        curve: Proves who we are, and that it is the engine; without it anybody may be.

    Raises:
        LinkError: the endpoint is not one.
    """

    def __init__(
        self,
        endpoint: str,
        hwm: int = 10_000,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        curve: CurveClient | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._own_context = None if context else zmq.Context()
        self._socket: zmq.Socket[bytes] = (context or self._own_context).socket(zmq.PUSH)  # type: ignore[union-attr] # one of them is there
        self._socket.setsockopt(zmq.SNDHWM, hwm)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        _find_the_gone(self._socket)
        if curve is not None:
            curve.secure(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close(linger_ms=0)
            raise LinkError(f"cannot send ticks to {endpoint}: {error}") from error
        self._send = self._socket.send
        self.sent = 0
        self.refused = 0
        """Sends that would have waited: no engine is connected, or it is too slow."""

    def send(self, frame: bytes | memoryview) -> bool:
        """Send one frame; False if it would have to wait."""
        try:
            self._send(frame, _NOBLOCK)
        except zmq.Again:
            self.refused += 1
            return False
        self.sent += 1
        return True

    def close(self, linger_ms: int = 1000) -> None:
        """Close, waiting at most ``linger_ms`` for what is on its way; twice does nothing."""
        if self._socket.closed:
            return
        self._socket.close(linger=linger_ms)
        if self._own_context is not None:
            self._own_context.term()


def _find_the_gone(socket: zmq.Socket[Any]) -> None:
    """Have the kernel find a peer that is gone without a word: in seconds, in ten while it owes.

    Not ZeroMQ's heartbeats: libzmq 4.3.5 aborts the process where one is due on a connection that
    broke while the queue behind it was full (``stream_engine_base.cpp``, ``!_io_error``).
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _KEEPALIVES)
    socket.setsockopt(zmq.TCP_MAXRT, _UNANSWERED_MS)
