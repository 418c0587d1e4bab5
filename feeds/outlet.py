"""One output of a gateway: what it was sent, what it still waits for, what it lost."""

from typing import Protocol

from feeds.frame_ring import FrameRing


class Sender(Protocol):
    """Something that takes frames until it would block."""

    def send(self, frame: bytes) -> bool:
        """Take one frame; False if it would block, and then the frame was not taken."""
        ...


class Outlet:
    """Follows the ring at its own pace; owned by the gateway.

    Attributes:
        sent_frames: Frames the sender took.
        dropped_frames: Frames that left the ring before the sender would take them.
        dropped_ticks: Ticks in them: the receiver sees that as many are missing, and asks for
            them. Definitions in them are sent before what follows.
        blocked: Whether the sender last refused, for want of a peer or of room.

    Args:
        name: The endpoint, for the status.
        sender: Where frames go.
        ring: Where they come from.
    """

    __slots__ = (
        "_cursor", "_next_seq", "_owed", "_ring", "_sender", "blocked", "dropped_frames",
        "dropped_ticks", "name", "sent_frames",
    )  # fmt: skip

    def __init__(self, name: str, sender: Sender, ring: FrameRing) -> None:
        self.name = name
        self._sender = sender
        self._ring = ring
        self._cursor = ring.head
        self._next_seq: int | None = None
        self._owed: list[bytes] = []
        self.sent_frames = 0
        self.dropped_frames = 0
        self.dropped_ticks = 0
        self.blocked = False

    @property
    def waiting(self) -> int:
        """Frames in the ring that this output has not been sent."""
        return self._ring.head - max(self._cursor, self._ring.tail)

    def drain(self, most: int) -> int:
        """Send what is waiting, in order, until the sender would block.

        Args:
            most: Frames to send at most.

        Returns:
            Frames sent.
        """
        self._skip_lost()
        sent = 0
        while sent < most and self._cursor < self._ring.head:
            frame = self._ring[self._cursor]
            self.blocked = not self._sender.send(self._owed[0] if self._owed else frame.frame)
            if self.blocked:
                break
            sent += 1
            if self._owed:
                del self._owed[0]
                continue
            self._cursor += 1
            self._next_seq = frame.first_seq + frame.consumed
        self.sent_frames += sent
        return sent

    def _skip_lost(self) -> None:
        lost = self._ring.tail - self._cursor
        if lost <= 0:
            return
        oldest = self._ring[self._ring.tail].first_seq
        self.dropped_frames += lost
        self.dropped_ticks += max(0, oldest - (1 if self._next_seq is None else self._next_seq))
        self._owed = self._ring.definitions_since(self._cursor) or self._owed
        self._cursor = self._ring.tail
        self._next_seq = oldest
