"""A second engine that goes through a recording as the live one did, and can be looked into.

It decides by the ticks' own clock and asks models at once, like any replay; what was let through
live is booked, whatever it would have said itself, so that one difference does not bring forth
others: ``journaled`` tells.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.clock import TickClock, WallClock
from engine.composition import Blueprint, build_pipeline
from engine.core.candidates import Candidate
from engine.core.errors import FrameError, SnapshotError
from engine.core.models import Score
from engine.core.ports import SignalSink
from engine.core.records import Instruments, Schema, TickKind
from engine.ingest import Ingest
from engine.judge import Judge, Origin
from engine.model_desk import ModelDesk, Pending, Verdict
from engine.own_recording import Stretch
from engine.pipeline import Pipeline, PipelineState
from engine.risk import rules as risk_rules
from feeds.burst import BurstDecoder, Gap
from feeds.codec import decode_frame
from feeds.log_reader import LogReader, LogSegment
from latency.histogram import StageHistograms
from replay.analysis.diff_ground import Ground
from replay.analysis.diff_order import HeldAnswers, LiveOrder
from runtime.asking import Answer

Records = npt.NDArray[np.void]


class Proposal(NamedTuple):
    """The candidate that is judged at the moment."""

    candidate: Candidate
    origin: Origin
    score: Score | None


class Read(NamedTuple):
    """A model's answer and what was read in it."""

    candidate: Candidate
    origin: Origin
    answer: Answer
    verdict: Verdict


class TwinJudge(Judge):
    """Remembers what it judges, and whether it was overruled.

    Attributes:
        proposal: What is judged; None before the first.
        overruled: What the gate says of it where the journal says that it was let through.
        before: Called with every candidate that asks no model, before it is judged.
    """

    proposal: Proposal | None = None
    overruled: risk_rules.Verdict | None = None
    before: Callable[[Candidate, Origin], None] | None = None

    @classmethod
    def instead_of(cls, judge: Judge, *, late: bool) -> "TwinJudge":
        """Return one that stands in for another that has not judged yet."""
        return cls(
            gate=judge.gate,
            strategies=judge.strategies,
            sink=judge.sink,
            clock=judge.clock,
            histograms=judge.histograms,
            late=late,
        )

    def judge(self, candidate: Candidate, origin: Origin, score: Score | None = None) -> Any:
        """Judge as ever."""
        if score is None and self.before is not None:
            self.before(candidate, origin)
        self.proposal = Proposal(candidate, origin, score)
        self.overruled = None
        return super().judge(candidate, origin, score)

    def refuse(self, candidate: Candidate, origin: Origin, reason: str, detail: str = "") -> None:
        """Refuse as ever."""
        self.proposal = Proposal(candidate, origin, None)
        self.overruled = None
        super().refuse(candidate, origin, reason, detail)

    def follow(self, was_let: Callable[[str], bool]) -> None:
        """Let through what ``was_let`` knows; keep what the gate itself says of it."""

        def overrule(identity: str) -> bool:
            if not was_let(identity):
                return False
            assert self.proposal is not None
            self.overruled = self.verdict_of(self.proposal.candidate)
            return True

        self.was_let = overrule

    def place_of(self, candidate: Candidate, origin: Origin) -> tuple[str, str, int, int]:
        """Return whose candidate it is, on what, and on which tick."""
        strategy, symbol = self.strategies[candidate.strategy], self.symbols[candidate.instrument]
        return strategy.name, symbol, origin[0], origin[1]

    def verdict_of(self, candidate: Candidate) -> risk_rules.Verdict:
        """Return what the gate says of a candidate now."""
        until = candidate.ts_recv + self.strategies[candidate.strategy].valid_for_ns
        return self.gate.check(candidate, valid_until_ns=until, now_wall_ns=candidate.ts_recv)

    def book_anyway(self) -> None:
        """Book what is judged although it was refused."""
        assert self.proposal is not None
        self.gate.accept(self.proposal.candidate)


