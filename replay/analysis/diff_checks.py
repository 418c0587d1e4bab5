"""Checks a recording and the replay's state against the checkpoints that the engine journaled."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.checkpoint import Seal, crc_of_file, state_digests
from feeds.log_files import map_bytes
from feeds.log_index import OFFSET, frames_ok, index_file
from replay.analysis.diff_causes import StateFinding
from replay.analysis.diff_material import Part
from replay.analysis.diff_result import Difference, Differences, Kind
from replay.analysis.diff_twin import Twin

Cuts = dict[str, list[tuple[int, Callable[[], None]]]]
_COMPARABLE: Final = ("machine", "numba")
"""What must be the same on both sides for one state to have one checksum."""


class Checks:
    """Collects what the checkpoints say.

    Args:
        twin: Whose state is compared.
        differences: Where differences go.
        counts: Gets ``checkpoints`` and ``sealed_bytes``.

    Attributes:
        finding: The first checkpoint whose state differs.
        broken_at: Place of the first record from which on the recording is another one.
        notes: What could not be checked.
    """

    def __init__(self, twin: Twin, differences: Differences, counts: Counter[str]) -> None:
        self._twin = twin
        self._differences = differences
        self._counts = counts
        self._good = 0
        self.finding: StateFinding | None = None
        self.broken_at: int | None = None
        self.notes: list[str] = []

    def cuts(
        self, part: Part, checkpoints: Sequence[Mapping[str, Any]], *, comparable: bool
    ) -> Cuts:
        """Return what to do at which bytes of a session's files.

        Args:
            part: The session.
            checkpoints: Its checkpoints.
            comparable: Whether its state can be compared on this machine.
        """
        cuts: Cuts = {}
        files = {file.name: file for file in part.reader.files}
        for checkpoint in checkpoints:
            for seal in checkpoint.get("seals", ()):
                self._check_seal(Seal(**seal), files, cuts)
            place = checkpoint["recording"]
            if comparable and part.compared:
                act = self._state_check(checkpoint)
                cuts.setdefault(place["file"], []).append((place["offset"], act))
        for found in cuts.values():
            found.sort(key=lambda one: one[0])
        return cuts

    def _check_seal(self, seal: Seal, files: Mapping[str, Path], cuts: Cuts) -> None:
        file = files.get(seal.file)
        if file is None:
            if any(name < seal.file for name in files):  # it was not pruned from the front
                after = min((name for name in files if name > seal.file), default=max(files))
                end = 0 if after > seal.file else 1 << 62
                why = f"the file {seal.file} of the recording is not there any more"
                cuts.setdefault(after, []).append((end, self._broken(why)))
            return
        if crc_of_file(file, seal.start, seal.stop) == seal.crc:
            self._counts["sealed_bytes"] += seal.stop - seal.start
            return
        offset, what = _where(file, seal)
        cuts.setdefault(seal.file, []).append((offset, self._broken(what)))

    def _broken(self, why: str) -> Callable[[], None]:
        def act() -> None:
            place = self._twin.ground.taken
            if self.broken_at is None:
                self.broken_at = place
            stretches = self._twin.ground.stretches
            epoch, seq = (stretches[-1].epoch, stretches[-1].last_seq + 1) if stretches else (0, 0)
            self._differences.add(
                Difference(kind=Kind.BYTES, place=place, tick_epoch=epoch, tick_seq=seq, why=why)
            )

        return act

    def _state_check(self, checkpoint: Mapping[str, Any]) -> Callable[[], None]:
        def act() -> None:
            if self.finding is None and self.broken_at is None:
                self._compare(checkpoint)

        return act

    def _compare(self, checkpoint: Mapping[str, Any]) -> None:
        kernel, place = self._twin.pipeline.kernel, self._twin.ground.taken
        live: Mapping[str, str] = checkpoint["state"]
        here = state_digests(kernel.plan, kernel.export_state())
        labels = tuple(name for name, crc in here.items() if live.get(name, crc) != crc)
        self._counts["checkpoints"] += 1
        if not labels:
            self._good = place
            return
        self.finding = StateFinding(self._good, place, labels)
        _, epoch, seq = checkpoint["streams"][0] if checkpoint["streams"] else (0, 0, 0)
        self._differences.add(
            Difference(
                kind=Kind.STATE, place=place, tick_epoch=epoch, tick_seq=seq,
                live={name: live[name] for name in labels},
                here={name: here[name] for name in labels},
                why=f"the state has another {', '.join(labels[:8])}",
            )
        )  # fmt: skip


def comparable(live: Mapping[str, Any] | None, here: Mapping[str, Any]) -> bool:
    """Tell whether states of two programs can be compared bit by bit."""
    if live is None:
        return False
    theirs, mine = live.get("program", {}), here["program"]
    return all(theirs.get(name) == mine[name] for name in _COMPARABLE)


def _where(file: Path, seal: Seal) -> tuple[int, str]:
    """Return from which byte on a stretch is not what was sealed, as far as that can be told."""
    size = file.stat().st_size
    if size < seal.stop:
        return size, f"{file.name} ends at byte {size:,}; it had at least {seal.stop:,}"
    wire = map_bytes(file)
    frames = index_file(file, wire).frames
    within = frames[(frames[:, OFFSET] >= seal.start) & (frames[:, OFFSET] < seal.stop)]
    bad = within[~frames_ok(wire, within)]
    if len(bad):
        return int(
            bad[0, OFFSET]
        ), f"a frame at byte {int(bad[0, OFFSET]):,} of {file.name} is damaged"
    return seal.start, (
        f"bytes {seal.start:,} to {seal.stop:,} of {file.name} are not those that were recorded"
    )
