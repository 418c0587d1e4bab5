"""Keeps the way of a signal in the processor's caches.

Signals are rare beside ticks: between two of them the caches forget the code and the data of gate
and stream, and the next signal pays for it with tens of microseconds. So the last candidate is
judged again now and then, right after a burst of ticks that made no signal, and what comes of it
is thrown away: no counter, booking, identity or byte on a socket changes.
"""

import time

from engine.pipeline import Pipeline
from engine.stream import SignalStream


class Rehearsal:
    """Rehearses after bursts; belongs to the loop thread.

    Args:
        pipeline: Its last candidate is judged.
        stream: Encodes the signal for its clients.
        every_ns: Least time between two rehearsals, and since the last signal.

    Attributes:
        count: Rehearsals so far.
    """

    def __init__(self, pipeline: Pipeline, stream: SignalStream, every_ns: int) -> None:
        self._pipeline = pipeline
        self._stream = stream
        self._every_ns = every_ns
        self._signals = 0
        self._next_ns = 0
        self.count = 0

    def after_burst(self) -> None:
        """Rehearse if it is time."""
        pipeline, now = self._pipeline, time.perf_counter_ns()
        if pipeline.signals != self._signals:
            self._signals = pipeline.signals
            self._next_ns = now + self._every_ns
        if now < self._next_ns:
            return
        self._next_ns = now + self._every_ns
        signal = pipeline.rehearse()
        if signal is not None:
            self.count += 1
            self._stream.rehearse(signal)
