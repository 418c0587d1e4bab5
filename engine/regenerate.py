"""What becomes of a signal that is made once more after a restart. Pure.

The journal is the record of what was decided. While the engine goes through ticks that it had
taken before, a signal whose id is journaled is recognised: booked, and not published again. One
that is not journaled, on a tick before the last that was decided, was refused live for want of
time, and is refused again. What lies beyond is missing: it is published late while it is valid,
and journaled as expired when it is not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from engine.core.ports import Clock, SignalSink
from engine.core.signals import Refusal, Signal
from engine.journal_schema import RESTART_GATE, Decision

EXPIRED: Final = "EXPIRED"


class Fate(StrEnum):
    """What becomes of a regenerated signal."""

    RECOGNISED = "recognised"
    """It is journaled: booked, nothing more."""
    OVERRULED = "overruled"
    """It was refused when it was due: refused again."""
    UNTOLD = "untold"
    """The journal does not reach so far back: booked, nothing more."""
    LATE = "late"
    """It is missing and valid: published."""
    EXPIRED = "expired"
    """It is missing and no longer valid: booked, and journaled as expired."""


class Ledger:
    """Knows what was decided before the restart.

    Args:
        decisions: From the journal, any order.
        horizons: Places, epoch and last number with a wall time, up to which all was decided.
        cut: The decisions are the newest only: until the first of them is met again, nothing is
            missing.
    """

    def __init__(
        self,
        decisions: Iterable[Decision],
        horizons: Iterable[tuple[int, int, int]] = (),
        *,
        cut: bool = False,
    ) -> None:
        self._known: set[str] = set()
        self._horizons: dict[int, tuple[int, int]] = {}
        self._cut = self._pruned = cut
        self.warming = False
        """Set it where the journal knows nothing of what is gone through."""
        for one in decisions:
            self._known.add(one.id)
            self._decide(one.tick_epoch, one.tick_seq, one.ts_event)
        for epoch, seq, ts_ns in horizons:
            self._decide(epoch, seq, ts_ns)

    def __len__(self) -> int:
        """Signals journaled."""
        return len(self._known)

    def knows(self, identity: str) -> bool:
        """Whether a signal of this id is journaled."""
        return identity in self._known

    def fate(self, signal: Signal, now_ns: int) -> Fate:
        """Say what becomes of a signal; ``now_ns`` is the wall clock on its tick's scale."""
        if signal.id in self._known:
            self._cut = False
            return Fate.RECOGNISED
        if self.warming or self._cut:
            return Fate.UNTOLD
        if self._was_decided(signal):
            return Fate.OVERRULED
        if self._pruned and signal.tick_seq <= self._horizon(signal)[0]:
            return Fate.UNTOLD  # it may have been journaled, and removed since
        return Fate.LATE if signal.valid_until > now_ns else Fate.EXPIRED

    def _was_decided(self, signal: Signal) -> bool:
        """Whether it was refused: it is not journaled. A score may come after later ticks' ones."""
        seq, ts_ns = self._horizon(signal)
        return signal.tick_seq <= seq and (signal.model is None or signal.valid_until <= ts_ns)

    def _horizon(self, signal: Signal) -> tuple[int, int]:
        return self._horizons.get(signal.tick_epoch, (-1, 0))

    def _decide(self, epoch: int, seq: int, ts_ns: int) -> None:
        if seq > self._horizons.get(epoch, (-1, 0))[0]:
            self._horizons[epoch] = seq, ts_ns


class RegeneratingClock:
    """It is the time at which the tick was received, as in a replay.

    Attributes:
        now_ns: The real time at the last question, on the tick's scale.

    Args:
        clock: The real clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now_ns = 0

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        """Return the tick's receive time."""
        self.now_ns = self._clock.wall_ns(ts_recv_ns, ts_send_ns)
        return ts_recv_ns

    def total_ns(self, ts_intended_ns: int, burst_started_ns: int) -> int:
        """Return how long ago the tick should have left the gateway."""
        return self._clock.total_ns(ts_intended_ns, burst_started_ns)


class RegeneratingSink:
    """Stands before the live sink until the engine has caught up.

    Refusals are counted only: those of before are journaled. Events of ticks taken before are
    left out for the same reason.

    Attributes:
        counts: Signals by their fate; ``refused``, ``void``.
        replaying: What is gone through was taken before the restart.

    Args:
        sink: The live one.
        ledger: What was decided before.
        clock: The pipeline's.
        next_place: Epoch and number of the next signal to be journaled.
        on_expired: Takes the refusal of an expired signal.
    """

    def __init__(
        self,
        sink: SignalSink,
        ledger: Ledger,
        clock: RegeneratingClock,
        next_place: Callable[[], tuple[int, int]],
        on_expired: Callable[[Refusal], None],
    ) -> None:
        self.ledger = ledger
        self.counts: Counter[str] = Counter()
        self.replaying = True
        self._sink = sink
        self._clock = clock
        self._next_place = next_place
        self._on_expired = on_expired

    def on_signal(self, signal: Signal) -> bool:
        """Recognise, publish late, or let expire; False if the signal is not to be booked."""
        now_ns = self._clock.now_ns
        fate = self.ledger.fate(signal, now_ns)
        if fate is Fate.LATE and not self._publish(signal, now_ns):
            self.counts["void"] += 1
            return False
        if fate is Fate.EXPIRED:
            self._on_expired(_expired(signal, now_ns))
        self.counts[fate.value] += 1
        return fate is not Fate.OVERRULED

    def on_refusal(self, refusal: Refusal) -> None:
        """Count it."""
        self.counts["refused"] += 1

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Pass it on, unless it was told before the restart."""
        if not self.replaying:
            self._sink.on_event(kind, ts_ns, fields)

    def _publish(self, signal: Signal, now_ns: int) -> bool:
        epoch, seq = self._next_place()
        late = msgspec.structs.replace(
            signal, epoch=epoch, seq=seq, ts_emit=now_ns, age_ns=now_ns - signal.ts_event, late=True
        )
        return self._sink.on_signal(late)


def _expired(signal: Signal, now_ns: int) -> Refusal:
    return Refusal(
        id=signal.id,
        instrument=signal.instrument,
        strategy=signal.strategy,
        side=signal.side,
        gate=RESTART_GATE,
        reason=EXPIRED,
        tick_epoch=signal.tick_epoch,
        tick_seq=signal.tick_seq,
        ts_event=signal.ts_event,
        ts_refused=now_ns,
        detail=f"valid until {signal.valid_until}",
    )
