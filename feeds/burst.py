"""A burst of messages to contiguous ticks or bars: one compiled call does all of it.

Checked for each message: magic, version, schema, length, CRC, place in its stream, and for each
record the cleaning rules of ``feeds.tick_check``. What is wrong is counted and left out, and
nothing else is lost with it.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.records import BAR, MAX_FRAME_RECORDS, TICK, Bars, Schema, Ticks
from feeds.burst_kernel import decode_entry
from feeds.burst_layout import (
    EPOCH,
    GATEWAY,
    HOLD,
    NEXT,
    ORIGIN,
    STREAM_COLUMNS,
    Counter,
    places_nb,
)
from feeds.frame_check import FrameFault
from feeds.tick_check import TickFault

__all__ = ["COUNTER_NAMES", "HELD", "ORIGIN", "BurstDecoder", "Counter", "Gap", "Segment"]

HELD: Final = 255
"""Stands for the schema in a segment that ended before a gap, of a stream that holds there."""
_SCHEMAS: Final = (0, int(Schema.INSTRUMENTS), int(Schema.TICK), int(Schema.BAR), HELD)

COUNTER_NAMES: Final = (
    *(counter.name.lower() for counter in Counter),
    *(f"frame_{fault.name.lower()}" for fault in FrameFault),
    *(f"refused_{fault.name.lower()}" for fault in TickFault),
)
"""Name of each counter by its place."""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """What one decode call made.

    ``schema`` TICK or BAR: ``count`` records stand in ``ticks`` or ``bars``, with their origins.
    INSTRUMENTS: the last message consumed defines instruments (``decode_frame`` reads it).
    0: nothing came of the messages consumed. ``consumed`` may be 0 with a TICK segment: a gap
    before bars. HELD: the message after those consumed, if any were, comes after a gap, and its
    stream was told to hold there.
    """

    schema: int
    count: int
    consumed: int


class Gap(NamedTuple):
    """Records that did not come: ``missing`` of them from ``first_missing`` on.

    ``missing`` is 0 when a stream began a new epoch and how much of the old was lost is unknown.
    """

    gateway: int
    epoch: int
    first_missing: int
    missing: int


class BurstDecoder:
    """Owns the burst arrays and the state of the streams; one owner.

    Args:
        known_instruments: Instruments defined so far; set it when more are.
        capacity: Most records in one segment, more than MAX_FRAME_RECORDS.
        max_gateways: Most gateways at a time; frames of further ones are dropped and counted.
    """

    __slots__ = (
        "_counters", "_decode", "_gaps", "_lengths", "_offsets", "_seen", "_state", "_streams",
        "_words", "bars", "counters", "known_instruments", "origins", "ticks",
    )  # fmt: skip

    def __init__(
        self, known_instruments: int, capacity: int = 4096, max_gateways: int = 16
    ) -> None:
        if capacity <= MAX_FRAME_RECORDS:
            raise ValueError(f"capacity {capacity} must be above {MAX_FRAME_RECORDS}")
        self.known_instruments = known_instruments
        counters, gaps, streams, origins, ticks, bars, end = places_nb(capacity, max_gateways)
        state = self._state = np.zeros(end, np.int64)
        state[:counters] = capacity, max_gateways
        self._counters = state[counters:gaps]
        self._gaps = state[gaps:streams].reshape(-1, 4)
        self._streams = state[streams:origins].reshape(-1, STREAM_COLUMNS)
        self.counters: npt.NDArray[np.uint64] = self._counters.view(np.uint64)
        self.origins: npt.NDArray[np.void] = state[origins:ticks].view(ORIGIN)
        self.ticks: Ticks = state[ticks:bars].view(TICK)
        self.bars: Bars = state[bars:end].view(BAR)
        self._decode = decode_entry()
        self._seen: npt.NDArray[np.uint8] | None = None
        self._offsets = self._lengths = self._words = np.zeros(0, np.int64)

    def warm_up(self) -> None:
        """Compile the decoder, or load it from the cache, before anything is live."""
        none = np.zeros(0, np.int64)
        self.decode(np.zeros(8, np.uint8), none, none, 0, 0)

    def decode(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        start: int,
        stop: int,
    ) -> Segment:
        """Decode messages ``start`` to ``stop - 1`` until the schema changes or room ends.

        Args:
            wire: u1, shape (bytes,), its first byte at an address that is a multiple of 8.
            offsets: i8, shape (N,), contiguous, first byte of each message, a multiple of 8.
            lengths: i8, shape (N,), contiguous, bytes of each message.
            start: First message.
            stop: One past the last message.

        Raises:
            TypeError: offsets or lengths are not such arrays.
        """
        if wire is not self._seen:
            self._look_at(wire)
        if offsets is not self._offsets or lengths is not self._lengths:
            self._offsets, self._lengths = _checked(offsets), _checked(lengths)
        packed = self._decode(
            self._state, self._words, offsets, lengths, start, stop, self.known_instruments
        )
        return Segment(_SCHEMAS[packed & 0xFF], packed >> 8 & 0xFF_FFFF, packed >> 32)

    def take_gaps(self) -> list[Gap]:
        """Return the gaps found since the last call, at most 64; more were counted only."""
        listed = int(self._gaps[0, 0])
        self._gaps[0, 0] = 0
        return [Gap(*row) for row in self._gaps[1 : listed + 1].tolist()]

    def count_by_name(self) -> dict[str, int]:
        """Return every counter that is not 0 by its name."""
        return {
            name: value
            for name, value in zip(COUNTER_NAMES, self._counters.tolist(), strict=True)
            if value
        }

    def expected(self) -> dict[int, tuple[int, int]]:
        """Return the epoch and the next sequence number expected, by gateway."""
        return {
            int(row[GATEWAY]) - 1: (int(row[EPOCH]), int(row[NEXT]))
            for row in self._streams
            if row[GATEWAY] > 0 and row[EPOCH] >= 0
        }

    def expect(self, gateway: int, epoch: int, next_seq: int) -> None:
        """Let a stream go on at ``next_seq``: what came before it is a duplicate.

        Raises:
            ValueError: no room for one more gateway.
        """
        self._row(gateway)[EPOCH:HOLD] = (epoch, -1, next_seq)

    def hold(self, gateway: int, *, at_gaps: bool) -> None:
        """Stop before gaps of a gateway's stream, or open them, as is done unless told otherwise.

        Where decoding stopped, nothing of the stream has changed: hold no longer, and the same
        message opens the gap.

        Raises:
            ValueError: no room for one more gateway.
        """
        self._row(gateway)[HOLD] = at_gaps

    def _row(self, gateway: int) -> npt.NDArray[np.int64]:
        """Find a gateway's row, or take a free one, of which no frame has come yet."""
        for row in self._streams:
            if row[GATEWAY] == 0:
                row[:] = (gateway + 1, -1, -1, 0, 0)
            if row[GATEWAY] == gateway + 1:
                found: npt.NDArray[np.int64] = row
                return found
        raise ValueError(f"no room for gateway {gateway}")

    def _look_at(self, wire: npt.NDArray[np.uint8]) -> None:
        """Keep a read-only view, so that the compiled code has one signature for all sources."""
        self._seen = wire
        self._words = wire[: len(wire) // 8 * 8].view(np.int64)
        self._words.flags.writeable = False


def _checked(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return an array whose bytes the compiled code may take for what it expects."""
    if places.dtype != np.int64 or places.ndim != 1 or not places.flags.c_contiguous:
        raise TypeError(f"places must be contiguous int64, not {places.dtype} {places.shape}")
    return places
