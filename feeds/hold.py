"""Keeps the messages that came after a gap until what was missing has come; pure, bounded."""

import struct
from collections import deque
from typing import Final, NamedTuple

from engine.core.records import SEQUENCED

_NUMBERS: Final = struct.Struct("<HQQI")
_SCHEMA_AT: Final = 6
_SEQUENCED: Final = frozenset(int(schema) for schema in SEQUENCED)
_OVERHEAD_BYTES: Final = 64
"""What keeping one message costs besides its bytes."""


class Place(NamedTuple):
    """A place in a gateway's stream: before record ``seq`` of ``epoch``."""

    epoch: int
    seq: int


class Hold:
    """Messages of one stream in order of arrival; one owner.

    Attributes:
        held_bytes: What the messages take.
        messages: Messages ever put here.
        most_bytes: The most there ever was.

    Args:
        max_bytes: From here on it is full; whoever fills it stops then.
    """

    __slots__ = (
        "_max_bytes",
        "_messages",
        "_next",
        "_past",
        "held_bytes",
        "messages",
        "most_bytes",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._messages: deque[bytes] = deque()
        self._next: Place | None = None
        self._past = -1
        self.held_bytes = 0
        self.most_bytes = 0
        self.messages = 0

    def __len__(self) -> int:
        return len(self._messages)

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

    def append(self, message: bytes) -> Place | None:
        """Keep a good frame.

        Returns:
            Where the frame begins, if something is missing before it; else None.
        """
        self._messages.append(message)
        self.messages += 1
        self.held_bytes += len(message) + _OVERHEAD_BYTES
        self.most_bytes = max(self.most_bytes, self.held_bytes)
        schema, epoch, first, count = _NUMBERS.unpack_from(_numbers_of(message))
        if schema not in _SEQUENCED or epoch == self._past:
            return None
        return self._advance(Place(epoch, first), count)

    def take(self, most_bytes: int) -> list[bytes]:
        """Remove the oldest messages, at least one if there is any, and return them."""
        taken: list[bytes] = []
        size = 0
        while self._messages and (not taken or size < most_bytes):
            message = self._messages.popleft()
            taken.append(message)
            size += len(message)
        self.held_bytes -= size + len(taken) * _OVERHEAD_BYTES
        return taken

    def put_back(self, messages: list[bytes]) -> None:
        """Put messages that ``take`` returned back where they were."""
        self._messages.extendleft(reversed(messages))
        self.held_bytes += sum(map(len, messages)) + len(messages) * _OVERHEAD_BYTES

    def _advance(self, place: Place, count: int) -> Place | None:
        expected, after = self._next, Place(place.epoch, place.seq + count)
        if expected is None or place.epoch != expected.epoch:
            self._past = -1 if expected is None else expected.epoch
            self._next = after
            return place
        self._next = max(expected, after)
        return place if place.seq > expected.seq else None


def place_of(message: bytes | memoryview) -> Place:
    """Return where a good frame begins."""
    _, epoch, first, _ = _NUMBERS.unpack_from(_numbers_of(message))
    return Place(epoch, first)


def _numbers_of(message: bytes | memoryview) -> bytes:
    return bytes(message[_SCHEMA_AT : _SCHEMA_AT + _NUMBERS.size])
