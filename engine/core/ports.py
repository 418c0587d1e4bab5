"""Ports: the few interfaces where one room hands over to another."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from engine.core.records import Instruments, Ticks
from engine.core.signals import Refusal, Signal


class Clock(Protocol):
    """What time it is for the tick at hand."""

    def wall_ns(self, ts_recv_ns: int, ts_send_ns: int) -> int:
        """Return the time now on the tick's own scale; a replay stands at ``ts_recv_ns``."""
        ...

    def total_ns(self, ts_intended_ns: int, burst_started_ns: int) -> int:
        """Return the time since the tick was due; ``burst_started_ns`` is monotonic."""
        ...


class SignalSink(Protocol):
    """Takes what the pipeline decides, in order; must not wait."""

    def on_signal(self, signal: Signal) -> bool:
        """Take a signal that passed the risk gate; False if it cannot and the signal is void."""
        ...

    def on_refusal(self, refusal: Refusal) -> None:
        """Take a candidate that did not."""
        ...

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Take a fact worth keeping: a gap, a strategy that failed."""
        ...


class TickSource(Protocol):
    """Yields raw ticks in the order they arrived; cleaning and sequencing follow elsewhere."""

    @property
    def instruments(self) -> Instruments:
        """Definitions of every instrument the source will send, shape (I,)."""
        ...

    def batches(self) -> Iterator[Ticks]:
        """Yield structured arrays of TICK, shape (N,) with N >= 1, ``ts_recv`` not decreasing.

        The array may be reused for the next batch: copy what must stay.
        """
        ...
