"""The latest frames of a stream, for outputs that are away and for what must be sent again."""

from bisect import bisect_right

from feeds.sequencer import Sequenced


class FrameRing:
    """Keeps the newest frames within two bounds and drops the oldest; one owner.

    Frames have an index that counts from 0 and never comes again: those from ``tail`` up to but
    not including ``head`` are held.

    Attributes:
        tail: Index of the oldest frame held.
        head: Index of the next frame.
        held_bytes: Bytes of the frames held.

    Args:
        max_frames: Most frames held, at least 1.
        max_bytes: Most bytes held; the newest frame is held whatever its length.
    """

    __slots__ = ("_max_bytes", "_max_frames", "_slots", "head", "held_bytes", "tail")

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._slots: list[Sequenced | None] = [None] * max_frames
        self.head = 0
        self.tail = 0
        self.held_bytes = 0

    def __len__(self) -> int:
        return self.head - self.tail

    def push(self, frame: Sequenced) -> None:
        """Add the newest frame; the oldest go until both bounds hold."""
        size = len(frame.frame)
        while self.tail < self.head and (
            len(self) == self._max_frames or self.held_bytes + size > self._max_bytes
        ):
            self._drop_oldest()
        self._slots[self.head % self._max_frames] = frame
        self.head += 1
        self.held_bytes += size

    def __getitem__(self, index: int) -> Sequenced:
        frame = self._slots[index % self._max_frames] if self.tail <= index < self.head else None
        if frame is None:
            raise IndexError(f"frame {index} is not held, {self.tail} to {self.head - 1} are")
        return frame

    def find(self, seq: int) -> int | None:
        """Return the index of the frame that holds a sequence number, None if none does.

        A resend looks here first and in the spool for what is older.
        """
        indices = range(self.tail, self.head)
        at = bisect_right(indices, seq, key=lambda index: self[index].first_seq) - 1
        if at < 0:
            return None
        frame = self[indices[at]]
        return indices[at] if seq < frame.first_seq + frame.consumed else None

    def _drop_oldest(self) -> None:
        slot = self.tail % self._max_frames
        dropped = self._slots[slot]
        self._slots[slot] = None
        self.held_bytes -= 0 if dropped is None else len(dropped.frame)
        self.tail += 1
