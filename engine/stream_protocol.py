"""The server's side of the stream protocol, without a socket, a clock or an await.

Messages go in as bytes; what a client is sent goes out through its ``Link``. Every method runs to
its end at once, so a subscription turns live between two signals and never in the middle of one.
"""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from engine.stream_auth import ANY_COUNTERS, OPEN, Denied, Grant, Scope
from engine.stream_config import StreamConfig
from engine.stream_messages import (
    PROTOCOL,
    ClientMessage,
    CloseCode,
    DataGap,
    ErrorMessage,
    GapReason,
    GateState,
    Heartbeat,
    Operate,
    Operated,
    Ping,
    Pong,
    SetState,
    StateMessage,
    StatusMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    decode_client,
    encode,
)
from engine.stream_ring import SignalEntry, SignalRing
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
    "page_errors",
    "evicted_slow",
    "data_gaps_unsent",
    "evicted_stalled",
    "handshakes_failed",
    "oversize_messages",
    *ANY_COUNTERS,
)

MAX_ERROR_CHARS: Final = 300
_TOLD_PER_S: Final = 1.0
_TOLD_BURST: Final = 20
WRITE_COST: Final = 16
"""Signals that could be considered in the time of one write to a socket."""


class PageRequest(NamedTuple):
    """Rows a subscription needs from the journal before it can go on."""

    session: Session
    subscription: Subscription
    epoch: int
    from_seq: int


Place = tuple[Session, Subscription]
OnOperate = Callable[[Operate, str, Callable[[Operated], None]], None]
"""Begins a command of the operator of this name; the callable takes the answer, at any time."""
OnSetState = Callable[[GateState, str], GateState]
"""Carries out a command of the operator of this name on the risk gate; returns the state before."""
OnForbidden = Callable[[str, str], None]
"""Is told who wanted to command what, and may not."""


