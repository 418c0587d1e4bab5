"""Where a live pipeline's decisions go: the journal, then the stream."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from engine.core.errors import JournalError
from engine.core.signals import Refusal, Signal
from engine.journal import Journal
from engine.stream import SignalStream

_log = logging.getLogger(__name__)


class LiveSink:
    """Publishes what the journal has room for, then journals it.

    The journal's room is reserved by asking first: the loop thread alone fills it. So no client
    ever sees what the journal cannot take, and none waits for the journal.
    """

    def __init__(self, journal: Journal, stream: SignalStream) -> None:
        self._journal = journal
        self._stream = stream
        self.refusals: Counter[str] = Counter()

    def on_signal(self, signal: Signal) -> bool:
        """Publish and journal; False if the journal has no room."""
        if not self._journal.accepting:
            try:
                self._journal.append_signal(signal)
            except JournalError as error:
                _log.error("signal %s is void: %s", signal.id, error)
            return False
        self._stream.publish(signal)
        self._journal.append_signal(signal)
        return True

    def on_refusal(self, refusal: Refusal) -> None:
        """Count by reason; the journal samples."""
        self.refusals[refusal.reason] += 1
        self._journal.append_refusal(refusal)

    def on_expired(self, refusal: Refusal) -> None:
        """Count and journal a signal that expired during a restart, sampled or not."""
        self.refusals[refusal.reason] += 1
        self._journal.append_expired(refusal)

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Journal a fact; ``ts_ns`` 0 means now."""
        _log.info("%s: %s", kind, fields)
        self._journal.append_event(kind, fields, ts_ns or time.time_ns())