class TwinDesk(ModelDesk):
    """Tells of every answer.

    Attributes:
        on_read: Called with it.
        last: The last answer.
        held: Where answers wait until live had theirs; None: they do not.
        place_of: Returns whose candidate it is, on what, and on which tick.
    """

    on_read: Callable[[Read], None] | None = None
    last: Read | None = None
    held: HeldAnswers | None = None
    place_of: Callable[[Candidate, Origin], tuple[str, str, int, int]]

    @classmethod
    def instead_of(cls, desk: ModelDesk) -> "TwinDesk":
        """Return one that stands in for another that was not asked yet."""
        made = cls(desk.inference, desk.readings, TickClock())
        made._origins = {}
        return made

    _origins: dict[int, Origin]

    def ask(self, waiting: Sequence[Pending]) -> list[Answer | None]:
        """Ask as ever; know where each candidate came from."""
        self._origins = {id(one.candidate): one.origin for one in waiting}
        found = super().ask(waiting)
        if self.held is None:
            return found
        return [
            self._hold(self.held, pending, answer)
            for pending, answer in zip(waiting, found, strict=True)
        ]

    def _hold(self, held: HeldAnswers, pending: Pending, answer: Answer | None) -> Answer | None:
        if answer is None or answer.context is not pending:
            return answer
        place = self.place_of(pending.candidate, pending.origin)
        return None if held.hold(place, pending, answer) else answer

    def read(self, candidate: Candidate, answer: Answer) -> Verdict:
        """Read as ever."""
        verdict = super().read(candidate, answer)
        asked = answer.context
        origin = asked.origin if isinstance(asked, Pending) else self._origins[id(candidate)]
        self.last = Read(candidate, origin, answer, verdict)
        if self.on_read is not None:
            self.on_read(self.last)
        return verdict


class Stop(Exception):  # noqa: N818 - no error: the wanted record was reached
    """The record that was wanted has been taken."""


