"""Gives ticks their epoch and sequence numbers and makes frames of whatever is ready; pure."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import MAX_FRAME_RECORDS, Instruments, Schema, Ticks
from feeds.codec import encode_frame, encode_instruments


class Sequenced(NamedTuple):
    """A frame and its place in the stream."""

    first_seq: int
    """Sequence number of the first record; of the next record if the frame has none of its own."""
    consumed: int
    """Sequence numbers it consumes."""
    frame: bytes


class Sequencer:
    """Numbers one stream; owned by its gateway.

    Attributes:
        next_seq: Sequence number of the next record.

    Args:
        gateway: The gateway's id.
        epoch: The stream epoch.
        first_seq: Sequence number of the first record.
    """

    __slots__ = ("epoch", "gateway", "next_seq")

    def __init__(self, gateway: int, epoch: int, first_seq: int = 1) -> None:
        self.gateway = gateway
        self.epoch = epoch
        self.next_seq = first_seq

    def ticks(
        self, ticks: Ticks, ts_send: int, intended: npt.NDArray[np.int64] | None = None
    ) -> list[Sequenced]:
        """Make frames of at most MAX_FRAME_RECORDS ticks.

        Args:
            ticks: TICK, shape (N,).
            ts_send: The gateway's wall clock, ns.
            intended: When each tick should have left, wall ns, shape (N,); a frame carries its
                first tick's. ``ts_send`` if not given.
        """
        made = []
        for at in range(0, len(ticks), MAX_FRAME_RECORDS):
            part = ticks[at : at + MAX_FRAME_RECORDS]
            frame = encode_frame(
                Schema.TICK,
                part,
                gateway=self.gateway,
                epoch=self.epoch,
                first_seq=self.next_seq,
                ts_send=ts_send,
                ts_intended=ts_send if intended is None else int(intended[at]),
            )
            made.append(Sequenced(self.next_seq, len(part), frame))
            self.next_seq += len(part)
        return made

    def definitions(self, instruments: Instruments, ts_send: int) -> list[Sequenced]:
        """Make the frames that define instruments; they consume no sequence numbers."""
        frames = encode_instruments(
            instruments,
            gateway=self.gateway,
            epoch=self.epoch,
            next_seq=self.next_seq,
            ts_send=ts_send,
        )
        return [Sequenced(self.next_seq, 0, frame) for frame in frames]
