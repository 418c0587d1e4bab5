"""Finds frames in a gateway's spool again, those of its earlier runs too."""

from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from engine.core.errors import HeqisError
from engine.core.records import HEADER_BYTES, SEQUENCED, Schema
from feeds.frame_check import find_frame_nb, index_nb
from feeds.log_files import find_end, map_bytes, segments_of
from feeds.log_index import COLUMNS, COUNT, EPOCH, FIRST_SEQ, GATEWAY, LENGTH, OFFSET, SCHEMA
from feeds.spool_end import End, EndMarks

K = TypeVar("K")
V = TypeVar("V")

_ROWS: Final = 4096
_MARKS: Final = 64
_DEFINING: Final = 64
"""Frames without numbers, at most, before one with; all definitions take a quarter of them."""
_SEQUENCED: Final = [int(schema) for schema in SEQUENCED]


class Found(NamedTuple):
    """A stretch of one segment."""

    frames: npt.NDArray[np.uint8]
    """The frames' bytes, one after the other; they may be damaged."""
    next_seq: int
    """One past the last number in them."""


class SpoolReader:
    """Reads the logs in one spool directory; owned by the gateway.

    Only headers are read on the way to a number. Where the last answers ended is remembered, so
    that one who asks for one stretch after the other costs no search.

    Args:
        directory: The spool's.
        gateway: Logs of this gateway are read.
        memory: Where it was vouched for logs.
    """

    def __init__(self, directory: Path, gateway: int, memory: Path) -> None:
        self._directory = directory
        self._gateway = gateway
        self._end_marks = EndMarks(directory, memory, gateway)
        self._begins: OrderedDict[Path, int] = OrderedDict()
        self._ends: OrderedDict[int, End] = OrderedDict()
        self._marks: OrderedDict[tuple[int, int], tuple[Path, int]] = OrderedDict()
        self._rows = np.zeros((_ROWS, COLUMNS), np.int64)

    def epochs(self) -> list[int]:
        """Return the epochs of which there is a log, oldest first."""
        logs = self._directory.glob(f"gateway-{self._gateway}-*.hql")
        tails = (log.stem.rpartition("-")[2] for log in logs)
        return sorted(int(tail) for tail in tails if tail.isdigit())

    def first_held(self, epoch: int) -> int | None:
        """Return the oldest number of an epoch; None if nothing of it is there."""
        segments = self._segments(epoch)
        return self._begin(segments[0]) if segments else None

    def end_of(self, epoch: int) -> End | None:
        """Return where the log of an epoch that is over ends; None if nothing is there."""
        if epoch not in self._ends:
            end = self._find_end(epoch)
            if end is None:
                return None
            _remember(self._ends, epoch, end)
        return self._ends[epoch]

    def _find_end(self, epoch: int) -> End | None:
        settled = self._end_marks.settled(epoch)
        if settled is not None:
            return End(settled, whole=True)
        whole = self._end_marks.vouched(epoch)
        segments = self._segments(epoch)
        for file in reversed(segments):
            seq = _end_of(file, epoch)
            if seq is not None:
                return End(seq, whole=whole)
        if not whole:
            return None
        return End(self._begin(segments[0]) if segments else 1, whole=True)

    def read(self, epoch: int, seq: int, stop_seq: int, most_bytes: int) -> Found | None:
        """Return frames from the one on that holds ``seq``, or the first after it.

        Args:
            epoch: The stream epoch.
            seq: A number.
            stop_seq: Frames that begin at this number or later are not wanted.
            most_bytes: Of frames; one is returned at least.

        Returns:
            What one segment has of it; None if there is nothing between the numbers.
        """
        segments = self._segments(epoch)
        file, at = self._marks.get((epoch, seq), (None, 0))
        if file not in segments:
            file, at = None, 0
        begins = [self._begin(segment) for segment in segments]
        known = [place for place, begin in enumerate(begins) if begin <= seq]
        start = segments.index(file) if file is not None else (known[-1] if known else 0)
        for segment in segments[start:]:
            found = self._read_segment(segment, at, epoch, (seq, stop_seq), most_bytes)
            if found is not None:
                return found
            at = 0
        return None

    def _segments(self, epoch: int) -> list[Path]:
        log = self._directory / f"gateway-{self._gateway}-{epoch}.hql"
        try:
            return [file for file in segments_of(log) if self._begin(file) > 0]
        except (HeqisError, OSError):
            return []

    def _begin(self, file: Path) -> int:
        """Return the number with which a segment begins; 0 if it cannot be told."""
        if file not in self._begins:
            try:
                with file.open("rb") as opened:
                    head = np.frombuffer(opened.read(HEADER_BYTES), np.int64)
            except OSError:
                return 0
            if len(head) * 8 < HEADER_BYTES:
                return 0
            _remember(self._begins, file, int(head[2]), most=4096)
        return self._begins[file]

    def _read_segment(
        self, file: Path, at: int, epoch: int, numbers: tuple[int, int], most_bytes: int
    ) -> Found | None:
        try:
            wire = map_bytes(file)
        except (HeqisError, OSError):
            return None
        words = wire[: len(wire) // 8 * 8].view(np.int64)
        words.flags.writeable = False
        first = _seek(words, at, numbers[0], self._rows)
        if first is None:
            return None
        rows, end = self._collect(words, first, numbers[1], most_bytes)
        sequenced = rows[np.isin(rows[:, SCHEMA], _SEQUENCED) & (rows[:, EPOCH] == epoch)]
        if not len(sequenced) or sequenced[0, FIRST_SEQ] >= numbers[1]:
            return None
        next_seq = int((sequenced[:, FIRST_SEQ] + sequenced[:, COUNT]).max())
        _remember(self._marks, (epoch, next_seq), (file, end))
        ours = rows[
            (rows[:, EPOCH] == epoch)
            & (rows[:, GATEWAY] == self._gateway)
            & (rows[:, SCHEMA] != Schema.RAW)
        ]
        parts = [wire[o : o + n] for o, n in ours[:, [OFFSET, LENGTH]].tolist()]
        return Found(np.concatenate(parts), next_seq)

    def _collect(
        self, words: npt.NDArray[np.int64], at: int, stop_seq: int, most_bytes: int
    ) -> tuple[npt.NDArray[np.int64], int]:
        """Return rows of the frames from byte ``at`` on within the bounds, and where they end."""
        rows = np.zeros((most_bytes // HEADER_BYTES + _DEFINING, COLUMNS), np.int64)
        count, _ = index_nb(rows, words, at)
        rows = rows[:count]
        sizes = np.cumsum(rows[:, LENGTH])
        fitting = int(np.searchsorted(sizes, most_bytes, side="right"))
        beyond = np.flatnonzero(rows[:, FIRST_SEQ] >= stop_seq)
        wanted = int(beyond[0]) if len(beyond) else count
        least = int(np.argmax(np.isin(rows[:, SCHEMA], _SEQUENCED))) + 1
        rows = rows[: max(least, min(fitting, wanted))]
        return rows, int(rows[-1, OFFSET] + rows[-1, LENGTH])


def _seek(
    words: npt.NDArray[np.int64], at: int, seq: int, rows: npt.NDArray[np.int64]
) -> int | None:
    """Return the byte of the first numbered frame that holds ``seq`` or comes after it.

    Where frames without numbers stand right before it, such as definitions, theirs.
    """
    start = at
    while True:
        count, at = index_nb(rows, words, at)
        part = rows[:count]
        numbered = np.isin(part[:, SCHEMA], _SEQUENCED)
        later = numbered & (part[:, FIRST_SEQ] + part[:, COUNT] > seq)
        found = int(np.argmax(later)) if later.any() else count
        before = np.flatnonzero(numbered[:found])
        if len(before):
            start = int(part[before[-1], OFFSET] + part[before[-1], LENGTH])
        if found < count:
            return start
        if count < len(rows):
            at = int(find_frame_nb(words, at + 8)) if at + HEADER_BYTES <= len(words) * 8 else -1
            if at < 0:
                return None
            start = at


def _end_of(file: Path, epoch: int) -> int | None:
    try:
        end = find_end(file)
    except (HeqisError, OSError):
        return None
    return end.next_seq if end is not None and end.epoch == epoch else None


def _remember(memory: OrderedDict[K, V], key: K, value: V, most: int = _MARKS) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
