"""One subscription: its filter, its place in the stream, and what it is told next. Pure.

A subscription has no queue of its own. It is a cursor into the ring: live while it stands at the
head, behind when its client has no room, and then it reads on from the ring, or in pages from the
journal, until it is at the head again.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from engine.core.signals import Side
from engine.stream_messages import GapMessage, GapReason, OnSlow, Subscribe, encode
from engine.stream_ring import SignalEntry, SignalRing

SNAPSHOT_PAGE: Final = 64
"""Signals in one snapshot message."""


class SignalFilter:
    """Which signals a subscription is sent: those that pass every condition given."""

    __slots__ = ("_instruments", "_min_confidence", "_sides", "_strategies")

    def __init__(
        self,
        instruments: Iterable[str] | None,
        strategies: Iterable[str] | None,
        sides: Iterable[Side] | None,
        min_confidence: float | None,
    ) -> None:
        self._instruments = None if instruments is None else frozenset(instruments)
        self._strategies = None if strategies is None else frozenset(strategies)
        self._sides = None if sides is None else frozenset(sides)
        self._min_confidence = min_confidence

    @classmethod
    def of(cls, wish: Subscribe) -> "SignalFilter | None":
        """Return the filter a client asks for; None lets every signal pass."""
        conditions = (wish.instruments, wish.strategies, wish.sides, wish.min_confidence)
        return None if conditions == (None,) * 4 else cls(*conditions)

    def accepts(self, entry: SignalEntry) -> bool:
        """Return whether the signal passes."""
        if self._instruments is not None and entry.instrument not in self._instruments:
            return False
        if self._strategies is not None and entry.strategy not in self._strategies:
            return False
        if self._sides is not None and entry.side not in self._sides:
            return False
        return self._min_confidence is None or entry.confidence >= self._min_confidence


class SubscriptionState(Enum):
    """Where a subscription stands; it is in the queue of its state and in no other."""

    LIVE = auto()
    """At the head: sent each signal as it is published."""
    READY = auto()
    """Behind, its client has room, and what comes next is in memory."""
    PAGING = auto()
    """Behind, its client has room, and what comes next must be read from the journal."""
    WAITING = auto()
    """Behind, and its client has no room."""
    ENDED = auto()


class Subscription:
    """A cursor into the stream with a filter.

    Args:
        name: The client's name for it.
        accepting: The filter, None for every signal.
        on_slow: What happens when it falls more than ``lag_bound`` signals behind.
        cursor: First sequence number not considered yet; meaningless while LIVE.
        max_lag: Signals a live subscription may fall behind.
    """

    __slots__ = (
        "_backlog", "_max_lag", "_prefix", "_snapshot", "accepting", "cursor", "gaps", "lag_bound",
        "name", "on_slow", "past", "prev", "state",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        accepting: SignalFilter | None,
        on_slow: OnSlow,
        cursor: int,
        max_lag: int,
    ) -> None:
        self.name = name
        self.accepting = accepting
        self.on_slow = on_slow
        self.cursor = cursor
        self.past: tuple[int, int] | None = None
        """Epoch and number that come next, while they lie in an epoch before the ring's."""
        self.prev = 0
        self.gaps = 0
        """Gaps declared so far."""
        self.state = SubscriptionState.WAITING
        self.lag_bound = max_lag
        self._max_lag = max_lag
        self._prefix = b'{"type":"signal","sub":' + encode(name) + b',"prev":'
        self._backlog: list[SignalEntry] = []
        self._snapshot: list[SignalEntry] = []

    def encode(self, entry: SignalEntry) -> bytes:
        """Return the message that sends a signal to this subscription, and count it as sent."""
        message = self.message(entry)
        self.prev = entry.seq
        return message

    def message(self, entry: SignalEntry) -> bytes:
        """Return the message that would send a signal to this subscription now."""
        return b'%b%d,"signal":%b}' % (self._prefix, self.prev, entry.body)

    def accepts(self, entry: SignalEntry) -> bool:
        """Return whether the signal passes the filter."""
        return self.accepting is None or self.accepting.accepts(entry)

    @property
    def position(self) -> int:
        """Sequence number up to which it is owed nothing, not even a snapshot."""
        if self._snapshot or self.past is not None:
            return 0
        return (self._backlog[0].seq if self._backlog else self.cursor) - 1

    def caught_up(self, ring: SignalRing) -> bool:
        """Return whether everything up to the head has been considered and sent."""
        owed = self._snapshot or self._backlog or self.past is not None
        return self.cursor > ring.head and not owed

    def needs_page(self, ring: SignalRing) -> bool:
        """Return whether what comes next lies before the ring."""
        earlier = self.past is not None or self.cursor < ring.oldest
        return earlier and not self._snapshot and not self._backlog

    def too_slow(self, ring: SignalRing) -> bool:
        """Return whether it is further behind than it may be, once what it is owed is sent."""
        owed = self._snapshot or self._backlog or self.past is not None
        return not owed and ring.head + 1 - self.cursor > self.lag_bound

    def fall_behind(self, seq: int) -> None:
        """Leave the head: ``seq`` is the first signal that was not sent for want of room."""
        self.cursor = seq
        self.lag_bound = self._max_lag

    def allow_catch_up(self, ring: SignalRing) -> None:
        """Let a subscription that starts in the past keep its present distance."""
        self.lag_bound = ring.head + 1 - self.cursor + self._max_lag

    def advance(self, ring: SignalRing, limit: int) -> list[bytes]:
        """Return the next messages out of memory, after considering at most ``limit`` signals."""
        if self._snapshot:
            return [self._snapshot_page()]
        if self._backlog:
            now, self._backlog = self._backlog[:limit], self._backlog[limit:]
            return [self.encode(entry) for entry in now]
        stop = min(self.cursor + limit, ring.head + 1)
        messages = [self.encode(e) for e in ring.between(self.cursor, stop) if self.accepts(e)]
        self.cursor = stop
        return messages

    def take_page(self, ring: SignalRing, page: list[SignalEntry]) -> list[bytes]:
        """Return the next messages out of a page of the journal that was read from the cursor.

        A hole, or the journal's end before the ring's begin, becomes a gap; what the page has
        after a hole is left for the next one, because the snapshot goes before it.
        """
        if self.past is not None:
            return self._take_past(ring, self.past, page)
        messages: list[bytes] = []
        start = self.cursor
        for entry in page:
            if not self.cursor <= entry.seq <= ring.head:
                continue
            if entry.seq > self.cursor:
                return [*messages, self._lose_until(ring, min(entry.seq, ring.oldest))]
            if self.accepts(entry):
                messages.append(self.encode(entry))
            self.cursor = entry.seq + 1
        if start == self.cursor < ring.oldest:
            messages.append(self._lose_until(ring, ring.oldest))
        return messages

    def _take_past(
        self, ring: SignalRing, past: tuple[int, int], page: list[SignalEntry]
    ) -> list[bytes]:
        """Go on through earlier epochs; once there is no more of them, turn to the ring's."""
        messages: list[bytes] = []
        epoch, due = past
        for entry in page:
            if entry.epoch != epoch:
                messages.append(self._change_epoch((epoch, due), entry.epoch, []))
                epoch, due = entry.epoch, 1
            if entry.seq > due:
                messages.append(self._gap(epoch, due, entry.seq - 1, GapReason.PRUNED, []))
            if self.accepts(entry):
                messages.append(self.encode(entry))
            due = entry.seq + 1
        self.past = (epoch, due) if page else None
        if not page:
            self.allow_catch_up(ring)
            latest = ring.latest(before=self.cursor)
            messages.append(self._change_epoch((epoch, due), ring.epoch, latest))
        return messages

    def conflate(self, ring: SignalRing) -> list[bytes]:
        """Jump to the head, keeping only the newest of each instrument and strategy.

        Returns:
            The gap that says so; nothing if nothing had to be left out.
        """
        start = max(self.cursor, ring.oldest)
        newest: dict[tuple[str, str], SignalEntry] = {}
        passed = 0
        for entry in [*ring.latest_since(self.cursor), *ring.between(start, ring.head + 1)]:
            if self.accepts(entry):
                key = (entry.instrument, entry.strategy)
                newest.pop(key, None)
                newest[key] = entry
                passed += 1
        complete = start == self.cursor and passed == len(newest)
        first, self.cursor = self.cursor, ring.head + 1
        self.lag_bound = self._max_lag
        self._backlog.extend(newest.values())
        if complete:
            return []
        return [self._gap(ring.epoch, first, ring.head, GapReason.CONFLATED, [])]

    def declare_start(self, ring: SignalRing, wish: Subscribe, reason: GapReason) -> bytes:
        """Return the gap before a subscription that cannot begin where the client asked."""
        asked = wish.from_seq or 0
        latest = ring.latest(before=self.cursor)
        if reason is GapReason.EPOCH_CHANGED:
            return self._change_epoch((wish.epoch or 0, asked), ring.epoch, latest)
        return self._gap(ring.epoch, self.cursor, asked - 1, reason, latest)

    def _change_epoch(
        self, place: tuple[int, int], next_epoch: int, snapshot: list[SignalEntry]
    ) -> bytes:
        epoch, due = place
        return self._gap(epoch, due, None, GapReason.EPOCH_CHANGED, snapshot, next_epoch)

    def _gap(
        self,
        epoch: int,
        from_seq: int,
        to_seq: int | None,
        reason: GapReason,
        snapshot: list[SignalEntry],
        next_epoch: int | None = None,
    ) -> bytes:
        self.gaps += 1
        self._snapshot = [entry for entry in snapshot if self.accepts(entry)]
        follows = bool(self._snapshot)
        return encode(
            GapMessage(self.name, epoch, from_seq, to_seq, reason.value, follows, next_epoch)
        )

    def _lose_until(self, ring: SignalRing, seq: int) -> bytes:
        first, self.cursor = self.cursor, seq
        return self._gap(ring.epoch, first, seq - 1, GapReason.PRUNED, ring.latest(before=seq))

    def _snapshot_page(self) -> bytes:
        page = self._snapshot[:SNAPSHOT_PAGE]
        self._snapshot = self._snapshot[SNAPSHOT_PAGE:]
        return b'{"type":"snapshot","sub":%b,"signals":[%b],"more":%b}' % (
            encode(self.name),
            b",".join(entry.body for entry in page),
            b"true" if self._snapshot else b"false",
        )
