"""Sends records again: out of the ring, and what is older out of the spool; pure but for the spool.

One answer is a stretch of at most so many bytes, so that neither the gateway's loop nor the
engine's is held up by one. Who asks for more in a second than is allowed is told to wait.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engine.core.records import FrameFlag, Schema
from feeds.control_messages import BUSY, ErrorReply, Resend, Resent
from feeds.frame_check import flag_frames_nb
from feeds.frame_ring import FrameRing
from feeds.spool_end import End
from feeds.spool_reader import Found

_NS_PER_S: Final = 1_000_000_000
_REQUEST_BYTES: Final = 4096
"""What a request costs besides the bytes it is answered with."""


class Past(Protocol):
    """Where frames are that the ring has dropped; a SpoolReader is one."""

    def epochs(self) -> list[int]:
        """Return the epochs of which there is anything, oldest first."""
        ...

    def first_held(self, epoch: int) -> int | None:
        """Return the oldest number of an epoch."""
        ...

    def end_of(self, epoch: int) -> End | None:
        """Return where an epoch that is over ends."""
        ...

    def read(self, epoch: int, seq: int, stop_seq: int, most_bytes: int) -> Found | None:
        """Return frames from the one on that holds ``seq``, or the first after it."""
        ...


class Limits(NamedTuple):
    """What one peer may have."""

    answer_bytes: int
    """Of frames in one answer; one frame is sent at least."""
    bytes_per_s: int
    peers: int
    """Peers whose share is remembered; the one unheard for longest goes first."""


class Resender:
    """Answers resend requests; owned by the gateway.

    Attributes:
        counters: Answers, frames' bytes and refusals so far.

    Args:
        gateway: The gateway's id.
        ring: The newest frames.
        place: Tells the present epoch and its next number.
        past: Older frames; None where there is no spool.
        flush: Called before ``past`` is read.
        limits: What one peer may have.
    """

    def __init__(
        self,
        gateway: int,
        ring: FrameRing,
        place: Callable[[], tuple[int, int]],
        past: Past | None,
        flush: Callable[[], None],
        limits: Limits,
    ) -> None:
        self._gateway = gateway
        self._ring = ring
        self._place = place
        self._past = past
        self._flush = flush
        self._limits = limits
        self._shares: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self.counters: Counter[str] = Counter()
        flag_frames(np.zeros(0, np.uint8))

    def serve(
        self, peer: bytes, request: Resend, mono_ns: int
    ) -> tuple[Resent | ErrorReply, bytes]:
        """Answer one request; returns the answer and the frames that go with it."""
        if not self._allow(peer, mono_ns):
            self.counters["refused"] += 1
            return ErrorReply(BUSY, f"at most {self._limits.bytes_per_s} bytes a second"), b""
        if self._past is not None:
            self._flush()
        epoch, next_seq = self._place()
        live = request.epoch == epoch
        end_seq, whole = End(next_seq, whole=True) if live else self._end_of_past(request.epoch)
        stop_seq = min(request.first_seq + request.count, end_seq or request.first_seq)
        frames, reached = self._find(request, stop_seq, live=live)
        body = flag_frames(frames)
        self._charge(peer, len(body))
        self.counters["answers"] += 1
        self.counters["bytes"] += len(body)
        self.counters["empty"] += not body
        head = Resent(
            self._gateway,
            request.epoch,
            request.first_seq,
            max(reached, request.first_seq) if end_seq else request.first_seq + request.count,
            self._first_held(request.epoch, live=live),
            end_seq,
            self._epoch_after(request.epoch, epoch),
            torn=not whole,
        )
        return head, body

    def _find(
        self, request: Resend, stop_seq: int, *, live: bool
    ) -> tuple[npt.NDArray[np.uint8], int]:
        """Return frames, and one past the last number of which all that is held was returned."""
        first, most = request.first_seq, self._limits.answer_bytes
        oldest = self._oldest_in_ring(request.epoch) if live else None
        if self._past is not None and (oldest is None or first < oldest):
            until = stop_seq if oldest is None else min(stop_seq, oldest)
            found = self._past.read(request.epoch, first, until, most)
            if found is not None:
                return found.frames, found.next_seq
            first = until
        if oldest is None:
            return np.zeros(0, np.uint8), stop_seq
        return self._find_in_ring(request.epoch, max(first, oldest), stop_seq)

    def _find_in_ring(
        self, epoch: int, first: int, stop_seq: int
    ) -> tuple[npt.NDArray[np.uint8], int]:
        parts = [] if first > self._ring[self._ring.tail].first_seq else self._dropped_definitions()
        size, reached = sum(map(len, parts)), first
        for index in range(self._first_index(first), self._ring.head):
            frame = self._ring[index]
            full = parts and size + len(frame.frame) > self._limits.answer_bytes
            if full or frame.first_seq >= stop_seq or _epoch_of(frame.frame) != epoch:
                break
            if frame.consumed or _schema_of(frame.frame) == Schema.INSTRUMENTS:
                parts.append(frame.frame)
                size += len(frame.frame)
            reached = frame.first_seq + frame.consumed
        else:
            reached = max(reached, stop_seq)
        return np.frombuffer(b"".join(parts), np.uint8), reached

    def _dropped_definitions(self) -> list[bytes]:
        """Return what stands before the ring's oldest frame for those who missed what was older."""
        return self._ring.definitions_since(0) if self._past is None else []

    def _first_index(self, seq: int) -> int:
        """Return the index of the frame that holds a number, or of definitions right before it."""
        ring = self._ring
        at = ring.find(seq)
        if at is None:
            return ring.head
        while at > ring.tail and not ring[at - 1].consumed:
            at -= 1
        return at

    def _oldest_in_ring(self, epoch: int) -> int | None:
        """Return the oldest number in the ring, None if it holds nothing of the epoch."""
        ring = self._ring
        if not len(ring) or _epoch_of(ring[ring.tail].frame) != epoch:
            return None
        return ring[ring.tail].first_seq

    def _first_held(self, epoch: int, *, live: bool) -> int:
        oldest = self._past.first_held(epoch) if self._past is not None else None
        if oldest is None and live:
            oldest = self._oldest_in_ring(epoch)
        return oldest or 0

    def _end_of_past(self, epoch: int) -> End:
        end = self._past.end_of(epoch) if self._past is not None else None
        return end or End(0, whole=False)

    def _epoch_after(self, epoch: int, present: int) -> int:
        if epoch == present:
            return 0
        past = self._past.epochs() if self._past is not None else []
        return min((other for other in (*past, present) if other > epoch), default=0)

    def _allow(self, peer: bytes, mono_ns: int) -> bool:
        """Give a peer its share of the bytes since it was last here; False if it owes some."""
        rate = self._limits.bytes_per_s
        left, before_ns = self._shares.get(peer, (float(rate), mono_ns))
        left = min(float(rate), left + (mono_ns - before_ns) * rate / _NS_PER_S)
        self._shares[peer] = (left, mono_ns)
        self._shares.move_to_end(peer)
        if len(self._shares) > self._limits.peers:
            self._shares.popitem(last=False)
        return left >= 0

    def _charge(self, peer: bytes, size: int) -> None:
        left, mono_ns = self._shares[peer]
        self._shares[peer] = (left - size - _REQUEST_BYTES, mono_ns)


def flag_frames(frames: npt.NDArray[np.uint8]) -> bytes:
    """Return the good ones of frames that lie one after the other, flagged as sent again."""
    if frames.ctypes.data % 8:
        frames = frames.copy()
    words = frames[: len(frames) // 8 * 8].view(np.int64)
    words.flags.writeable = False
    out = np.zeros(len(words), np.uint64)
    written = flag_frames_nb(out, words, int(FrameFlag.RESEND))
    return out[:written].tobytes()


def _epoch_of(frame: bytes) -> int:
    return int.from_bytes(frame[8:16], "little")


def _schema_of(frame: bytes) -> int:
    return int.from_bytes(frame[6:8], "little")
