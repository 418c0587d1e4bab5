"""Keeps what the engine received: the accepted frames, verbatim, in a tick log of its own."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import FrameError, LogError
from engine.core.records import INSTRUMENT, Instruments
from feeds.burst import COUNTER_NAMES, BurstDecoder, Counter
from feeds.codec import decode_frame
from feeds.log_writer import LogWriter

_log = logging.getLogger(__name__)
_PLACES: Final = [i for i, name in enumerate(COUNTER_NAMES) if name.startswith("frame_")]
_RECORDS: Final = [Counter.TICKS, Counter.BARS]
_FAULTS: Final = slice(_PLACES[0], _PLACES[-1] + 1)
Write = Callable[[], object]


class Recorder:
    """Owned by the loop thread; a disk that refuses ends the recording, not the engine.

    Args:
        path: The log; a directory of segments.
        decoder: Whose counters tell whether a burst held bad frames, which are left out.
        epoch: Of this session, for the log's own definition frames.
        rotate_bytes: Size of a segment.

    Attributes:
        frames: Frames kept.
        left_out: Frames that a log does not take: definitions that contradict those before.
        failed: Why the recording ended, "" while it goes on.
    """

    def __init__(self, path: Path, decoder: BurstDecoder, *, epoch: int, rotate_bytes: int) -> None:
        self.path = path
        self.frames = 0
        self.left_out = 0
        self.failed = ""
        self._decoder = decoder
        self._bad = 0
        self._begun = False
        self._writer: LogWriter
        self._try(lambda: self._open(epoch, rotate_bytes))

    def _open(self, epoch: int, rotate_bytes: int) -> None:
        self._writer = LogWriter(
            self.path, np.zeros(0, INSTRUMENT), epoch=epoch, rotate_bytes=rotate_bytes
        )

    def define(self, instruments: Instruments) -> None:
        """Write definitions that did not come in a frame of the stream."""
        if not self.failed:
            self._try(lambda: self._writer.define(instruments))

    def keep(
        self,
        wire: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        start: int,
        stop: int,
    ) -> None:
        """Keep the messages [start, stop) that the decoder has just taken.

        The first records go to the operating system at once: an engine that is killed soon after
        has left its place in the stream, and its next life goes on from there.
        """
        if self.failed:
            return
        bad = self._bad_frames()
        doubtful = bad != self._bad
        self._bad = bad
        view = wire.data
        for index in range(start, stop):
            at = int(offsets[index])
            frame = view[at : at + int(lengths[index])]
            if not doubtful or _is_good(frame):
                self.frames += self._try(lambda frame=frame: self._writer.append_frame(frame))  # type: ignore[misc]  # bound now
        if not self._begun:
            self.flush()
            self._begun = bool(self._decoder.counters[_RECORDS].any())

    @property
    def place(self) -> tuple[str, int] | None:
        """The segment's name and the bytes kept in it so far; None once the recording ended."""
        return None if self.failed else (self._writer.segment, self._writer.bytes_written)

    def flush(self) -> None:
        """Hand what waits to the operating system."""
        if not self.failed:
            self._try(self._writer.flush)

    def close(self) -> None:
        """End the recording."""
        if not self.failed:
            self._try(self._writer.close)

    def _bad_frames(self) -> int:
        return sum(self._decoder.counters[_FAULTS].tolist())

    def _try(self, write: Write) -> bool:
        try:
            write()
        except LogError as error:
            self.failed = str(error)
            _log.exception("recording ended")
            return False
        except FrameError as error:
            self.left_out += 1
            _log.warning("left out of the recording: %s", error)
            return False
        return True


def _is_good(frame: memoryview) -> bool:
    try:
        return decode_frame(frame).length == len(frame)
    except FrameError:
        return False
