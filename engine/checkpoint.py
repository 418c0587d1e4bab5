"""Checkpoints: what the state and the recording were at a moment, as checksums in the journal.

Made of a snapshot's copies, on the thread that writes it. Who replays the recording later finds out
with them whether it has the bytes that the engine had, and which part of the state first differs.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.errors import HeqisError
from engine.parts import labels_of
from engine.snapshot import Snapshot
from feeds.log_files import segments_of
from strategies.kernel import KernelState
from strategies.plan import KernelPlan

CHECKPOINT: Final = "checkpoint"
"""Kind of the journal's event."""
_CHUNK_BYTES: Final = 1 << 20

Bytes = npt.NDArray[np.uint8]


class Seal(msgspec.Struct, frozen=True):
    """The CRC-32 of a stretch of one segment file, in bytes."""

    file: str
    start: int
    stop: int
    crc: int


class _Place(NamedTuple):
    file: str = ""
    offset: int = 0


def state_digests(plan: KernelPlan, kept: KernelState) -> dict[str, str]:
    """Return a checksum of each part of a kernel's state, by what people call it.

    Args:
        plan: Of the kernel.
        kept: A copy of its state.
    """
    state = _rows(kept.state, kept.instruments)
    ring = _rows(kept.ring, kept.instruments)
    rings = {one.field: (one.ring_offset, one.spec.ring(one.params)) for one in plan.indicators}
    windows = {one.field: rows for one, rows in zip(plan.models, kept.windows, strict=True)}
    fields: Mapping[str, tuple[Any, ...]] = plan.state_dtype.fields or {}
    digests = {}
    for name, label in labels_of(plan).items():
        dtype, at = fields[name][0], int(fields[name][1])
        crc = zlib.crc32(_packed(state, at, dtype.itemsize))
        if name in rings:
            first, count = rings[name]
            crc = zlib.crc32(_packed(ring, 8 * first, 8 * count), crc)
        digests[label] = f"{zlib.crc32(windows.get(name, b''), crc):08x}"
    return digests


def crc_of_file(path: Path, start: int, stop: int) -> int | None:
    """Return the CRC-32 of a stretch of a file; None if there is less, or it cannot be read."""
    crc = 0
    try:
        with path.open("rb") as file:
            file.seek(start)
            while start < stop:
                data = file.read(min(_CHUNK_BYTES, stop - start))
                if not data:
                    return None
                crc = zlib.crc32(data, crc)
                start += len(data)
    except OSError:
        return None
    return crc


class Checkpoints:
    """Makes the facts of one session's checkpoints; one thread at a time.

    Args:
        plan: Of the kernel.
        recording: The session's log; None if nothing is recorded.
    """

    def __init__(self, plan: KernelPlan, recording: Path | None) -> None:
        self._plan = plan
        self._recording = recording
        self._sealed = _Place()

    def facts(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return what the journal is told of a snapshot; what it holds as recorded is on file."""
        place = snapshot.recording
        return {
            "kernel": snapshot.kernel_key,
            "streams": [[one.gateway, one.epoch, one.next_seq] for one in snapshot.streams],
            "recording": None if place is None else msgspec.structs.asdict(place),
            "seals": [] if place is None else self._seal(_Place(place.file, place.offset)),
            "state": state_digests(self._plan, snapshot.pipeline.kernel),
        }

    def told(self, snapshot: Snapshot) -> None:
        """Know that the journal was told: the next seals begin where these end."""
        if snapshot.recording is not None:
            self._sealed = _Place(snapshot.recording.file, snapshot.recording.offset)

    def _seal(self, upto: _Place) -> list[dict[str, Any]]:
        """Seal what was recorded since the last time."""
        seals = []
        for file, size_bytes in self._files():
            if not self._sealed.file <= file.name <= upto.file:
                continue
            start = self._sealed.offset if file.name == self._sealed.file else 0
            stop = upto.offset if file.name == upto.file else size_bytes
            crc = crc_of_file(file, start, stop) if stop > start else None
            if crc is not None:
                seals.append(msgspec.structs.asdict(Seal(file.name, start, stop, crc)))
        return seals

    def _files(self) -> list[tuple[Path, int]]:
        """Return the segment files and their bytes; none if they cannot be read now."""
        if self._recording is None:
            return []
        try:
            return [(file, file.stat().st_size) for file in segments_of(self._recording)]
        except (OSError, HeqisError):
            return []


def _packed(rows: Bytes, at: int, count: int) -> memoryview:
    return np.ascontiguousarray(rows[:, at : at + count]).data


def _rows(data: bytes, count: int) -> Bytes:
    return np.frombuffer(data, np.uint8).reshape(count, -1 if count else 0)