class StreamCore:
    """All sessions of one stream.

    Owned by the loop thread. ``wake`` is called when ``work`` has something to do and
    ``wake_pager`` when ``next_page`` has. ``set_state`` and ``operate`` carry out commands; without
    them such are refused. ``on_forbidden`` is told of commands by who may not give them, at most
    one a second on average.
    """

    def __init__(
        self,
        config: StreamConfig,
        ring: SignalRing,
        wake: Callable[[], None],
        wake_pager: Callable[[], None],
        set_state: OnSetState | None = None,
        operate: OnOperate | None = None,
        on_forbidden: OnForbidden | None = None,
    ) -> None:
        self.ring = ring
        self.sessions: set[Session] = set()
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._config = config
        self._wake = wake
        self._wake_pager = wake_pager
        self._set_state = set_state
        self._operate = operate
        self._on_forbidden = on_forbidden
        self._told = TokenBucket(_TOLD_PER_S, _TOLD_BURST, 0)
        self._live: dict[Subscription, Session] = {}
        self._ready: deque[Place] = deque()
        self._paging: deque[Place] = deque()
        self._writes = 0
        """Of ``publish`` since the last ``work``."""

    def reconfigure(self, config: StreamConfig) -> None:
        """Go by other bounds from now on; those of the ring and of open connections stay."""
        self._config = config

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
            self._end(subscription)
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

    def publish(self, entry: SignalEntry) -> None:
        """Send the next signal to every live subscription whose filter it passes.

        A client without room is left behind at this signal and costs nothing more until it has.
        Where that takes more than ``fan_out`` writes in one turn of the loop, the rest of the
        clients are served in the next turns.
        """
        self.ring.append(entry)
        self.counters["published"] += 1
        if not self._writes:
            self._wake()
        self._writes += len(self._live)
        if self._writes > self._config.fan_out:
            self._put_off(entry.seq)
        left: list[Subscription] = []
        for subscription, session in self._live.items():
            link = session.link
            if link.paused:
                left.append(subscription)
            elif subscription.accepting is None or subscription.accepting.accepts(entry):
                link.push(subscription.encode(entry))
        for subscription in left:
            del self._live[subscription]
            subscription.fall_behind(entry.seq)
            subscription.state = SubscriptionState.WAITING
            self.counters["fell_behind"] += 1

    def _put_off(self, seq: int) -> None:
        """Leave subscriptions beyond ``fan_out`` to ``work``; a write costs a system call."""
        excess = self._writes - self._config.fan_out
        served = max(0, len(self._live) - excess)
        self._writes -= len(self._live) - served
        for subscription in list(islice(self._live, served, None)):
            session = self._live.pop(subscription)
            subscription.fall_behind(seq)
            self._schedule(session, subscription)
            self.counters["put_off"] += 1

    def rehearse(self, entry: SignalEntry) -> None:
        """Do what ``publish`` does for one live subscription, but for the sending."""
        for subscription in self._live:
            if subscription.accepting is None or subscription.accepting.accepts(entry):
                subscription.message(entry)
                return

    def resume(self, session: Session) -> None:
        """Go on with a client whose link has room again."""
        for subscription in session.subscriptions.values():
            if subscription.state is SubscriptionState.WAITING:
                self._schedule(session, subscription)

    def work(self, budget: int) -> bool:
        """Let subscriptions that are behind catch up out of memory, each a slice in turn.

        Args:
            budget: Signals considered before returning, rounded up to whole slices; a write
                counts as ``WRITE_COST`` of them at least.

        Returns:
            Whether more is left to do.
        """
        size = self._config.slice_signals
        self._writes = 0
        while budget > 0 and self._ready:
            session, subscription = self._ready.popleft()
            if subscription.state is SubscriptionState.READY:
                before = subscription.cursor
                self._step(session, subscription, size)
                considered = subscription.cursor - before
                short = 0 < considered < size
                budget -= max(considered, min(WRITE_COST, size)) if short else size
        return bool(self._ready)

    def next_page(self) -> PageRequest | None:
        """Return what to read from the journal next; answer it with ``take_page``."""
        while self._paging:
            session, subscription = self._paging.popleft()
            if subscription.state is SubscriptionState.PAGING:
                self.counters["pages"] += 1
                return PageRequest(session, subscription, self.ring.epoch, subscription.cursor)
        return None

    def take_page(self, request: PageRequest, page: list[SignalEntry]) -> None:
        """Go on with a subscription that waited for a page; empty if it could not be read."""
        session, subscription = request.session, request.subscription
        if subscription.state is not SubscriptionState.PAGING:
            return
        declared = subscription.gaps
        session.link.push_many(subscription.take_page(self.ring, page))
        self.counters["gaps"] += subscription.gaps - declared
        self._schedule(session, subscription)

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

    def _step(self, session: Session, subscription: Subscription, limit: int) -> None:
        if self._will_conflate(subscription):
            self.counters["conflations"] += 1
            messages = subscription.conflate(self.ring)
            self.counters["gaps"] += len(messages)
            session.link.push_many(messages)
        elif not subscription.needs_page(self.ring):
            session.link.push_many(subscription.advance(self.ring, limit))
        self._schedule(session, subscription)

    def _schedule(self, session: Session, subscription: Subscription) -> None:
        """Put a subscription that is not live where it belongs now."""
        if session.closing or subscription.state is SubscriptionState.ENDED:
            return
        if subscription.caught_up(self.ring):
            subscription.state = SubscriptionState.LIVE
            self._live[subscription] = session
        elif session.link.paused:
            subscription.state = SubscriptionState.WAITING
        elif subscription.needs_page(self.ring) and not self._will_conflate(subscription):
            subscription.state = SubscriptionState.PAGING
            self._paging.append((session, subscription))
            self._wake_pager()
        else:
            subscription.state = SubscriptionState.READY
            self._ready.append((session, subscription))
            self._wake()

    def _will_conflate(self, subscription: Subscription) -> bool:
        return subscription.on_slow == "conflate" and subscription.too_slow(self.ring)

    def _end(self, subscription: Subscription) -> None:
        subscription.state = SubscriptionState.ENDED
        self._live.pop(subscription, None)

    def _may(self, session: Session, message: ClientMessage, now_ns: int) -> bool:
        """Return whether a client's token is good for a message; what it is not is refused."""
        command = isinstance(message, SetState | Operate)
        wanted = Scope.OPERATE if command else Scope.READ
        if wanted in session.grant.scopes or isinstance(message, Ping | Unsubscribe):
            return True
        self.counters["forbidden"] += 1
        if isinstance(message, SetState | Operate):
            what = message.command if isinstance(message, Operate) else f"set_state {message.state}"
            self.counters["refused_commands"] += 1
            if self._on_forbidden is not None and self._told.take(now_ns):
                self._on_forbidden(session.grant.name, what)
        self._count_bad(session, "forbidden", f"this token has not the scope {wanted.value!r}")
        return False

    def _answer(self, session: Session, message: ClientMessage, wall_ns: int) -> None:
        if isinstance(message, Subscribe):
            self._subscribe(session, message)
        elif isinstance(message, Unsubscribe):
            self._unsubscribe(session, message)
        elif isinstance(message, Ping):
            session.link.push(encode(Pong(message.id, wall_ns)))
        elif isinstance(message, Operate):
            self._begin_command(session, message)
        else:
            self._change_state(session, message)

    def _change_state(self, session: Session, message: SetState) -> None:
        if self._set_state is None:
            self._count_bad(session, "no_commands", "commands are not taken here")
            return
        previous = self._set_state(message.state, session.grant.name)
        self.counters["commands"] += 1
        session.link.push(encode(StateMessage(message.id, message.state, previous)))

    def _begin_command(self, session: Session, message: Operate) -> None:
        if self._operate is None:
            self._count_bad(session, "no_commands", "commands are not taken here")
            return
        self.counters["commands"] += 1

        def answer(operated: Operated) -> None:
            if not session.closing:
                session.link.push(encode(operated))

        self._operate(message, session.grant.name, answer)

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
        if reason is not None:
            self.counters["gaps"] += 1
            session.link.push(subscription.declare_start(ring, message, reason))
        self._schedule(session, subscription)

    def _unsubscribe(self, session: Session, message: Unsubscribe) -> None:
        if message.id not in session.names:
            self._count_bad(session, "no_subscription", f"{message.id!r} is not subscribed")
            return
        subscription = session.subscriptions.pop(message.id, None)
        if subscription is not None:
            self._end(subscription)
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
