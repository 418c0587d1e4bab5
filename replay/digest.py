"""What a replay leaves: its signals' ids as one digest, refusals counted."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.core.signals import Refusal, Signal


class Collector:
    """A signal sink that keeps what the result and the digest need.

    Args:
        keep: Called with every signal, for whoever wants them whole.
    """

    def __init__(self, keep: Callable[[Signal], None] | None = None) -> None:
        self.refusals: Counter[str] = Counter()
        self.signals_by_strategy: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._ids: list[tuple[int, int, str, str, str]] = []
        self._epochs: dict[int, int] = {}
        self._keep = keep

    def on_signal(self, signal: Signal) -> bool:
        """Remember its id and place."""
        order = self._epochs.setdefault(signal.tick_epoch, len(self._epochs))
        place = (order, signal.tick_seq, signal.strategy, signal.instrument, signal.id)
        self._ids.append(place)
        self.signals_by_strategy[signal.strategy] += 1
        if self._keep is not None:
            self._keep(signal)
        return True

    def on_refusal(self, refusal: Refusal) -> None:
        """Count it by its reason."""
        self.refusals[refusal.reason] += 1

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Count it by its kind."""
        self.events[kind] += 1

    @property
    def signals(self) -> int:
        """How many signals there were."""
        return len(self._ids)

    def digest(self) -> str:
        """Return SHA-256, hex, over the ids ordered by tick sequence, strategy and instrument.

        Epochs of the recording come in the order in which they first made a signal.
        """
        digest = hashlib.sha256()
        for *_, identity in sorted(self._ids):
            digest.update(bytes.fromhex(identity))
        return digest.hexdigest()
