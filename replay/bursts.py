"""Recordings into bursts: what the live engine's decoder would have made of the same frames."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Instruments, Schema, TickKind, id_bound
from feeds.burst import ORIGIN, BurstDecoder, Counter
from feeds.codec import decode_frame
from feeds.log_index import COUNT, SCHEMA
from feeds.log_merge import merged_instruments, merged_records, refuse_overlaps
from feeds.log_reader import LogReader

FAULT_PREFIXES: Final = ("frame_", "refused_")
Define = Callable[[Instruments], None]


class Burst(NamedTuple):
    """Records of one schema, TICK or BAR, with their origins; valid until the next is taken."""

    schema: Schema
    records: npt.NDArray[np.void]
    origins: npt.NDArray[np.void]
    size: int


class ReceiveOrder:
    """Counts the records that were received before the one that stands before them."""

    def __init__(self) -> None:
        self.steps_back = 0
        self._last: np.int64 | None = None

    def see(self, records: npt.NDArray[np.void]) -> None:
        """Take the next records, shape (N,)."""
        times = records["ts_recv"]
        if not len(times):
            return
        self.steps_back += int(np.count_nonzero(times[1:] < times[:-1]))
        self.steps_back += self._last is not None and bool(times[0] < self._last)
        self._last = times[-1]


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
        self._order = ReceiveOrder()
        self.decoder.warm_up()

    def __iter__(self) -> Iterator[Burst]:
        decoder = self.decoder
        for wire, offsets, lengths, _file in self.reader.segments():
            at, stop = 0, len(offsets)
            while at < stop:
                segment = decoder.decode(wire, offsets, lengths, at, stop)
                at += segment.consumed
                if segment.schema == Schema.INSTRUMENTS:
                    self._learn(wire, int(offsets[at - 1]))
                elif segment.schema == Schema.TICK:
                    yield self._burst(Schema.TICK, decoder.ticks, segment.count)
                elif segment.schema == Schema.BAR:
                    yield self._burst(Schema.BAR, decoder.bars, segment.count)

    def _burst(self, schema: Schema, records: npt.NDArray[np.void], count: int) -> Burst:
        self._order.see(records[:count])
        return Burst(schema, records, self.decoder.origins, count)

    def _learn(self, wire: npt.NDArray[np.uint8], offset: int) -> None:
        instruments = decode_frame(wire.data, offset).records
        self._define(instruments)
        known = max(self.decoder.known_instruments, id_bound(instruments))
        self.decoder.known_instruments = known

    def faults(self) -> dict[str, int]:
        """Return what is wrong with the log, as far as it was read, see ``count_faults``."""
        return count_faults([self.reader], [self.decoder], self._order)

    def depth_records(self) -> int:
        """Return how many depth records were passed over so far."""
        return int(self.decoder.counters[Counter.DEPTH_RECORDS])


class MergedBursts:
    """Several logs in time order, numbered as the merged log would be.

    Args:
        readers: The logs.
        define: Called with the first definition of every instrument, and with later ones in place.

    Raises:
        InputFileError: a log holds bars, which are played one log at a time, or what another
            one holds too.
    """

    def __init__(self, readers: Sequence[LogReader], define: Define) -> None:
        for reader in readers:
            if count_records(reader, Schema.BAR):
                raise InputFileError(reader.path, "it holds bars; replay it by itself")
        refuse_overlaps(readers)
        self._readers = readers
        self._order = ReceiveOrder()
        self._decoders = [BurstDecoder(0) for _ in readers]
        self._define = define
        self._epoch = readers[0].epochs[0] if readers[0].epochs else 0
        define(merged_instruments(readers)[0])

    def __iter__(self) -> Iterator[Burst]:
        seq = 1
        for schema, records in merged_records(self._readers, self._decoders):
            if schema == Schema.INSTRUMENTS:
                self._define(records)
                continue
            gap = records["kind"] == TickKind.GAP
            numbers = np.where(gap, np.maximum(records["size"], 1), 1).astype(np.int64)
            origins = np.zeros(len(records), ORIGIN)
            origins["epoch"] = self._epoch
            origins["seq"] = seq + np.cumsum(numbers) - numbers
            seq += int(numbers.sum())
            self._order.see(records)
            yield Burst(Schema.TICK, records, origins, len(records))

    def faults(self) -> dict[str, int]:
        """Return what is wrong with the logs, as far as they were read, see ``count_faults``."""
        return count_faults(self._readers, self._decoders, self._order)

    def depth_records(self) -> int:
        """Return how many depth records were passed over so far."""
        counters = (decoder.counters for decoder in self._decoders)
        return sum(int(one[Counter.DEPTH_RECORDS]) for one in counters)


def count_faults(
    readers: Sequence[LogReader], decoders: Sequence[BurstDecoder], order: ReceiveOrder
) -> dict[str, int]:
    """Add up what decoders refused, what readers stepped over before, and what is out of order.

    ``frame_damaged``: stretches in which no frame was found; ``torn_bytes``: of cut tails;
    ``recv_time_back``: records that were received before the one before them.
    """
    counted: Tally[str] = Tally()
    for decoder in decoders:
        by_name = decoder.count_by_name().items()
        counted.update({name: n for name, n in by_name if name.startswith(FAULT_PREFIXES)})
    counted["frame_damaged"] = sum(len(reader.damage) for reader in readers)
    counted["torn_bytes"] = sum(reader.cut_bytes for reader in readers)
    counted["recv_time_back"] = order.steps_back
    return {name: count for name, count in counted.items() if count}


def count_instruments(readers: Sequence[LogReader]) -> int:
    """Return how many instruments the logs have when they are played together."""
    return len(readers[0].instruments if len(readers) == 1 else merged_instruments(readers)[0])


def count_records(reader: LogReader, *schemas: Schema) -> int:
    """Return how many records of the given schemas a log holds."""
    frames = reader.frames
    return int(frames[np.isin(frames[:, SCHEMA], schemas), COUNT].sum())
