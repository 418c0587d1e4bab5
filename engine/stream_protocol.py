"""The server's side of the stream protocol, without a socket, a clock or an await.

Messages go in as bytes; what a client is sent goes out through its ``Link``.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from engine.stream_auth import ANY_COUNTERS, OPEN, Denied, Grant, Scope
from engine.stream_commands import Commands
from engine.stream_config import StreamConfig
from engine.stream_delivery import Delivery
from engine.stream_messages import (
    PROTOCOL,
    ClientMessage,
    CloseCode,
    DataGap,
    ErrorMessage,
    GapReason,
    Heartbeat,
    Operate,
    Ping,
    Pong,
    SetState,
    StatusMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    decode_client,
    encode,
)
from engine.stream_ring import SignalRing
from engine.stream_session import Link, Session, TokenBucket
from engine.stream_subscription import SignalFilter, Subscription, SubscriptionState

COUNTERS: Final = (
    "commands",
    "connections",
    "disconnections",
    "refused_connections",
    "published",
    "messages_received",
    "bad_messages",
    "rate_limited",
    "gaps",
    "conflations",
    "fell_behind",
    "put_off",
    "pages",
    "page_reads",
    "page_errors",
    "evicted_slow",
    "data_gaps_unsent",
    "evicted_stalled",
    "handshakes_failed",
    "oversize_messages",
    *ANY_COUNTERS,
)

MAX_ERROR_CHARS: Final = 300


class StreamCore:
    """All sessions of one stream; owned by the loop thread.

    Args:
        config: Bounds.
        ring: The newest signals.
        wake: Called when ``delivery.work`` has something to do.
        wake_pager: Called when ``delivery.next_page`` has.
        commands: Carries out what operators ask for; by default such is refused.

    Attributes:
        delivery: Sends signals to the sessions' subscriptions.
    """

    def __init__(
        self,
        config: StreamConfig,
        ring: SignalRing,
        wake: Callable[[], None],
        wake_pager: Callable[[], None],
        commands: Commands | None = None,
    ) -> None:
        self.ring = ring
        self.sessions: set[Session] = set()
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._config = config
        self._commands = commands or Commands()
        self.delivery = Delivery(config, ring, self.counters, wake, wake_pager)

    def reconfigure(self, config: StreamConfig) -> None:
        """Go by other bounds from now on; those of the ring and of open connections stay."""
        self._config = config
        self.delivery.reconfigure(config)

    def connect(self, link: Link, now_ns: int, grant: Grant = OPEN) -> Session:
        """Begin a session and greet the client; ``now_ns`` is monotonic."""
        config = self._config
        bucket = TokenBucket(config.messages_per_s, config.message_burst, now_ns)
        session = Session(link, bucket, grant)
        self.sessions.add(session)
        self.counters["connections"] += 1
        interval_ms = max(1, config.heartbeat_interval // 1_000_000)
        link.push(encode(Welcome(PROTOCOL, self.ring.epoch, self.ring.head, interval_ms)))
        return session

    def disconnect(self, session: Session) -> None:
        """Forget a session; its link is gone."""
        if session in self.sessions:
            self.sessions.discard(session)
            self.counters["disconnections"] += 1
        session.closing = True
        for subscription in session.subscriptions.values():
            self.delivery.end(subscription)
        session.subscriptions.clear()

    def receive(self, session: Session, data: bytes, now_ns: int, wall_ns: int) -> None:
        """Act on one message of a client; ``now_ns`` is monotonic."""
        if session.closing:
            return
        self.counters["messages_received"] += 1
        if not session.bucket.take(now_ns):
            self.counters["rate_limited"] += 1
            self._refuse(session, "rate_limited", "too many messages a second")
            self._close(session, CloseCode.POLICY, "too many messages a second")
            return
        try:
            message = decode_client(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._count_bad(session, "bad_message", str(error))
            return
        if self._may(session, message, now_ns):
            self._answer(session, message, wall_ns)

    def expel(self, session: Session, why: Denied) -> None:
        """Part with a client whose right has ended, and tell it."""
        if not session.closing:
            self.counters["expelled"] += 1
            ended = "has expired" if why is Denied.EXPIRED else "was revoked"
            self._refuse(session, why.value, f"the token {ended}")
            self._close(session, CloseCode.ACCESS_ENDED, f"the token {ended}")

    def heartbeat(self, wall_ns: int, sessions: Iterable[Session] | None = None) -> None:
        """Send clients with room a heartbeat that says how far they have been served.

        Args:
            wall_ns: The time.
            sessions: Some of ``sessions``; all of them if None.
        """
        head = self.ring.head
        shared = encode(Heartbeat(self.ring.epoch, head, head, wall_ns))
        for session in self.sessions if sessions is None else sessions:
            if session.closing or session.link.paused:
                continue
            sent = self._sent_seq(session)
            own = Heartbeat(self.ring.epoch, head, sent, wall_ns)
            session.link.push(shared if sent == head else encode(own))

    def publish_status(self, status: dict[str, Any], wall_ns: int) -> None:
        """Send the engine's state to those who asked for it; skipped where there is no room."""
        listeners = [s for s in self.sessions if s.wants_status and not s.closing]
        if not listeners:
            return
        message = encode(StatusMessage(wall_ns, status))
        for session in listeners:
            if not session.link.paused:
                session.link.push(message)

    def publish_data_gap(self, gap: DataGap) -> None:
        """Tell those who asked for it of missing market data; skipped where there is no room."""
        message = encode(gap)
        for session in self.sessions:
            if session.wants_data and not session.closing:
                if session.link.paused:
                    self.counters["data_gaps_unsent"] += 1
                else:
                    session.link.push(message)

    def check_lag(self) -> None:
        """Disconnect clients that chose to be when they are too far behind."""
        for session in list(self.sessions):
            for subscription in session.subscriptions.values():
                if self._must_leave(subscription):
                    self.counters["evicted_slow"] += 1
                    self._close(session, CloseCode.TOO_SLOW, "too slow: resume with from_seq")
                    break

    def _must_leave(self, subscription: Subscription) -> bool:
        behind = subscription.state not in {SubscriptionState.LIVE, SubscriptionState.ENDED}
        return behind and subscription.on_slow == "disconnect" and subscription.too_slow(self.ring)

    def _sent_seq(self, session: Session) -> int:
        if not session.subscriptions:  # its wish, and its place, may be on their way
            return 0
        behind = [
            subscription.position
            for subscription in session.subscriptions.values()
            if subscription.state is not SubscriptionState.LIVE
        ]
        return min(behind, default=self.ring.head)

    def _may(self, session: Session, message: ClientMessage, now_ns: int) -> bool:
        """Return whether a client's token is good for a message; what it is not is refused."""
        command = isinstance(message, SetState | Operate)
        wanted = Scope.OPERATE if command else Scope.READ
        if wanted in session.grant.scopes or isinstance(message, Ping | Unsubscribe):
            return True
        self.counters["forbidden"] += 1
        if isinstance(message, SetState | Operate):
            self.counters["refused_commands"] += 1
            self._commands.forbidden(session, message, now_ns)
        self._count_bad(session, "forbidden", f"this token has not the scope {wanted.value!r}")
        return False

    def _answer(self, session: Session, message: ClientMessage, wall_ns: int) -> None:
        if isinstance(message, Subscribe):
            self._subscribe(session, message)
        elif isinstance(message, Unsubscribe):
            self._unsubscribe(session, message)
        elif isinstance(message, Ping):
            session.link.push(encode(Pong(message.id, wall_ns)))
        elif self._commands.carry_out(session, message):
            self.counters["commands"] += 1
        else:
            self._count_bad(session, "no_commands", "commands are not taken here")

    def _subscribe(self, session: Session, message: Subscribe) -> None:
        if message.id in session.names:
            self._count_bad(session, "subscription_exists", f"{message.id!r} is subscribed already")
            return
        limit = self._config.max_subscriptions
        if len(session.names) >= limit:
            self._count_bad(session, "too_many_subscriptions", f"at most {limit} a connection")
            return
        if "status" in message.topics:
            session.wants_status.add(message.id)
        if "data" in message.topics:
            session.wants_data.add(message.id)
        if "signals" in message.topics:
            self._begin(session, message)
        else:
            head = self.ring.head
            session.link.push(encode(Subscribed(message.id, self.ring.epoch, head, head + 1)))

    def _begin(self, session: Session, message: Subscribe) -> None:
        ring, max_lag = self.ring, self._config.max_lag
        cursor, reason = start_of(message, ring)
        subscription = Subscription(
            message.id, SignalFilter.of(message), message.on_slow, cursor, max_lag
        )
        subscription.allow_catch_up(ring)
        session.subscriptions[message.id] = subscription
        session.link.push(encode(Subscribed(message.id, ring.epoch, ring.head, cursor)))
        if reason is GapReason.EPOCH_CHANGED and (message.epoch or 0) < ring.epoch:
            subscription.past = message.epoch or 0, max(1, message.from_seq or 1)
        elif reason is not None:
            self.counters["gaps"] += 1
            session.link.push(subscription.declare_start(ring, message, reason))
        self.delivery.schedule(session, subscription)

    def _unsubscribe(self, session: Session, message: Unsubscribe) -> None:
        if message.id not in session.names:
            self._count_bad(session, "no_subscription", f"{message.id!r} is not subscribed")
            return
        subscription = session.subscriptions.pop(message.id, None)
        if subscription is not None:
            self.delivery.end(subscription)
        session.wants_status.discard(message.id)
        session.wants_data.discard(message.id)
        session.link.push(encode(Unsubscribed(message.id)))

    def _count_bad(self, session: Session, code: str, problem: str) -> None:
        self.counters["bad_messages"] += 1
        session.bad_messages += 1
        self._refuse(session, code, problem)
        if session.bad_messages >= self._config.max_errors:
            self._close(session, CloseCode.POLICY, "too many bad messages")

    def _refuse(self, session: Session, code: str, problem: str) -> None:
        session.link.push(encode(ErrorMessage(code, problem[:MAX_ERROR_CHARS])))

    def _close(self, session: Session, code: CloseCode, reason: str) -> None:
        if not session.closing:
            self.disconnect(session)
            session.link.shut(code, reason)


def start_of(message: Subscribe, ring: SignalRing) -> tuple[int, GapReason | None]:
    """Return the first sequence number of a new subscription, and why it is not the one asked for.

    After a change of epoch that is 1: all of the new epoch is news to the client.
    """
    if message.from_seq is None:
        return ring.head + 1, None
    if message.epoch is not None and message.epoch != ring.epoch:
        return 1, GapReason.EPOCH_CHANGED
    if message.from_seq > ring.head + 1:
        return ring.head + 1, GapReason.AHEAD
    return max(1, message.from_seq), None