class Twin:
    """The pipeline of a configuration, going through logs as a restarted engine would.

    Args:
        blueprint: The configuration, resolved.
        sink: Takes signals, refusals and events.
        journaled: Tells of an id whether it was let through live.

    Attributes:
        pipeline: Its pipeline.
        judge: Its judge.
        desk: Its model desk; None without models.
        ground: Records gone through.
        on_gap: Called with every gap, and the place of the record after it.
        began_anew: How often definitions contradicted those before.
        before_records: Called with records, origins and their count before they are taken.
        stop_at: Epoch and number of the last record to take: it is taken by itself, after
            ``on_stop`` was called with it and its origin, and then ``walk`` raises Stop.
    """

    def __init__(
        self, blueprint: Blueprint, sink: SignalSink, journaled: Callable[[str], bool]
    ) -> None:
        self._blueprint = blueprint
        self.pipeline: Pipeline = build_pipeline(
            blueprint,
            capacity=blueprint.config.engine.max_instruments,
            sink=sink,
            clock=TickClock(),
            histograms=StageHistograms(),
            bars=True,
        )
        self.judge = TwinJudge.instead_of(self.pipeline.judge, late=bool(blueprint.models))
        self.judge.follow(journaled)
        self.pipeline.judge = self.judge
        self.desk: TwinDesk | None = None
        if self.pipeline.desk is not None:
            self.pipeline.desk = self.desk = TwinDesk.instead_of(self.pipeline.desk)
            self.desk.place_of = self.judge.place_of
        self._held: HeldAnswers | None = None
        self.ground = Ground()
        self.on_gap: Callable[[Gap, int], None] = _no_gap
        self.before_records: Callable[[Records, Records, int], None] = _no_records
        self.stop_at: tuple[int, int] | None = None
        self.on_stop: Callable[[np.void, np.void], None] = _no_record
        self.began_anew = 0
        self.pipeline.host.start()
        self._pristine = self._try_export()
        self.ingest = self._new_ingest()

    def follow(self, order: LiveOrder) -> None:
        """Judge scores in the order in which live did."""
        if self.desk is not None:
            self.desk.held = self._held = HeldAnswers(order)
            self.judge.before = self._judge_before

    def _judge_before(self, candidate: Candidate, origin: Origin) -> None:
        if self._held is not None:
            place = self.judge.place_of(candidate, origin)
            self._judge(self._held.due_before(place, candidate))

    def judge_rest(self) -> None:
        """Judge all that still waits for its turn."""
        if self._held is not None:
            self._judge(self._held.rest())

    def _judge(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self.pipeline.take_answer(answer)

    def _try_export(self) -> PipelineState | None:
        try:
            return self.pipeline.export_state()
        except SnapshotError:
            return None

    def _new_ingest(self) -> Ingest:
        decoder = BurstDecoder(0, self._blueprint.config.engine.burst)
        decoder.warm_up()
        return Ingest(
            pipeline=self.pipeline,
            decoder=decoder,
            clock=WallClock(),
            histograms=StageHistograms(),
            on_fault=_no_fault,
        )

    def begin_anew(self) -> bool:
        """Forget everything, the places in the streams too; False if that cannot be done."""
        if self._pristine is None:
            return False
        self.judge_rest()
        self.pipeline.import_state(self._pristine)
        self.ingest = self._new_ingest()
        return True

    def walk(
        self,
        reader: LogReader,
        cuts: Mapping[str, Sequence[tuple[int, Callable[[], None]]]] | None = None,
        start: int = 0,
    ) -> None:
        """Go through a log.

        Args:
            reader: The log.
            cuts: By file name, byte offsets in ascending order and what to call there.
            start: The first frame.
        """
        for segment in reader.segments(start):
            at = 0
            for offset, act in (cuts or {}).get(segment.file.name, ()):
                stop = int(np.searchsorted(segment.offsets, offset, side="left"))
                at = self._go(segment, at, stop)
                act()
            self._go(segment, at, len(segment.offsets))

    def walk_again(self, stretch: Stretch) -> None:
        """Go once more through a stretch of a recording; its records have places already."""
        ground, self.ground = self.ground, Ground()
        try:
            if not len(self.ingest.defined):
                self.ingest.learn(stretch.instruments)
            self.walk(stretch.reader, start=stretch.start)
        finally:
            self.ground = ground
            stretch.reader.close()

    def _go(self, segment: LogSegment, at: int, stop: int) -> int:
        while at < stop:
            at = self._step(segment, at, stop)
        return at

    def _step(self, segment: LogSegment, at: int, stop: int) -> int:
        decoder = self.ingest.decoder
        part = decoder.decode(segment.wire, segment.offsets, segment.lengths, at, stop)
        at += part.consumed
        if part.schema == Schema.INSTRUMENTS:
            self._learn(decode_frame(segment.wire.data, int(segment.offsets[at - 1])).records)
        elif part.schema == Schema.TICK:
            self._tell_gaps(part.count)
            self._take(self.pipeline.run_ticks, decoder.ticks, part.count)
        elif part.schema == Schema.BAR:
            self._take(self.pipeline.run_bars, decoder.bars, part.count)
        return at

    def _take(self, run: Callable[..., int], records: Records, count: int) -> None:
        origins = self.ingest.decoder.origins
        if self._held is not None and count:
            self._judge(self._held.due_at(int(records["ts_recv"][0])))
        self.ground.add(records, origins, count)
        row = None if self.stop_at is None else self._row_of(self.stop_at, records, count)
        self.before_records(records, origins, count if row is None else row + 1)
        if row is None:
            run(records, origins, 0, count)
            return
        run(records, origins, 0, row)
        self.on_stop(records[row], origins[row])
        run(records, origins, row, row + 1)
        raise Stop

    def _row_of(self, place: tuple[int, int], records: Records, count: int) -> int | None:
        origins = self.ingest.decoder.origins[:count]
        there = (origins["epoch"] == place[0]) & (origins["seq"] == place[1])
        if "kind" in (records.dtype.names or ()):
            there &= records["kind"][:count] != TickKind.GAP
        rows = np.flatnonzero(there)
        return int(rows[0]) if len(rows) else None

    def _tell_gaps(self, count: int) -> None:
        gaps = self.ingest.decoder.take_gaps()
        if gaps:
            rows = np.flatnonzero(self.ingest.decoder.ticks["kind"][:count] == TickKind.GAP)
            for gap, row in zip(gaps, rows.tolist(), strict=False):
                self.on_gap(gap, self.ground.taken + row)

    def _learn(self, instruments: Instruments) -> None:
        try:
            self.ingest.learn(instruments)
        except FrameError:
            self.began_anew += 1
            if self._pristine is not None:
                self.pipeline.import_state(self._pristine)
            self.ingest.forget()
            self.ingest.learn(instruments)

    @property
    def bad_frames(self) -> dict[str, int]:
        """What the decoder refused, by reason."""
        counted = self.ingest.decoder.count_by_name().items()
        return {name: n for name, n in counted if n and name.startswith(("frame_", "refused_"))}


def _no_gap(_: Gap, __: int) -> None:
    return


def _no_records(_: Records, __: Records, ___: int) -> None:
    return


def _no_record(_: np.void, __: np.void) -> None:
    return


def _no_fault(problem: str) -> None:
    raise FrameError(problem)
