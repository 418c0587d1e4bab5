"""Replays what was live, compares every decision, and says where and why it first differs."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from engine.composition import Blueprint
from engine.core.errors import JournalError
from engine.core.signals import Signal
from engine.journal_schema import OPERATOR_STATE
from engine.model_control import SWAPPED
from engine.own_recording import pieces_of
from engine.parts import as_json, parts_of
from replay.analysis.diff_causes import Causes
from replay.analysis.diff_checks import Checks, comparable
from replay.analysis.diff_commands import GateStates
from replay.analysis.diff_compare import Comparison
from replay.analysis.diff_journal import Told, Unsampled, read_told
from replay.analysis.diff_material import Material, Part, open_material
from replay.analysis.diff_order import LiveOrder
from replay.analysis.diff_result import (
    MAX_LISTED,
    Difference,
    Differences,
    DiffReport,
    Kind,
    counted,
)
from replay.analysis.diff_scores import Scores
from replay.analysis.diff_text import moment
from replay.analysis.diff_twin import Stop, Twin

Progress = Callable[[int], None]
_REORDER_NS: Final = 10_000_000_000


def diff(
    recording: Path, journal: Path, blueprint: Blueprint, progress: Progress | None = None
) -> DiffReport:
    """Compare a recording's replay with the journal of the live sessions.

    Args:
        recording: A directory of recordings, one session in one, or any log of the same stream.
        journal: Of the engine that was live.
        blueprint: The configuration of the replay.
        progress: Called with the records done, now and then.

    Raises:
        InputFileError: there is no recording, or nothing in it.
        LogError: it is no tick log.
        JournalError: the journal cannot be read, is damaged, or knows nothing of the recording.
    """
    with open_material(recording) as material:
        told = read_told(journal, material.epochs)
        check_related(material, told)
        return Comparing(material, told, blueprint, progress).run()


def check_related(material: Material, told: Told) -> None:
    """Refuse a journal that knows nothing of any session or stream of the recording.

    Raises:
        JournalError: it does not.
    """
    sessions = {part.session for part in material.parts if part.compared}
    if sessions & told.sessions or told.signals or told.refusals:
        return
    what = f"knows nothing of {material.path}" if told.events else "is empty"
    raise JournalError(f"{told.path}: it {what}; give the journal of the engine that recorded it")


class Comparing:
    """One comparison, from the first record to the report.

    Attributes:
        twin: Goes through the recording.
        comparison: Where its decisions go.

    Args:
        material: The recording.
        told: The journal.
        blueprint: The configuration of the replay.
        progress: Called with the records done, now and then.
    """

    def __init__(
        self, material: Material, told: Told, blueprint: Blueprint, progress: Progress | None
    ) -> None:
        self.material = material
        self.told = told
        self.blueprint = blueprint
        self.differences = Differences()
        self.comparison = Comparison(told, Scores(blueprint), self.differences)
        self.twin = Twin(blueprint, self.comparison, self.comparison.was_let)
        self.comparison.begin(self.twin)
        self.twin.follow(LiveOrder(told))
        self.checks = Checks(self.twin, self.differences, self.comparison.counts)
        self.parts = as_json(parts_of(blueprint, self.twin.pipeline))
        self.notes = list(material.notes)
        self._mind_the_end()
        self.begins: list[tuple[int, int]] = []
        if progress is not None:
            done = progress
            self.twin.before_records = lambda _, __, ___: done(self.twin.ground.taken)

    def walk_to(self, epoch: int, seq: int) -> bool:
        """Go through the recording up to a record, that one included; False if it has none such."""
        self.twin.stop_at = epoch, seq
        try:
            for part in self.material.parts:
                self._go_through(part)
        except Stop:
            self.twin.judge_rest()
            return True
        return False

    def run(self) -> DiffReport:
        """Go through all of it."""
        for part in self.material.parts:
            self._go_through(part)
        self.twin.judge_rest()
        self.twin.pipeline.host.stop()
        self._note_changes()
        self.comparison.finish(goes_on=self.material.goes_on)
        return self._report(self._attributed())

    def _go_through(self, part: Part) -> None:
        session, comparison = part.session, self.comparison
        comparison.muted = not part.compared
        if part.compared and not any(self._is_compared(begun) for _, begun in self.begins):
            comparison.since = self.twin.ground.taken
        self._begin_as_live(part)
        self.begins.append((self.twin.ground.taken, session))
        live = self.told.live(session)
        comparison.untold = _untold(live)
        can = comparable(self.told.configured(session), self.parts)
        checkpoints = self.told.checkpoints(session)
        if part.compared:
            self._note_checks(session, can=can, known=bool(checkpoints))
        cuts = self.checks.cuts(part, checkpoints, comparable=can)
        self.twin.walk(part.reader, cuts)

    def _mind_the_end(self) -> None:
        """Expect nothing of live after its end, where the recording does not say where that was."""
        last = self.material.parts[-1].session
        if self.material.goes_on or (last and self.told.ended(last)):
            return
        reached = self.told.reached()
        self.comparison.ended = lambda epoch, seq: seq > reached.get(epoch, 0)

    def _is_compared(self, session: int) -> bool:
        return any(part.session == session and part.compared for part in self.material.parts)

    def _begin_as_live(self, part: Part) -> None:
        """Forget what the live engine had forgotten, where it began without a snapshot."""
        live, first = self.told.live(part.session), not self.begins
        if live is None:
            return
        if first:
            if live.get("snapshot") or live.get("replayed"):
                self.notes.append(
                    f"session {part.session} went on from earlier ones that are not recorded here: "
                    "state that remembers them differs"
                )
        elif not live.get("snapshot") and self.material.directory is not None:
            self._warm_up(part.session)

    def _warm_up(self, session: int) -> None:
        """Go again through the stretch of the recording that a start without snapshot takes."""
        span_ns = self.blueprint.config.engine.warm_up
        assert self.material.directory is not None
        if not self.twin.begin_anew():
            self.notes.append("a Python strategy cannot be kept: its state went on at a restart")
            return
        muted, self.comparison.muted = self.comparison.muted, True
        since_ns = 0
        pieces = pieces_of(self.material.directory, session)
        for piece in reversed(pieces):
            last_ns = piece.last_ns()
            if last_ns is not None:
                since_ns = max(since_ns, last_ns - span_ns)
        for piece in pieces:
            stretch = piece._replace(since_ns=since_ns).open()
            if stretch is not None and span_ns:
                self.twin.walk_again(stretch)
        self.comparison.muted = muted

    def _note_checks(self, session: int, *, can: bool, known: bool) -> None:
        if not session:
            return
        if not known:
            self.notes.append(
                f"session {session} has no checkpoints: it ended before the first one, or without "
                "snapshots; its state and bytes are not compared"
            )
        elif not can:
            self.notes.append(
                f"session {session} ran on another machine or version of numba: the checksums of "
                "its state are not compared"
            )

    def _note_changes(self) -> None:
        """Tell of what was changed while live, which a replay by one configuration does not do."""
        for event in self.told.of("reload"):
            if changed := event.fields.get("changed"):
                self.notes.append(
                    f"at {moment(event.ts)} live took over another {', '.join(map(str, changed))}"
                )
        for event in self.told.of(SWAPPED):
            name, after = event.fields.get("model"), event.fields.get("after")
            self.notes.append(f"at {moment(event.ts)} model {name} was swapped to {after} live")

    def _attributed(self) -> list[Difference]:
        """Return the differences in order, each with its cause, commanded ones counted apart."""
        gaps = [one.place for one in self.differences.kept if one.kind is Kind.BYTES]
        config = self.blueprint.config.journal
        causes = Causes(
            self.blueprint,
            self.twin.judge.strategies,
            parts=self.parts,
            live_parts=self._live_parts,
            broken_at=min(gaps, default=None),
            state=self.checks.finding,
            unsampled=Unsampled(self.told.rows, config.refusals_first).reasons,
            gate=GateStates(self.told.of(OPERATOR_STATE)),
            reordered=_Reordered(self.told.signals.values()),
        )
        kept = []
        for one in self.differences.in_order():
            if causes.commanded(one):
                self.comparison.counts["commanded"] += 1
                continue
            causes.assign(one, self.told.signals.get(one.id))
            kept.append(one)
        return kept

    def _live_parts(self, place: int) -> Mapping[str, Any] | None:
        at = bisect_right(self.begins, place, key=lambda one: one[0]) - 1
        return self.told.configured(self.begins[max(0, at)][1]) if self.begins else None

    def _report(self, found: list[Difference]) -> DiffReport:
        compared = [part for part in self.material.parts if part.compared]
        bad = self.twin.bad_frames
        if bad:
            self.notes.append(f"refused in the recording: {bad}")
        counts = self.comparison.counts
        if not found and not counts["signals"] + counts["refusals"]:
            self.notes.append("there was no decision to compare: neither side made any")
        if self.differences.beyond:
            self.notes.append(f"{self.differences.beyond:,} further differences are not attributed")
        return DiffReport(
            recording=str(self.material.path),
            journal=str(self.told.path),
            sessions=len(compared),
            records=self.twin.ground.taken,
            counts=dict(sorted(counts.items())),
            causes=counted(found),
            differences=len(found) + self.differences.beyond,
            first=found[0] if found else None,
            listed=found[:MAX_LISTED],
            notes=[*self.notes, *self.checks.notes],
        )


class _Reordered:
    """Knows when signals were journaled in another order than that of their ticks."""

    def __init__(self, signals: Any) -> None:
        self._at: list[int] = []
        newest: Signal | None = None
        for signal in signals:
            if newest is not None and signal.ts_recv < newest.ts_recv:
                self._at.append(signal.ts_event)
            else:
                newest = signal
        self._at.sort()

    def __call__(self, ts_ns: int) -> bool:
        """Tell whether that happened within 10 s of a time."""
        at = bisect_right(self._at, ts_ns - _REORDER_NS)
        return at < len(self._at) and self._at[at] <= ts_ns + _REORDER_NS


def _untold(live: Mapping[str, Any] | None) -> Callable[[int, int], bool]:
    """Return what tells of a tick whether its signals were made without being told."""
    if live is None or not live.get("untold"):
        return lambda _, __: False
    places = {epoch: seq for _, epoch, seq in live.get("streams", ())}
    return lambda epoch, seq: seq < places.get(epoch, 0)
