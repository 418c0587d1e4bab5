"""How much of the engine's own recording is kept: the oldest segments go, but none still needed.

A restart goes on from one of the newest snapshots, through what was recorded after it. That much
stays, whatever the bounds say.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from engine.core.errors import SnapshotError
from engine.own_recording import Piece, pieces_of
from engine.snapshot_file import KEPT, SnapshotFiles, read_label

_log = logging.getLogger(__name__)
INTERVAL_S: Final = 10.0

Place = tuple[int, str]
"""Session and name of a segment."""


class Bounds(NamedTuple):
    """How much is kept; 0: no bound."""

    keep_bytes: int = 0
    keep_age_ns: int = 0


class Pruned(NamedTuple):
    """What was done.

    Attributes:
        segments: Files removed.
        freed_bytes: What they held.
        kept_bytes: What is left.
        over_bytes: By how much that is above the bound.
    """

    segments: int
    freed_bytes: int
    kept_bytes: int
    over_bytes: int


def removable(
    pieces: Sequence[Piece], needed: Place | None, bounds: Bounds, now_wall_ns: int
) -> list[Piece]:
    """Return the segments to remove, oldest first; never the last one, which is written to. Pure.

    Args:
        pieces: All of them, in order.
        needed: The first that a snapshot goes on from; None: no snapshot does.
        bounds: How much is kept.
        now_wall_ns: The wall clock.
    """
    excess = sum(piece.size_bytes for piece in pieces) - bounds.keep_bytes
    before_ns = now_wall_ns - bounds.keep_age_ns
    found = []
    for piece in pieces[:-1]:
        too_much = bounds.keep_bytes and excess > 0
        too_old = bounds.keep_age_ns and piece.written_ns < before_ns
        if (needed is not None and piece.place >= needed) or not (too_much or too_old):
            break
        found.append(piece)
        excess -= piece.size_bytes
    return found


class RecordingRetention:
    """Owned by the loop thread; files are looked at and removed in another.

    Args:
        directory: Of the recordings.
        files: The snapshots; None: there are none.
        bounds: How much is kept.
        tell: Journals an event.

    Attributes:
        counters: ``segments`` and ``bytes`` removed, ``failed`` attempts; now ``kept_bytes``, and
            ``over_bytes`` of them above the bound.
    """

    def __init__(
        self,
        directory: Path,
        files: SnapshotFiles | None,
        bounds: Bounds,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._directory = directory
        self._files = files
        self._bounds = bounds
        self._tell = tell
        self._problem = ""
        self.counters: dict[str, int] = dict.fromkeys(
            ("segments", "bytes", "failed", "kept_bytes", "over_bytes"), 0
        )

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            await self.apply(time.time_ns())
            await asyncio.sleep(INTERVAL_S)

    async def apply(self, now_wall_ns: int) -> None:
        """Remove what is too much or too old; count and tell it."""
        try:
            pruned = await asyncio.to_thread(self._prune, now_wall_ns)
        except (SnapshotError, OSError) as error:
            self.counters["failed"] += 1
            self._warn(f"the recording cannot be pruned: {error}")
            return
        self.counters["segments"] += pruned.segments
        self.counters["bytes"] += pruned.freed_bytes
        self.counters["kept_bytes"] = pruned.kept_bytes
        self.counters["over_bytes"] = pruned.over_bytes
        if pruned.segments:
            self._tell("recording_pruned", pruned._asdict())
        over = pruned.over_bytes > 0
        self._warn("the recording is above its bound: snapshots still need it" if over else "")

    def _warn(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.warning("%s", problem)
            self._tell("recording_kept", {"reason": problem})
        self._problem = problem

    def _prune(self, now_wall_ns: int) -> Pruned:
        pieces = pieces_of(self._directory)
        chosen = removable(pieces, self._needed(), self._bounds, now_wall_ns)
        for piece in chosen:
            piece.file.unlink(missing_ok=True)
        left = pieces[len(chosen) :]
        for session in {piece.file.parent for piece in chosen}:
            if all(piece.file.parent != session for piece in left) and not any(session.iterdir()):
                session.rmdir()
        kept = sum(piece.size_bytes for piece in left)
        # The segment that is written to may be above a bound by itself.
        over = kept - max(self._bounds.keep_bytes, left[-1].size_bytes if left else 0)
        over = max(0, over) if self._bounds.keep_bytes else 0
        return Pruned(len(chosen), sum(piece.size_bytes for piece in chosen), kept, over)

    def _needed(self) -> Place | None:
        """Return the first segment that the newest snapshots go on from."""
        places: list[Place] = []
        for path in self._files.paths()[:KEPT] if self._files is not None else []:
            try:
                place = read_label(path).recording
            except SnapshotError:
                if path.exists():
                    raise
                continue  # a newer one has just taken its turn
            if place is msgspec.UNSET:
                places.append((0, ""))  # it does not say: all is needed
            elif place is not None:
                places.append((place.session, place.file))
        return min(places, default=None)
