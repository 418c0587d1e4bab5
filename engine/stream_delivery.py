"""Sends signals to subscriptions: as they are published, and to those behind a slice at a time.

Pure: every method runs to its end at once, so a subscription turns live between two signals and
never in the middle of one.
"""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from engine.stream_config import StreamConfig
from engine.stream_ring import SignalEntry, SignalRing
from engine.stream_session import Session
from engine.stream_subscription import Subscription, SubscriptionState

WRITE_COST: Final = 16
"""Signals that could be considered in the time of one write to a socket."""


class PageRequest(NamedTuple):
    """Rows a subscription needs from the journal before it can go on.

    Attributes:
        session: The client.
        subscription: Of the client.
        epoch: Where the rows begin.
        from_seq: Where the rows begin.
        is_past: Rows of later epochs, but those of the present one, are wanted too.
    """

    session: Session
    subscription: Subscription
    epoch: int
    from_seq: int
    is_past: bool = False


Place = tuple[Session, Subscription]


class Delivery:
    """The subscriptions of one stream, and where each of them stands.

    Args:
        config: Bounds.
        ring: The newest signals.
        counters: Where it counts; shared with the rest of the stream.
        wake: Called when ``work`` has something to do.
        wake_pager: Called when ``next_page`` has.
    """

    def __init__(
        self,
        config: StreamConfig,
        ring: SignalRing,
        counters: dict[str, int],
        wake: Callable[[], None],
        wake_pager: Callable[[], None],
    ) -> None:
        self._config = config
        self._ring = ring
        self._counters = counters
        self._wake = wake
        self._wake_pager = wake_pager
        self._live: dict[Subscription, Session] = {}
        self._ready: deque[Place] = deque()
        self._paging: deque[Place] = deque()
        self._writes = 0
        """Of ``publish`` since the last ``work``."""

    def reconfigure(self, config: StreamConfig) -> None:
        """Go by other bounds from now on."""
        self._config = config

    def publish(self, entry: SignalEntry) -> None:
        """Send the next signal to every live subscription whose filter it passes.

        A client without room is left behind at this signal and costs nothing more until it has.
        Where that takes more than ``fan_out`` writes in one turn of the loop, the rest of the
        clients are served in the next turns.
        """
        self._ring.append(entry)
        self._counters["published"] += 1
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
            self._counters["fell_behind"] += 1

    def _put_off(self, seq: int) -> None:
        """Leave subscriptions beyond ``fan_out`` to ``work``; a write costs a system call."""
        excess = self._writes - self._config.fan_out
        served = max(0, len(self._live) - excess)
        self._writes -= len(self._live) - served
        for subscription in list(islice(self._live, served, None)):
            session = self._live.pop(subscription)
            subscription.fall_behind(seq)
            self.schedule(session, subscription)
            self._counters["put_off"] += 1

    def rehearse(self, entry: SignalEntry) -> None:
        """Do what ``publish`` does for one live subscription, but for the sending."""
        for subscription in self._live:
            if subscription.accepting is None or subscription.accepting.accepts(entry):
                subscription.message(entry)
                return

    def schedule(self, session: Session, subscription: Subscription) -> None:
        """Put a subscription that is not live where it belongs now."""
        if session.closing or subscription.state is SubscriptionState.ENDED:
            return
        if subscription.caught_up(self._ring):
            subscription.state = SubscriptionState.LIVE
            self._live[subscription] = session
        elif session.link.paused:
            subscription.state = SubscriptionState.WAITING
        elif subscription.needs_page(self._ring) and not self._will_conflate(subscription):
            subscription.state = SubscriptionState.PAGING
            self._paging.append((session, subscription))
            self._wake_pager()
        else:
            subscription.state = SubscriptionState.READY
            self._ready.append((session, subscription))
            self._wake()

    def end(self, subscription: Subscription) -> None:
        """Send a subscription nothing any more."""
        subscription.state = SubscriptionState.ENDED
        self._live.pop(subscription, None)

    def resume(self, session: Session) -> None:
        """Go on with a client whose link has room again."""
        for subscription in session.subscriptions.values():
            if subscription.state is SubscriptionState.WAITING:
                self.schedule(session, subscription)

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
                self._counters["pages"] += 1
                if subscription.past is not None:
                    return PageRequest(session, subscription, *subscription.past, is_past=True)
                return PageRequest(session, subscription, self._ring.epoch, subscription.cursor)
        return None

    def take_page(self, request: PageRequest, page: list[SignalEntry]) -> None:
        """Go on with a subscription that waited for a page; empty if it could not be read."""
        session, subscription = request.session, request.subscription
        if subscription.state is not SubscriptionState.PAGING:
            return
        declared = subscription.gaps
        session.link.push_many(subscription.take_page(self._ring, page))
        self._counters["gaps"] += subscription.gaps - declared
        self.schedule(session, subscription)

    def _step(self, session: Session, subscription: Subscription, limit: int) -> None:
        if self._will_conflate(subscription):
            self._counters["conflations"] += 1
            messages = subscription.conflate(self._ring)
            self._counters["gaps"] += len(messages)
            session.link.push_many(messages)
        elif not subscription.needs_page(self._ring):
            session.link.push_many(subscription.advance(self._ring, limit))
        self.schedule(session, subscription)

    def _will_conflate(self, subscription: Subscription) -> bool:
        return subscription.on_slow == "conflate" and subscription.too_slow(self._ring)
