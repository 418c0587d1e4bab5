"""Parts with the peers of a PULL whose key was revoked, without harming the others.

ZeroMQ does not say which connection speaks with which key, but each message tells both. So for a
short time every message is looked at: those of a revoked key are dropped and their connections
ended, and connections that said nothing in that time are ended too. A good peer among those has
lost nothing and is back at once.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zmq

_NOBLOCK: Final = int(zmq.NOBLOCK)
LOOK_NS: Final = 1_000_000_000


class Cutoff:
    """Decides which connections to end; pure.

    Args:
        revoked: Public keys that are not let in any more.
        descriptors: Connections open now.
        now_ns: Monotonic time.
    """

    def __init__(self, revoked: frozenset[str], descriptors: frozenset[int], now_ns: int) -> None:
        self._revoked = revoked
        self._unproven = set(descriptors)
        self._guilty: set[int] = set()
        self._ends_ns = now_ns + LOOK_NS

    def is_let_in(self, key: str, descriptor: int) -> bool:
        """Return whether a message of this key, on this connection, may pass."""
        self._unproven.discard(descriptor)
        if key in self._revoked:
            self._guilty.add(descriptor)
            return False
        return True

    def take_due(self, now_ns: int) -> set[int]:
        """Return the connections to end now."""
        due, self._guilty = self._guilty, set()
        if self.is_over(now_ns):
            due |= self._unproven
            self._unproven = set()
        return due

    def is_over(self, now_ns: int) -> bool:
        """Return whether all has been seen that is to be seen."""
        return now_ns >= self._ends_ns


class InspectingReceive:
    """Receives as a ``Receive`` does, and leaves out what a ``Cutoff`` does not let in.

    Args:
        socket: The PULL.
        buffer: u1, contiguous; slot i is its i-th equal part.
        lengths: i8, shape (slots,); gets the messages' lengths in bytes.
        cutoff: Decides.
        on_refused: Called for each message left out.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        buffer: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int64],
        cutoff: Cutoff,
        on_refused: Callable[[], None],
    ) -> None:
        self._socket = socket
        size = len(buffer) // len(lengths)
        whole = memoryview(buffer)  # type: ignore[arg-type] # an ndarray is a buffer
        self._slots = [whole[at * size : (at + 1) * size] for at in range(len(lengths))]
        self._lengths = lengths
        self._cutoff = cutoff
        self._on_refused = on_refused

    def __call__(self) -> int:
        """Receive until nothing waits or every slot is full; return how many were kept."""
        kept = 0
        while kept < len(self._slots):
            try:
                frame: Any = self._socket.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                break
            if not self._cutoff.is_let_in(frame.get("User-Id"), frame.get(zmq.SRCFD)):
                self._on_refused()
                continue
            length = len(frame.buffer)
            self._slots[kept][:length] = frame.buffer
            self._lengths[kept] = length
            kept += 1
        return kept
