"""In which order live decided: a score may be judged after candidates of later ticks. Pure.

Limits that count signals depend on that order, so a replay that is to be compared follows it: it
asks a model at once, and holds the answer until live had its own.
"""

from typing import Final, NamedTuple

from engine.core.candidates import Candidate
from engine.core.signals import Signal
from engine.model_desk import Pending
from replay.analysis.diff_journal import Told, ToldRefusal
from runtime.asking import Answer

MAX_HELD: Final = 4_096
"""Most answers held; beyond that the oldest are judged at once."""
_NO_SEQ: Final = 1 << 62
Key = tuple[int, int, int]
"""When live decided, ns on the scale of the ticks' receive times; then the signal's epoch and
number, or the highest for what is no signal."""
_Place = tuple[str, str, int, int]


class Held(NamedTuple):
    """One answer that waits for its turn."""

    key: Key
    answer: Answer


class LiveOrder:
    """Tells when live decided about a candidate, as far as the journal does.

    Args:
        told: The journal.
    """

    def __init__(self, told: Told) -> None:
        self._keys: dict[_Place, Key] = {}
        for refusal in told.rows:
            self._keys.setdefault(_place(refusal), (refusal.ts_refused, _NO_SEQ, 0))
        latest, epoch = 0, -1
        for signal in told.signals.values():
            if signal.late:  # made again in the order of the ticks, by the engine's next life
                self._keys[_place(signal)] = (signal.ts_recv, signal.epoch, signal.seq)
                continue
            latest = signal.ts_emit if signal.epoch != epoch else max(latest, signal.ts_emit)
            epoch = signal.epoch
            self._keys[_place(signal)] = (latest, signal.epoch, signal.seq)

    def key_of(self, place: _Place) -> Key | None:
        """Return when a strategy's candidate on a tick was decided; None if that is not known."""
        return self._keys.get(place)


class HeldAnswers:
    """The answers that wait for their turn, and who goes before whom.

    Args:
        order: When live decided.
    """

    def __init__(self, order: LiveOrder) -> None:
        self._order = order
        self._held: list[Held] = []
        self._took_ns = 0

    def hold(self, place: _Place, pending: Pending, answer: Answer) -> bool:
        """Hold an answer; False if live judged it at once, too.

        One of which nothing is known took as long as the one before.
        """
        received_ns = pending.candidate.ts_recv
        key = self._order.key_of(place)
        if key is None:
            key = received_ns + self._took_ns, _NO_SEQ, 0
        else:
            self._took_ns = max(0, key[0] - received_ns)
        if key[0] <= received_ns:
            return False
        self._held.append(Held(key, answer))
        return True

    def due_before(self, place: _Place, candidate: Candidate) -> list[Answer]:
        """Return, in order, the answers that live judged before another candidate."""
        known = self._order.key_of(place)
        return self._take(known if known is not None else (candidate.ts_recv, 0, 0))

    def due_at(self, ts_recv: int) -> list[Answer]:
        """Return, in order, the answers judged before any record of a time; all if too many."""
        if len(self._held) > MAX_HELD:
            return self.rest()
        return self._take((ts_recv, 0, 0)) if self._held else []

    def rest(self) -> list[Answer]:
        """Return all of them, in order."""
        return self._take((1 << 63, 0, 0))

    def _take(self, upto: Key) -> list[Answer]:
        due = [one for one in self._held if one.key < upto]
        if due:
            self._held = [one for one in self._held if one.key >= upto]
        return [one.answer for one in sorted(due, key=lambda one: one.key)]


def _place(one: Signal | ToldRefusal) -> _Place:
    return one.strategy, one.instrument, one.tick_epoch, one.tick_seq
