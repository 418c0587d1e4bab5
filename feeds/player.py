"""Recorded logs as sources for a gateway: their ticks anew, or their frames as they are."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import SEQUENCED, Instruments, Schema, TickKind, Ticks
from feeds.codec import merge_instruments
from feeds.config import LogSourceConfig
from feeds.log_index import COUNT, FIRST_SEQ, SCHEMA, TS
from feeds.log_merge import merged_instruments, merged_records
from feeds.log_reader import LogReader
from feeds.sequencer import Sequenced

FRAME_ROW: Final = np.dtype([("ts_event", "<i8"), ("ts_recv", "<i8"), ("frame", "<i8")])
"""A frame's place in the schedule and in the log."""
_ROWS: Final = 4096


class LogSource:
    """The ticks of a log, to be paced and numbered again: a TickSource.

    Recorded heartbeats and gaps are left out: the gateway makes its own heartbeats.

    Attributes:
        instruments: The first definition of every instrument; another array, with later definitions
            in it, once a batch was yielded that follows them.

    Args:
        config: The log, and how fast.

    Raises:
        InputFileError: the log is not there.
        LogError: it is not a log.
    """

    def __init__(self, config: LogSourceConfig) -> None:
        self._reader = LogReader(config.path)
        self.instruments: Instruments = merged_instruments([self._reader])[0]
        self.speed = config.speed
        self.keep_times = config.times == "market"
        self.longest_gap_ns = config.longest_gap

    def batches(self) -> Iterator[Ticks]:
        """Yield TICK arrays, each reused for the next."""
        for schema, records in merged_records([self._reader]):
            if schema == Schema.INSTRUMENTS:
                self.instruments = merge_instruments(self.instruments, records)
                continue
            kinds = records["kind"]
            market = (kinds != TickKind.HEARTBEAT) & (kinds != TickKind.GAP)
            if market.any():
                yield records[market]


class FramePlayer:
    """The frames of a log, byte for byte, and when each is due.

    Args:
        config: The log, and how fast.

    Raises:
        InputFileError: the log is not there.
        LogError: it is not a log.
    """

    def __init__(self, config: LogSourceConfig) -> None:
        self._reader = LogReader(config.path)
        self._parts = list(self._reader.segments())
        self._ends = np.cumsum([len(part.offsets) for part in self._parts])
        self.instruments: Instruments = self._reader.instruments
        self.speed = config.speed
        self.longest_gap_ns = config.longest_gap
        others = np.flatnonzero(self._reader.frames[:, SCHEMA] != Schema.INSTRUMENTS)
        self.opening = int(others[0]) if len(others) else len(self._reader.frames)
        """Frames of definitions with which the log opens."""

    @property
    def epoch(self) -> int:
        """The log's first epoch, 0 if it has no numbered frame."""
        epochs = self._reader.epochs
        return epochs[0] if epochs else 0

    def rows(self) -> Iterator[npt.NDArray[np.void]]:
        """Yield the schedule of all but the opening frames, FRAME_ROW, shape (N,)."""
        times = _schedule(self._reader.frames)
        for start in range(self.opening, len(times), _ROWS):
            part = times[start : start + _ROWS]
            rows = np.zeros(len(part), FRAME_ROW)
            rows["ts_event"] = rows["ts_recv"] = part
            rows["frame"] = np.arange(start, start + len(part))
            yield rows

    def frame(self, place: int) -> Sequenced:
        """Return one frame by its place in the log."""
        k = int(np.searchsorted(self._ends, place, side="right"))
        part = self._parts[k]
        at = place - (int(self._ends[k - 1]) if k else 0)
        offset, length = int(part.offsets[at]), int(part.lengths[at])
        row = self._reader.frames[place]
        numbered = Schema(int(row[SCHEMA])) in SEQUENCED
        consumed = int(row[COUNT]) if numbered else 0
        frame = part.wire[offset : offset + length].tobytes()
        return Sequenced(int(row[FIRST_SEQ]), consumed, frame)


def _schedule(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return when each frame was received, ns; one without ticks goes with the next that has."""
    numbered = np.flatnonzero(np.isin(frames[:, SCHEMA], list(SEQUENCED)))
    if not len(numbered):
        return np.zeros(len(frames), np.int64)
    following = np.searchsorted(numbered, np.arange(len(frames)))
    following = np.minimum(following, len(numbered) - 1)
    times: npt.NDArray[np.int64] = frames[numbered[following], TS]
    return times
