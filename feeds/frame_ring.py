"""The latest frames of a stream, for outputs that are away and for what must be sent again."""

from bisect import bisect_right
from contextlib import suppress

import numpy as np

from engine.core.errors import FrameError
from engine.core.records import INSTRUMENT, Instruments, Schema
from feeds.codec import decode_frame, encode_instruments, merge_instruments
from feeds.sequencer import Sequenced


class FrameRing:
    """Keeps the newest frames within two bounds and drops the oldest; one owner.

    Frames have an index that counts from 0 and never comes again: those from ``tail`` up to but
    not including ``head`` are held. What dropped frames defined is not lost: an output that missed
    them asks for it by ``definitions_since``.

    Attributes:
        tail: Index of the oldest frame held.
        head: Index of the next frame.
        held_bytes: Bytes of the frames held.

    Args:
        max_frames: Most frames held, at least 1.
        max_bytes: Most bytes held; the newest frame is held whatever its length.
    """

    __slots__ = (
        "_dropped_at", "_dropped_from", "_dropped_table", "_max_bytes", "_max_frames", "_slots",
        "head", "held_bytes", "tail",
    )  # fmt: skip

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._slots: list[Sequenced | None] = [None] * max_frames
        self._dropped_table: Instruments = np.zeros(0, INSTRUMENT)
        self._dropped_at = -1
        self._dropped_from = (0, 0, 0)
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

    def definitions_since(self, index: int) -> list[bytes]:
        """Return frames with every definition that was dropped; none if ``index`` came later."""
        if self._dropped_at < index or not len(self._dropped_table):
            return []
        gateway, epoch, ts_send = self._dropped_from
        return encode_instruments(
            self._dropped_table,
            gateway=gateway,
            epoch=epoch,
            next_seq=self[self.tail].first_seq,
            ts_send=ts_send,
        )

    def _drop_oldest(self) -> None:
        slot = self.tail % self._max_frames
        dropped = self._slots[slot]
        self._slots[slot] = None
        if dropped is not None:
            self.held_bytes -= len(dropped.frame)
            if not dropped.consumed:
                self._remember(dropped.frame)
        self.tail += 1

    def _remember(self, frame: bytes) -> None:
        if int.from_bytes(frame[6:8], "little") != Schema.INSTRUMENTS:
            return
        with suppress(FrameError):  # a damaged frame of a log that is played as it is
            whole = decode_frame(frame)
            self._dropped_table = merge_instruments(self._dropped_table, whole.records)
            self._dropped_at = self.tail
            self._dropped_from = whole.gateway, whole.epoch, whole.ts_send
