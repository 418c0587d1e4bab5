"""The newest signals of a stream, encoded once, and the latest of each instrument and strategy.

Ring, journal and sessions share one immutable entry a signal, so that a client that lags costs
references and not copies.
"""

from collections.abc import Iterator

from msgspec import Struct

from engine.core.errors import StreamError
from engine.core.signals import Side, Signal
from engine.stream_messages import encode


class SignalEntry(Struct, frozen=True, gc=False):
    """A signal as the stream handles it: what filters ask for, and its JSON object."""

    epoch: int
    seq: int
    instrument: str
    strategy: str
    side: Side
    confidence: float
    body: bytes


def make_entry(signal: Signal) -> SignalEntry:
    """Encode a signal once for all clients."""
    return SignalEntry(
        signal.epoch, signal.seq, signal.instrument, signal.strategy, signal.side,
        signal.confidence, encode(signal),
    )  # fmt: skip


class SignalRing:
    """Signals ``oldest`` to ``head`` of one epoch, without a hole.

    Args:
        epoch: The stream's epoch.
        head: Sequence number of the newest signal so far, 0 if there is none.
        size: Signals kept; the oldest goes first.
        max_keys: (instrument, strategy) pairs in the snapshot; the pair first seen goes first.
    """

    def __init__(self, epoch: int, head: int, size: int, max_keys: int) -> None:
        self.epoch = epoch
        self.head = head
        self.oldest = head + 1
        self.keys_dropped = 0
        self._size = size
        self._max_keys = max_keys
        self._slots: list[SignalEntry | None] = [None] * size
        self._latest: dict[tuple[str, str], SignalEntry] = {}

    def append(self, entry: SignalEntry) -> None:
        """Take the next signal.

        Raises:
            StreamError: not of this epoch, or not the next sequence number.
        """
        if entry.seq != self.head + 1 or entry.epoch != self.epoch:
            raise StreamError(
                f"signal {entry.epoch}/{entry.seq} published, {self.epoch}/{self.head + 1} is next"
            )
        self._slots[entry.seq % self._size] = entry
        self.head = entry.seq
        self.oldest = max(self.oldest, entry.seq - self._size + 1)
        self._remember(entry)

    def preload(self, entries: list[SignalEntry]) -> None:
        """Fill an empty ring with the newest signals of the journal, in order.

        Those of earlier epochs, and those before a hole, are kept for the snapshot only.
        """
        for entry in entries:
            self._remember(entry)
        for entry in reversed(entries):
            if (entry.epoch, entry.seq) != (self.epoch, self.oldest - 1):
                break
            if self.head - entry.seq >= self._size:
                break
            self._slots[entry.seq % self._size] = entry
            self.oldest = entry.seq

    def between(self, start: int, stop: int) -> Iterator[SignalEntry]:
        """Yield signals ``start`` to ``stop - 1``.

        Raises:
            StreamError: the ring has let go of the first of them.
        """
        if start < self.oldest:
            raise StreamError(f"signal {start} left the ring, which begins at {self.oldest}")
        for seq in range(start, stop):
            entry = self._slots[seq % self._size]
            if entry is not None:
                yield entry

    def latest(self, before: int) -> list[SignalEntry]:
        """Return the latest of each instrument and strategy, except those from ``before`` on."""
        return [
            entry
            for entry in self._latest.values()
            if entry.epoch != self.epoch or entry.seq < before
        ]

    def latest_since(self, start: int) -> list[SignalEntry]:
        """Return the latest of each pair that lie from ``start`` on but before the ring."""
        found = [
            entry
            for entry in self._latest.values()
            if entry.epoch == self.epoch and start <= entry.seq < self.oldest
        ]
        return sorted(found, key=lambda entry: entry.seq)

    def _remember(self, entry: SignalEntry) -> None:
        latest = self._latest
        latest[entry.instrument, entry.strategy] = entry
        if len(latest) > self._max_keys:
            del latest[next(iter(latest))]
            self.keys_dropped += 1
