"""Fills the gaps of the gateway's stream: holds what came after one, asks for it, goes on in order.

No socket, timer or clock in here: times are arguments, and what is asked goes through a callable.
``engine.recovery_timer`` calls ``on_turn`` when it is time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.ingest import Ingest
from feeds.answer import Frames, good_frames, read_frames
from feeds.burst import Counter
from feeds.config import LinkConfig
from feeds.control_messages import ErrorReply, Resend, Resent, Welcome
from feeds.hold import Hold, Place, place_of
from feeds.recovery import UNASKED, Recovery, Rules
from latency.histogram import StageHistograms

_SLICE_BYTES: Final = 256 << 10
"""Of held messages decoded in one turn of the loop."""
_GATEWAY_AT: Final = slice(48, 52)
_TELL_NS: Final = 1_000_000_000
_MAX_NOTED: Final = 4096

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class LinkRecovery:
    """Owned by the loop thread; hooks itself into the duty cycle.

    Only the gateway at the other end of the control channel is asked. Gaps of other gateways are
    opened at once, and their frames never wait.

    Attributes:
        caught_up: Set once everything is taken that had been sent when the gateway first said
            welcome, or is known to be gone.
        on_caught_up: Called when that happens for the first time.
        recovered: Records that came again and were new.

    Args:
        ingest: The duty cycle.
        config: How patient it is, and how much it holds.
        ask: Sends a request; False if it cannot now.
        heard_ns: Tells when the gateway was last heard, monotonic ns.
        wake: Asks for a call of ``on_turn`` soon.
        pause: Stops the receiver, whose peers then keep what they have; or lets it go on.
    """

    def __init__(
        self,
        ingest: Ingest,
        config: LinkConfig,
        *,
        ask: Callable[[Resend], bool],
        heard_ns: Callable[[], int],
        wake: Callable[[], None],
        pause: Callable[[bool], None],
    ) -> None:
        self._ingest = ingest
        self._decoder = ingest.decoder
        self._enabled = config.resend
        self._ask = ask
        self._heard_ns = heard_ns
        self._wake = wake
        self._pause = pause
        self._peer_timeout_ns = config.peer_timeout
        self._recovery = Recovery(
            Rules(
                config.resend_timeout,
                config.resend_give_up,
                config.resend_gone,
                config.resend_behind,
            )
        )
        self._hold = Hold(config.hold_bytes)
        self._times = StageHistograms(("gap", "held"))
        self._noted: deque[tuple[Place, int]] = deque(maxlen=_MAX_NOTED)
        self._gateway: int | None = None
        self._welcomed = False
        self._holding = False
        self._blocked: Place | None = None
        self._paused = False
        self._began_ns = 0
        self._told_ns = -_TELL_NS
        self._untold: dict[str, int] = {}
        self.caught_up = asyncio.Event()
        self.on_caught_up: Callable[[], None] | None = None
        self.recovered = 0
        self.pauses = 0
        ingest.on_hold = self._on_hold

    @property
    def holding(self) -> bool:
        """Whether the stream waits for something that is missing."""
        return self._holding

    @property
    def counters(self) -> dict[str, Any]:
        """What happened so far, and is held now; times in nanoseconds."""
        summary = self._times.summary()
        return {
            **self._recovery.counters,
            "recovered": self.recovered,
            "holding": self._holding,
            "held_messages": len(self._hold),
            "held_bytes": self._hold.held_bytes,
            "most_held_bytes": self._hold.most_bytes,
            "pauses": self.pauses,
            "paused": self._paused,
            **{
                name: {"count": one.count, "p50": one.p50, "p99": one.p99, "max": one.max}
                for name, one in summary.items()
            },
        }

    def problems(self, mono_ns: int) -> list[str]:
        """Say if the stream has waited long for something that is missing."""
        waited_ns = mono_ns - self._began_ns
        if not self._holding or waited_ns < _TELL_NS:
            return []
        return [f"waiting for missing data for {waited_ns / 1e9:.0f} s"]

    def begin_at(self, gateway: int, epoch: int, next_seq: int) -> None:
        """Let a gateway's stream go on at a number; call it before any of its frames came.

        At the welcome, what was sent since then is asked for at once: the rest of that epoch, and
        all of what came after it. ``caught_up`` is set when it is there.

        Args:
            gateway: The gateway's id.
            epoch: The stream epoch.
            next_seq: The number after the last one known.

        Raises:
            ValueError: no room for one more gateway.
        """
        self._gateway = gateway
        self._decoder.expect(gateway, epoch, next_seq)
        self._decoder.hold(gateway, at_gaps=self._enabled)

    def on_welcome(self, welcome: Welcome, mono_ns: int) -> None:
        """Learn which stream there is; at the first time, fetch what was sent before."""
        self._recovery.on_welcome(mono_ns)
        if welcome.gateway != self._gateway:
            self._follow(welcome.gateway)
        place = self._place()
        first, self._welcomed = not self._welcomed, True
        if first and place is not None and self._enabled and not self._holding:
            goal = Place(welcome.epoch, welcome.next_seq)
            if place.epoch != goal.epoch or place.seq < goal.seq:
                self._start(place, goal, mono_ns)
        if not self._holding:
            self._note_caught_up()
        self._go_on(mono_ns)

    def on_resent(self, head: Resent | ErrorReply, frames: bytes, mono_ns: int) -> None:
        """Take an answer of the gateway: frames that lie one after the other."""
        if isinstance(head, ErrorReply):
            self._recovery.on_error(head.reason, mono_ns)
        elif self._recovery.expects(head):
            self._ingest.guard(lambda: self._take_answer(head, frames, mono_ns))
        self._go_on(mono_ns)

    def on_head(self, epoch: int, next_seq: int, mono_ns: int) -> None:
        """Learn how far the stream has got of the gateway that is asked."""
        place = self._place() if self._holding else None
        self._recovery.on_head(place, Place(epoch, next_seq), mono_ns)
        self._go_on(mono_ns)

    def on_turn(self, mono_ns: int) -> int | None:
        """Do what is due; return when to be back, in nanoseconds, None: when something comes."""
        self._ingest.guard(lambda: self._step(mono_ns))
        if not self._holding:
            return None
        return 0 if self._can_release() else self._recovery.wait_ns(mono_ns)

    def _go_on(self, mono_ns: int) -> None:
        self._ingest.guard(lambda: self._step(mono_ns))
        if self._holding:
            self._wake()

    def _follow(self, gateway: int) -> None:
        """Recover another gateway's stream from now on."""
        if self._gateway is not None:
            self._recovery.abandon(UNASKED)
            self._decoder.hold(self._gateway, at_gaps=False)
        self._gateway = gateway
        self._decoder.hold(gateway, at_gaps=self._enabled)

    def _place(self) -> Place | None:
        expected = self._decoder.expected().get(-1 if self._gateway is None else self._gateway)
        return None if expected is None else Place(*expected)

    def _start(self, place: Place, goal: Place, mono_ns: int) -> None:
        self._holding = True
        self._blocked = None
        self._began_ns = mono_ns
        self._ingest.divert = self._divert
        if not len(self._hold):
            self._hold.follow(goal)
        self._note(goal, mono_ns)
        self._recovery.begin(place, goal, mono_ns, self._heard_ns())
        if mono_ns - self._told_ns >= _TELL_NS:
            self._tell("link_recovering", place, goal)
            self._told_ns = mono_ns

    def _on_hold(
        self, wire: Bytes, offsets: Places, lengths: Places, at: int, count: int, mono_ns: int
    ) -> None:
        """Decoding stopped before message ``at``: keep it and what follows, and ask."""
        place = self._place()
        if place is None:
            return
        self._hold.follow(place)
        goals = self._keep(wire, offsets, lengths, at, count, mono_ns)
        self._start(place, goals[0], mono_ns)
        self._extend(goals[1:], mono_ns)
        self._step(mono_ns)
        self._wake()

    def _divert(
        self, wire: Bytes, offsets: Places, lengths: Places, at: int, count: int, mono_ns: int
    ) -> None:
        """Keep what comes while something is missing before it."""
        self._extend(self._keep(wire, offsets, lengths, at, count, mono_ns), mono_ns)
        if self._hold.full and not self._paused:
            self._paused = True
            self.pauses += 1
            self._pause(True)
        self._step(mono_ns)
        self._wake()

    def _extend(self, goals: list[Place], mono_ns: int) -> None:
        """Ask for further gaps together; those of a later epoch when their turn comes."""
        for goal in goals:
            self._note(goal, mono_ns)
            if goal.epoch == self._recovery.goal.epoch:
                self._recovery.extend(goal, mono_ns)

    def _keep(
        self, wire: Bytes, offsets: Places, lengths: Places, at: int, count: int, mono_ns: int
    ) -> list[Place]:
        """Hold this stream's good frames, take the others; return the places after gaps."""
        good = good_frames(wire, offsets[at:count], lengths[at:count])
        owner = (self._gateway or 0).to_bytes(4, "little")
        view, goals, others = wire.data, [], []
        for index in range(at, count):
            begin = int(offsets[index])
            message = view[begin : begin + int(lengths[index])]
            if good[index - at] and message[_GATEWAY_AT] == owner:
                goals.append(self._hold.append(message))
            else:
                others.append(index)
        if others:
            rows = np.array(others)
            self._ingest.take(wire, offsets[rows], lengths[rows], 0, len(rows), mono_ns)
        return [goal for goal in goals if goal is not None]

    def _take_answer(self, head: Resent, body: bytes, mono_ns: int) -> None:
        frames = read_frames(body, head.gateway, head.epoch)
        if frames is None or head.gateway != self._gateway:
            self._recovery.refuse(mono_ns)
            return
        self._recovery.take(head, mono_ns, empty=not body)
        if body:  # while the receiver is paused nothing else tells that data flow
            self._ingest.last_data_ns = mono_ns
        before = self._taken()
        self._feed(*frames, mono_ns)
        self.recovered += self._taken() - before
        self._unnote(mono_ns)

    def _taken(self) -> int:
        """Return how many records were delivered so far."""
        counters = self._decoder.counters
        return int(counters[Counter.TICKS]) + int(counters[Counter.BARS])

    def _feed(self, wire: Bytes, offsets: Places, lengths: Places, mono_ns: int) -> int:
        """Take messages, opening what is known to be gone; return the first that must wait."""
        at, count = 0, len(offsets)
        take = self._ingest.take
        while (at := take(wire, offsets, lengths, at, count, mono_ns)) < count:
            place = place_of(_message(Frames(wire, offsets, lengths), at))
            if not self._recovery.covers(place):
                return at
            self._open(place, lambda at=at: take(wire, offsets, lengths, at, at + 1, mono_ns))  # type: ignore[misc] # bound now
            at += 1
        return count

    def _open(self, place: Place, act: Callable[[], int]) -> None:
        """Take one message and the gap before it."""
        assert self._gateway is not None
        self._ingest.gap_facts = self._facts(place)
        self._decoder.hold(self._gateway, at_gaps=False)
        try:
            act()
        finally:
            self._decoder.hold(self._gateway, at_gaps=self._enabled)
            self._ingest.gap_facts = {}

    def _facts(self, place: Place) -> dict[str, Any]:
        """Say why a gap before a place is one, and what of the epoch before it is missing."""
        facts: dict[str, Any] = {"reason": self._recovery.why}
        expected = self._place()
        if expected is not None and expected.epoch != place.epoch:
            facts["previous_epoch"] = expected.epoch
            facts["previous_first_missing"] = expected.seq
            facts["previous_missing"] = self._recovery.missing_from(expected, place.epoch)
        return facts

    def _can_release(self) -> bool:
        return bool(len(self._hold)) and self._blocked != self._recovery.cursor

    def _step(self, mono_ns: int) -> None:
        """Ask if it is time, release a slice, and go on as usual once nothing is held."""
        if not self._holding:
            return
        request = self._recovery.due(mono_ns, gone=self._is_gone(mono_ns))
        if request is not None and not self._ask(request):
            self._recovery.unsent(mono_ns)
        if self._can_release():
            self._release(mono_ns)
        if self._recovery.done and not len(self._hold):
            self._finish(mono_ns)

    def _is_gone(self, mono_ns: int) -> bool:
        """Whether nothing has come from the gateway lately, neither frames nor answers."""
        last_ns = max(self._heard_ns(), self._ingest.last_data_ns)
        return mono_ns - last_ns > self._peer_timeout_ns

    def _release(self, mono_ns: int) -> None:
        frames = self._hold.oldest(_SLICE_BYTES)
        reached = count = len(frames.offsets)
        try:
            reached = self._feed(*frames, mono_ns)
        finally:
            self._hold.drop(reached)
        self._blocked = None
        if reached < count:
            self._blocked = self._recovery.cursor
            if self._recovery.done:
                self._begin_again(place_of(_message(frames, reached)), mono_ns)
        if self._paused and self._hold.roomy:
            self._paused = False
            self._pause(False)

    def _begin_again(self, goal: Place, mono_ns: int) -> None:
        """Ask for what is missing before a held message, which no goal has led to."""
        place = self._place()
        if place is not None:
            self._recovery.begin(place, goal, mono_ns, self._heard_ns())
            self._blocked = self._recovery.cursor if not self._recovery.done else None

    def _finish(self, mono_ns: int) -> None:
        self._holding = False
        self._blocked = None
        self._ingest.divert = None
        self._unnote(mono_ns)
        self._times.record_value(1, mono_ns - self._began_ns)
        place = self._place()
        if self._told_ns >= self._began_ns:
            self._tell("link_recovered", place, self._recovery.goal)
        if self._paused:
            self._paused = False
            self._pause(False)
        if self._welcomed:
            self._note_caught_up()

    def _note_caught_up(self) -> None:
        if not self.caught_up.is_set():
            self.caught_up.set()
            if self.on_caught_up is not None:
                self.on_caught_up()

    def _note(self, goal: Place, mono_ns: int) -> None:
        self._noted.append((goal, mono_ns))

    def _unnote(self, mono_ns: int) -> None:
        """Time the gaps that are no more."""
        while self._noted and (not self._holding or self._recovery.covers(self._noted[0][0])):
            self._times.record_value(0, mono_ns - self._noted.popleft()[1])

    def _tell(self, kind: str, place: Place | None, goal: Place) -> None:
        fields = {
            "gateway": self._gateway,
            "place": None if place is None else list(place),
            "goal": list(goal),
            "recovered": self.recovered,
            "recoveries": self._recovery.counters["recoveries"],
        }
        self._ingest.pipeline.judge.sink.on_event(kind, 0, fields)


def _message(frames: Frames, at: int) -> memoryview:
    begin = int(frames.offsets[at])
    return frames.wire.data[begin : begin + int(frames.lengths[at])]
