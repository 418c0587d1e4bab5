"""Keeps the messages that came after a gap until what was missing has come; pure, bounded."""

import struct
from array import array
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from engine.core.records import SEQUENCED
from feeds.answer import Frames

_NUMBERS: Final = struct.Struct("<HQQI")
_SCHEMA_AT: Final = 6
_SEQUENCED: Final = frozenset(int(schema) for schema in SEQUENCED)
_BLOCK_BYTES: Final = 1 << 20
_LENGTH_BYTES: Final = 8


class Place(NamedTuple):
    """A place in a gateway's stream: before record ``seq`` of ``epoch``."""

    epoch: int
    seq: int


class _Block:
    """Frames lying one after the other in memory that goes back to the system as a whole."""

    __slots__ = ("_end", "_first", "_lengths", "_start", "_wire")

    def __init__(self, size: int) -> None:
        self._wire = np.empty(size, np.uint8)
        self._lengths = array("q")
        self._first = 0
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return len(self._lengths) - self._first

    def append(self, message: bytes | memoryview) -> bool:
        """Copy a frame behind the others; False if there is no room for it."""
        end = self._end + len(message)
        if end > len(self._wire):
            return False
        self._wire.data[self._end : end] = message
        self._end = end
        self._lengths.append(len(message))
        return True

    def oldest(self, most_bytes: int) -> Frames:
        """Return the first frames, without a copy: at least one, and few more than that."""
        lengths = np.array(self._lengths[self._first :], np.int64)
        ends = self._start + np.cumsum(lengths)
        count = int(np.searchsorted(ends, self._start + most_bytes)) + 1
        lengths = lengths[:count]
        return Frames(self._wire, ends[:count] - lengths, lengths)

    def drop(self, count: int) -> int:
        """Forget the first frames; return their bytes."""
        size = sum(self._lengths[self._first : self._first + count])
        self._first += count
        self._start += size
        return size


class Hold:
    """Messages of one stream in order of arrival; one owner.

    Attributes:
        held_bytes: What the messages take.
        messages: Messages ever put here.
        most_bytes: The most there ever was.

    Args:
        max_bytes: From here on it is full; whoever fills it stops then.
    """

    __slots__ = ("_blocks", "_count", "_max_bytes", "_next", "_past", "held_bytes", "messages",
                 "most_bytes")  # fmt: skip

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._blocks: deque[_Block] = deque()
        self._count = 0
        self._next: Place | None = None
        self._past = -1
        self.held_bytes = 0
        self.most_bytes = 0
        self.messages = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether the bound is reached."""
        return self.held_bytes >= self._max_bytes

    @property
    def roomy(self) -> bool:
        """Whether more than half of the room is free."""
        return self.held_bytes <= self._max_bytes // 2

    def follow(self, place: Place) -> None:
        """Let the next message be compared with this place in the stream."""
        self._next = place
        self._past = -1

    def append(self, message: bytes | memoryview) -> Place | None:
        """Keep a copy of a good frame, whose length is a multiple of 8.

        Returns:
            Where the frame begins, if something is missing before it; else None.
        """
        if not self._blocks or not self._blocks[-1].append(message):
            self._blocks.append(_Block(max(_BLOCK_BYTES, len(message))))
            self._blocks[-1].append(message)
        self._count += 1
        self.messages += 1
        self.held_bytes += len(message) + _LENGTH_BYTES
        self.most_bytes = max(self.most_bytes, self.held_bytes)
        schema, epoch, first, count = _NUMBERS.unpack_from(_numbers_of(message))
        if schema not in _SEQUENCED or epoch == self._past:
            return None
        return self._advance(Place(epoch, first), count)

    def oldest(self, most_bytes: int) -> Frames:
        """Return the oldest messages, valid until they are dropped: at least one if there is any.

        Args:
            most_bytes: Enough are these; the last message may exceed them.
        """
        return self._blocks[0].oldest(most_bytes) if self._blocks else _NONE

    def drop(self, count: int) -> None:
        """Forget the oldest messages, no more than ``oldest`` returned."""
        if count == 0:
            return
        self.held_bytes -= self._blocks[0].drop(count) + count * _LENGTH_BYTES
        self._count -= count
        if not len(self._blocks[0]):
            self._blocks.popleft()

    def _advance(self, place: Place, count: int) -> Place | None:
        expected, after = self._next, Place(place.epoch, place.seq + count)
        if expected is None or place.epoch != expected.epoch:
            self._past = -1 if expected is None else expected.epoch
            self._next = after
            return place
        self._next = max(expected, after)
        return place if place.seq > expected.seq else None


_NONE: Final = Frames(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))


def place_of(message: bytes | memoryview) -> Place:
    """Return where a good frame begins."""
    _, epoch, first, _ = _NUMBERS.unpack_from(_numbers_of(message))
    return Place(epoch, first)


def _numbers_of(message: bytes | memoryview) -> bytes:
    return bytes(message[_SCHEMA_AT : _SCHEMA_AT + _NUMBERS.size])
