"""The client's side of the stream protocol, without a socket: what was received, what is missing.

``ClientState`` outlives connections. It knows where to resume, drops what it has seen, and turns
every loss, declared by the server or found by itself, into a ``Gap``.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import orjson
from msgspec import Struct

from engine.core.errors import StreamError
from engine.core.signals import Signal
from engine.stream_messages import (
    PROTOCOL,
    DataGap,
    ErrorMessage,
    GapMessage,
    GapReason,
    Heartbeat,
    SignalMessage,
    SnapshotMessage,
    StatusMessage,
    Subscribe,
    Subscribed,
    Welcome,
    decode_server,
)

KNOWN_IDS: Final = 8192
"""Signals, the newest, that are known again by their id."""
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises, of bytes that are no text and of brackets a thousand deep as well."""
_KNOWN_TYPES: Final = frozenset(
    {
        "welcome",
        "subscribed",
        "signal",
        "gap",
        "snapshot",
        "heartbeat",
        "status",
        "data_gap",
        "error",
    }
)


class Gap(Struct, frozen=True):
    """Signals this client was not sent.

    Attributes:
        epoch: The epoch in which the numbers count.
        from_seq: First sequence number of the range.
        to_seq: Last one; None if nobody knows.
        reason: A ``GapReason``. After ``conflated`` the newest signals of the range follow; every
            other one is bare.
        snapshot: Latest signal of each instrument and strategy up to the end of the gap, as far
            as known. Some may have been received before; their ``id`` tells.
    """

    epoch: int
    from_seq: int
    to_seq: int | None
    reason: str
    snapshot: tuple[Signal, ...] = ()


class Status(Struct, frozen=True):
    """The engine's state; ``ts`` is its wall clock in nanoseconds."""

    ts: int
    status: dict[str, Any]


Item = Signal | Gap | Status | DataGap


@dataclass(slots=True)
class ClientStats:
    """What a client has seen, over all its connections."""

    connects: int = 0
    failures: int = 0
    """Connections that were refused, broke or fell silent."""
    signals: int = 0
    duplicates: int = 0
    """Signals dropped: of a number that was dealt with, or of an id that was received before."""
    gaps: int = 0
    chain_breaks: int = 0
    heartbeats: int = 0
    unknown_messages: int = 0


@dataclass(slots=True)
class ClientState:
    """One subscription as its client sees it, across reconnects.

    Attributes:
        wish: The subscription asked for, without a place.
        position: Everything up to this sequence number is dealt with; None before the first
            connection, unless the user said where to start.
        epoch: The epoch ``position`` belongs to; None: whatever the server's is.
    """

    wish: Subscribe
    position: int | None = None
    epoch: int | None = None
    heartbeat_interval_s: float = 5.0
    stats: ClientStats = field(default_factory=ClientStats)
    _server_epoch: int = 0
    _prev: int = 0
    _subscribed: bool = False
    """On this connection: a heartbeat before that knows nothing of the place."""
    _gap: GapMessage | None = None
    _snapshot: list[Signal] = field(default_factory=list)
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Ids of the newest signals, oldest first."""

    def subscribe(self) -> Subscribe:
        """Return the message that begins, or resumes, the subscription on a new connection."""
        self._prev = 0
        self._gap = None
        self._subscribed = False
        self._snapshot.clear()
        if self.position is None or "signals" not in self.wish.topics:
            return self.wish
        from_seq = self.position + 1
        return msgspec.structs.replace(self.wish, from_seq=from_seq, epoch=self.epoch)

    def receive(self, data: bytes) -> list[Item]:
        """Return what a message means to the user: nothing, one item, or a gap before a signal.

        Raises:
            StreamError: the server speaks another protocol, or refuses the subscription.
        """
        try:
            message = decode_server(data)
        except MALFORMED as error:
            return self._skip(data, error)
        match message:
            case SignalMessage():
                return self._take_signal(message)
            case GapMessage():
                return self._take_gap(message)
            case SnapshotMessage():
                return self._take_snapshot(message)
            case DataGap():
                return [message]
            case StatusMessage():
                return [Status(message.ts, message.status)]
            case _:
                self._note(message)
                return []

    def _note(self, message: object) -> None:
        match message:
            case Heartbeat():
                self.stats.heartbeats += 1
                counts = self._subscribed and message.epoch == self.epoch
                if counts and self.position is not None:
                    self.position = max(self.position, message.sent_seq)
            case Welcome():
                self._greet(message)
            case Subscribed():
                self._subscribed = True
                if self.position is None:
                    self.position = message.next_seq - 1
                if self.epoch is None:
                    self.epoch = message.epoch
            case ErrorMessage():
                raise StreamError(f"the server refused: {message.code}: {message.message}")

    def _greet(self, welcome: Welcome) -> None:
        if welcome.protocol != PROTOCOL:
            raise StreamError(
                f"the server speaks protocol {welcome.protocol}; this client {PROTOCOL}"
            )
        self._server_epoch = welcome.epoch
        self.heartbeat_interval_s = welcome.heartbeat_interval_ms / 1000

    def _take_signal(self, message: SignalMessage) -> list[Item]:
        signal = message.signal
        if self.epoch is not None and signal.epoch != self.epoch:
            self.epoch, self.position = signal.epoch, 0
        if self.position is not None and signal.seq <= self.position:
            self.stats.duplicates += 1
            return []
        items: list[Item] = []
        if message.prev != self._prev:
            self.stats.chain_breaks += 1
            self.stats.gaps += 1
            first = (self.position or 0) + 1
            items.append(Gap(signal.epoch, first, signal.seq - 1, GapReason.CHAIN_BROKEN.value))
        self._prev = self.position = signal.seq
        if self._is_known(signal.id):
            self.stats.duplicates += 1
        else:
            self.stats.signals += 1
            items.append(signal)
        return items

    def _is_known(self, signal_id: str) -> bool:
        """Whether a signal came before, under whatever number; it is known from now on."""
        if signal_id in self._known:
            return True
        self._known[signal_id] = None
        if len(self._known) > KNOWN_IDS:
            self._known.popitem(last=False)
        return False

    def _take_gap(self, message: GapMessage) -> list[Item]:
        self._gap = message
        return [] if message.snapshot else self._declare()

    def _take_snapshot(self, message: SnapshotMessage) -> list[Item]:
        self._snapshot.extend(message.signals)
        return [] if message.more else self._declare()

    def _declare(self) -> list[Item]:
        """Give the user a gap once its snapshot is complete, and only then move on."""
        gap, snapshot = self._gap, tuple(self._snapshot)
        self._gap = None
        self._snapshot.clear()
        if gap is None:
            return []
        self.stats.gaps += 1
        if gap.reason == GapReason.EPOCH_CHANGED:
            self.position, self.epoch = 0, gap.next_epoch or self._server_epoch
        elif gap.reason == GapReason.AHEAD:
            self.position = gap.from_seq - 1
        elif gap.reason != GapReason.CONFLATED and gap.to_seq is not None:
            self.position = max(self.position or 0, gap.to_seq)
        return [Gap(gap.epoch, gap.from_seq, gap.to_seq, gap.reason, snapshot)]

    def _skip(self, data: bytes, error: Exception) -> list[Item]:
        """Pass over a message of a kind this client does not know yet; refuse a malformed one."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict) or message.get("type") in _KNOWN_TYPES:
            raise StreamError(f"the server sent a malformed message: {error}") from error
        self.stats.unknown_messages += 1
        return []
