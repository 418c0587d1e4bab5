"""Recordings into bursts: what the live engine's decoder would have made of the same frames."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from feeds.log_merge import merged_ticks
from feeds.log_reader import LogReader

from engine.core.records import Instruments, Schema, Ticks
from feeds.burst import ORIGIN, BurstDecoder
from feeds.codec import decode_frame

FAULT_PREFIXES: Final = ("frame_", "refused_")
Define = Callable[[Instruments], None]


class Burst(NamedTuple):
    """Records of one schema, TICK or BAR, with their origins; valid until the next is taken."""

    schema: Schema
    records: npt.NDArray[np.void]
    origins: npt.NDArray[np.void]
    size: int


class LogBursts:
    """One log through the very decoder of the live path: CRC, sequence and record checks.

    Args:
        reader: The log.
        capacity: Most records of a burst.
        define: Called with the definitions that open the log and with every later change, in
            place.
    """

    def __init__(self, reader: LogReader, capacity: int, define: Define) -> None:
        self.reader = reader
        self.decoder = BurstDecoder(0, capacity)
        self._define = define

    def __iter__(self) -> Iterator[Burst]:
        decoder = self.decoder
        for wire, offsets, lengths in self.reader.segments():
            at, stop = 0, len(offsets)
            while at < stop:
                segment = decoder.decode(wire, offsets, lengths, at, stop)
                at += segment.consumed
                if segment.schema == Schema.INSTRUMENTS:
                    self._learn(wire, int(offsets[at - 1]))
                elif segment.schema == Schema.TICK:
                    yield Burst(Schema.TICK, decoder.ticks, decoder.origins, segment.count)
                elif segment.schema == Schema.BAR:
                    yield Burst(Schema.BAR, decoder.bars, decoder.origins, segment.count)

    def _learn(self, wire: npt.NDArray[np.uint8], offset: int) -> None:
        instruments = decode_frame(wire.data, offset).records
        self._define(instruments)
        highest = int(instruments["id"].max(initial=-1)) + 1
        self.decoder.known_instruments = max(self.decoder.known_instruments, highest)

    def faults(self) -> dict[str, int]:
        """Return what was refused in the log, by reason."""
        counted = self.decoder.count_by_name().items()
        return {name: count for name, count in counted if name.startswith(FAULT_PREFIXES)}


class MergedBursts:
    """Several logs in time order, as the merged log would be."""

    def __init__(self, readers: Sequence[LogReader], define: Define) -> None:
        self._merge = merged_ticks(readers)
        define(self._merge.instruments)

    def __iter__(self) -> Iterator[Burst]:
        seq = 1
        for ticks in self._merge:
            yield self._burst(ticks, seq)
            seq += len(ticks)

    def _burst(self, ticks: Ticks, seq: int) -> Burst:
        origins = np.zeros(len(ticks), ORIGIN)
        origins["epoch"] = self._merge.epoch
        origins["seq"] = np.arange(seq, seq + len(ticks))
        return Burst(Schema.TICK, ticks, origins, len(ticks))

    def faults(self) -> dict[str, int]:
        """Return what was refused in the logs, by reason."""
        return self._merge.faults()
