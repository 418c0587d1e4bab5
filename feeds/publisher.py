"""From raw ticks to numbered frames in the ring and the spool: the gateway without its sockets."""

import numpy as np
import numpy.typing as npt

from engine.core.records import ALL_INSTRUMENTS, Instruments, TickKind, Ticks, empty_ticks
from feeds.cleaning import Cleaner
from feeds.codec import merge_instruments
from feeds.frame_ring import FrameRing
from feeds.pacing import MarketTime
from feeds.sequencer import Sequenced, Sequencer
from feeds.spool import Spool


class Publisher:
    """Cleans, numbers and frames; owned by the gateway, which sends what stands in the ring.

    Attributes:
        instruments: Every definition so far, shape (I,).
        frames: Frames made.
        heartbeats: Heartbeat ticks made.

    Args:
        sequencer: Numbers the stream.
        ring: Takes every frame.
        spool: Takes every frame, if there is one.
        instruments: Definitions at the start.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        ring: FrameRing,
        spool: Spool | None,
        instruments: Instruments,
    ) -> None:
        self.sequencer = sequencer
        self._ring = ring
        self._spool = spool
        self._cleaner = Cleaner(len(instruments))
        self._cleaner.clean(empty_ticks(1), 0)
        self._beat = empty_ticks(1)
        self._beat["kind"] = TickKind.HEARTBEAT
        self._beat["instrument"] = ALL_INSTRUMENTS
        self.instruments = instruments.copy()
        self.frames = 0
        self.heartbeats = 0

    @property
    def refused(self) -> dict[str, int]:
        """Ticks refused so far, by the name of the fault."""
        return self._cleaner.refused

    @property
    def seen(self) -> int:
        """Ticks that came from the source so far."""
        return self._cleaner.seen

    def define(self, instruments: Instruments, wall_ns: int) -> None:
        """Publish definitions, new or changed, shape (N,).

        Raises:
            FrameError: ids would not be dense, or a known id would change its symbol.
        """
        self.instruments = merge_instruments(self.instruments, instruments)
        self._cleaner.grow(len(self.instruments))
        for frame in self.sequencer.definitions(instruments, wall_ns):
            self.keep(frame)

    def publish(self, ticks: Ticks, intended: npt.NDArray[np.int64], wall_ns: int) -> int:
        """Clean ticks in place and frame what was kept.

        Args:
            ticks: TICK, shape (N,), writable.
            intended: When each should have left, wall ns, shape (N,), not decreasing. Where ticks
                were refused, a frame's intended time may be that of one of them: never too late.
            wall_ns: The wall clock.

        Returns:
            Ticks kept.
        """
        kept = self._cleaner.clean(ticks)
        for frame in self.sequencer.ticks(ticks[:kept], wall_ns, intended):
            self.keep(frame)
        return kept

    def heartbeat(self, time: MarketTime, wall_ns: int) -> None:
        """Frame one heartbeat."""
        self._beat["ts_event"] = time.ts_event
        self._beat["ts_recv"] = time.ts_recv
        for frame in self.sequencer.ticks(self._beat, wall_ns):
            self.keep(frame)
        self.heartbeats += 1

    def keep(self, frame: Sequenced) -> None:
        """Put one frame into the ring and the spool, in the order it is to be sent."""
        self._ring.push(frame)
        self.frames += 1
        if self._spool is not None:
            self._spool.append(frame)
