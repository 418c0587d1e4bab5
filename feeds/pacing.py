"""When each tick of a recorded or simulated stream is due; pure, given the time.

The schedule runs on the monotonic clock, so that a step of the wall clock neither floods nor
starves the receiver. The two clocks meet only here, in the conversion of a due time to a wall time.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import TICK, Ticks

_NO_TICKS: Final = np.zeros(0, TICK)
_NO_TIMES: Final = np.zeros(0, np.int64)


class Paced(NamedTuple):
    """Ticks that are due, and when each was, wall ns, shape (N,)."""

    ticks: Ticks
    intended: npt.NDArray[np.int64]


class MarketTime(NamedTuple):
    """A heartbeat's times, ns."""

    ts_event: int
    ts_recv: int


class Pacer:
    """Plays batches of ticks along their receive times; owned by the gateway.

    Args:
        batches: Arrays of TICK in the order to be sent, each may be reused for the next; where
            ``ts_recv`` decreases a tick is due with the one before it.
        speed: How many times faster than recorded.
        keep_times: Leave the ticks' times as they are; otherwise move them to the gateway's clock,
            a tick's receive time to the time it is taken.
        longest_gap_ns: Longer waits (after scaling) are shortened to this.
    """

    def __init__(
        self,
        batches: Iterator[Ticks],
        *,
        speed: float = 1.0,
        keep_times: bool = False,
        longest_gap_ns: int | None = None,
    ) -> None:
        self._batches = batches
        self._speed = speed
        self._keep_times = keep_times
        self._longest_gap_ns = longest_gap_ns
        self._batch = _NO_TICKS
        self._due: npt.NDArray[np.float64] = np.zeros(0)
        self._at = 0
        self._start_ns: int | None = None
        self._last_due = 0.0
        self._last_recv: int | None = None
        self._delay = 0
        self._wall_ns = 0
        self._heartbeat = MarketTime(0, 0)
        self.exhausted = False

    def next_due_ns(self, mono_ns: int) -> int | None:
        """Return when the next tick is due, monotonic ns; None when there are no more."""
        if not self._refill():
            return None
        return self._anchor(mono_ns) + int(self._due[self._at])

    def take(self, mono_ns: int, wall_ns: int, most: int) -> Paced:
        """Take the ticks that are due, in order.

        Args:
            mono_ns: The monotonic clock.
            wall_ns: The wall clock at the same moment.
            most: Ticks to take at most; what is left is taken by the next call.

        Returns:
            A view of the source's batch, valid until the next call of any method.
        """
        if not self._refill():
            return Paced(_NO_TICKS, _NO_TIMES)
        elapsed = mono_ns - self._anchor(mono_ns)
        stop = int(np.searchsorted(self._due, elapsed, side="right"))
        stop = min(stop, self._at + most)
        ticks = self._batch[self._at : stop]
        if not len(ticks):
            return Paced(_NO_TICKS, _NO_TIMES)
        due = self._due[self._at : stop]
        self._at = stop
        self._remember(ticks[-1], float(due[-1]))
        if not self._keep_times:
            self._move(ticks, wall_ns)
        return Paced(ticks, wall_ns - (elapsed - due).astype(np.int64))

    def heartbeat_time(self, mono_ns: int, wall_ns: int) -> MarketTime | None:
        """Return a heartbeat's times, never decreasing; None while there is no time to tell."""
        if self._last_recv is None:
            return None
        if self._keep_times:
            self._refill()
            ts_recv = self._market_now_ns(mono_ns)
        else:
            ts_recv = self._forward_ns(wall_ns)
        return self._note(ts_recv - self._delay, ts_recv)

    def _anchor(self, mono_ns: int) -> int:
        if self._start_ns is None:
            self._start_ns = mono_ns
        return self._start_ns

    def _refill(self) -> bool:
        while self._at == len(self._batch):
            batch = next(self._batches, None)
            if batch is None:
                self.exhausted = True
                return False
            if len(batch):
                self._load(batch)
        return True

    def _load(self, batch: Ticks) -> None:
        first = int(batch["ts_recv"][0])
        before = first if self._last_recv is None else self._last_recv
        waits = np.maximum(np.diff(batch["ts_recv"], prepend=before), 0) / self._speed
        if self._longest_gap_ns is not None:
            waits = np.minimum(waits, self._longest_gap_ns)
        self._due = self._last_due + np.cumsum(waits)
        self._batch = batch
        self._at = 0

    def _remember(self, tick: np.void, due: float) -> None:
        self._last_due = due
        self._last_recv = int(tick["ts_recv"])
        self._delay = int(tick["ts_recv"]) - int(tick["ts_event"])
        if self._keep_times:
            self._note(int(tick["ts_event"]), int(tick["ts_recv"]))

    def _move(self, ticks: Ticks, wall_ns: int) -> None:
        now_ns = self._forward_ns(wall_ns)
        ticks["ts_event"] += now_ns - ticks["ts_recv"]
        ticks["ts_recv"] = now_ns
        self._note(int(ticks["ts_event"][-1]), now_ns)

    def _note(self, ts_event: int, ts_recv: int) -> MarketTime:
        last = self._heartbeat
        self._heartbeat = MarketTime(max(ts_event, last.ts_event), max(ts_recv, last.ts_recv))
        return self._heartbeat

    def _forward_ns(self, wall_ns: int) -> int:
        self._wall_ns = max(self._wall_ns, wall_ns)
        return self._wall_ns

    def _market_now_ns(self, mono_ns: int) -> int:
        """Return the market's time now: after the last tick, not after the next."""
        since = mono_ns - self._anchor(mono_ns) - self._last_due
        now_ns = (self._last_recv or 0) + max(int(since * self._speed), 0)
        if self._at < len(self._batch):
            now_ns = min(now_ns, int(self._batch["ts_recv"][self._at]))
        return now_ns
