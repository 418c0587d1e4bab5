"""Ports: the few interfaces where one room hands over to another."""

from collections.abc import Iterator
from typing import Protocol

from engine.core.records import Instruments, Ticks


class Clock(Protocol):
    """Reads the time; the two readings never mix."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never step back, of no particular origin."""
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
