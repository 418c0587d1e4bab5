"""What the terminal view knows: the last status, the newest signals, a minute of rates.

Pure: items of the stream and monotonic times go in; ``engine.view`` draws what is here.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.client_state import Gap, Item, Status
from engine.core.signals import Signal
from engine.view_events import ViewEvent, model_events

KEPT_SIGNALS: Final = 200
KEPT_EVENTS: Final = 50
RATE_SPAN_S: Final = 60
"""Length of the sparkline of ticks a second."""
STALE_S: Final = 3.5
"""Without status for so long the numbers shown are old."""
USUAL_COUNTERS: Final = frozenset(
    {"frames", "bytes", "ticks", "bars", "definitions", "raw_frames", "depth_records"}
)
"""Input counters that rise while all is well; any other one tells of something odd."""
LINK_COUNTERS: Final = {
    "recovered": "records_sent_again",
    "timeouts": "requests_unanswered",
    "bad_answers": "damaged_answers",
    "given_up_unanswered": "recoveries_given_up",
    "held_messages": "messages_held",
    "pauses": "receiver_pauses",
}
"""Counters of the link's recovery that are shown, and how they are called."""


@dataclass(slots=True)
class ViewState:
    """Everything the view shows; one task owns it.

    Attributes:
        url: Where the stream is.
        began_s: Monotonic time the view began to wait, seconds.
        note: A line for the bottom, for example where the logs are.
        status: The engine's state, as ``StatusBoard.status`` made it; empty before the first.
        status_s: Monotonic time of ``status``, seconds.
        signals: The newest signals, newest first.
        received: Signals taken.
        missed: Signals known to be missing, those of unknown number counted as one.
        events: What became of models, newest first.
        noticed: Events noticed since the beginning.
        rates: (monotonic seconds, ticks a second) of the last minute, oldest first.
        changes: Rises whenever something that is shown changed.
    """

    url: str
    began_s: float
    note: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    status_s: float = 0.0
    signals: deque[Signal] = field(default_factory=lambda: deque(maxlen=KEPT_SIGNALS))
    received: int = 0
    missed: int = 0
    rates: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=600))
    events: deque[ViewEvent] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    noticed: int = 0
    changes: int = 0

    def take(self, item: Item, now_s: float) -> None:
        """Take one item of the stream in."""
        self.changes += 1
        match item:
            case Signal():
                self.received += 1
                self.signals.appendleft(item)
            case Status():
                self._notice(model_events(self.status, item.status, item.ts))
                self._take_status(item.status, now_s)
            case Gap():
                self.missed += 1 if item.to_seq is None else item.to_seq - item.from_seq + 1

    def _take_status(self, status: Mapping[str, Any], now_s: float) -> None:
        self.status = status
        self.status_s = now_s
        self.rates.append((now_s, float(status.get("ticks_per_s", 0.0))))
        while self.rates[0][0] < now_s - RATE_SPAN_S:
            self.rates.popleft()

    def _notice(self, events: list[ViewEvent]) -> None:
        self.events.extendleft(events)
        self.noticed += len(events)

    def silent_s(self, now_s: float) -> float:
        """Return for how long no status came."""
        return now_s - (self.status_s if self.status else self.began_s)

    def stale(self, now_s: float) -> bool:
        """Return whether the engine was there and is not heard now."""
        return bool(self.status) and self.silent_s(now_s) > STALE_S

    def odd_input(self) -> dict[str, int]:
        """Return the counters of input and link that tell of something odd and are not 0."""
        counts = self.status.get("input", {})
        odd = {name: n for name, n in counts.items() if n and name not in USUAL_COUNTERS}
        link = self.status.get("recovery", {})
        return odd | {told: link[name] for name, told in LINK_COUNTERS.items() if link.get(name)}

    def rate_slots(self, slots: int) -> list[float | None]:
        """Return the mean rate of each of ``slots`` equal parts of the last minute, oldest first.

        None where nothing was measured; times are relative to the last status.
        """
        sums = [0.0] * slots
        counts = [0] * slots
        for time_s, rate in self.rates:
            age_share = (self.status_s - time_s) / RATE_SPAN_S
            slot = max(0, slots - 1 - int(age_share * slots))
            sums[slot] += rate
            counts[slot] += 1
        return [s / n if n else None for s, n in zip(sums, counts, strict=True)]
