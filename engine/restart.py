"""From the end of the last life to live: snapshot, recording, the gateway's resend, then the merge.

While it goes on, the pipeline judges by the ticks' own clock, models are asked at once, and what
comes of it goes through a ``RegeneratingSink``. Owned by the loop thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.composition import Blueprint, infer_at_once
from engine.core.errors import FrameError, HeqisError, SnapshotError
from engine.core.records import Instruments
from engine.ingest import Ingest
from engine.journal import Journal
from engine.model_desk import Asking, WindowGatherer
from engine.own_recording import Piece, pieces_after, pieces_within, sessions_in
from engine.parts import CONFIGURED, parts_of
from engine.pipeline import PipelineState
from engine.reached import Reached, ReachedKeeper, begin_of
from engine.regenerate import Fate, Ledger, RegeneratingClock, RegeneratingSink
from engine.restart_walk import OnProgress, Story, Walk
from engine.sinks import LiveSink
from engine.snapshot import Identity, Snapshot, check_fit, check_time
from engine.snapshot_file import SnapshotFiles, read_snapshot
from feeds.codec import merge_instruments
from feeds.control_messages import Welcome
from latency.histogram import StageHistograms
from runtime.config import MAX_BATCH

_log = logging.getLogger(__name__)
RECORDING: Final = "recording"
"""Kind of the journal's event that says which session the engine records."""
MAX_DECISIONS: Final = 200_000
"""Newest signals of the journal that are known again; what is older is not published either."""
MAX_SESSIONS: Final = 10_000
_NS_PER_S: Final = 1_000_000_000


class Restart:
    """One restart; ``await regenerate()``, then ``go_live()`` once the link has caught up.

    Args:
        blueprint: The configuration, resolved.
        ingest: The duty cycle, before its first burst; Python strategies are started.
        journal: Opened.
        sink: The live one.
        files: The snapshots; None: there are none.
        recordings: Directory of the engine's recordings; None: there are none.
        session: The session that is recorded now; only earlier ones are gone through.
        on_progress: Told now and then how far it is.

    Attributes:
        identity: Of what is in force.
        live: Whether it is over.
        story: What happened.
        sink: Decides what becomes of regenerated signals.
        reached: Keeps where in the streams the engine is; None: its recording says so.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        ingest: Ingest,
        journal: Journal,
        sink: LiveSink,
        *,
        files: SnapshotFiles | None,
        recordings: Path | None,
        session: int,
        on_progress: OnProgress = _log.debug,
    ) -> None:
        self._blueprint = blueprint
        self._ingest = ingest
        self._pipeline = ingest.pipeline
        self._journal = journal
        self._live_sink = sink
        self._files = files
        self._recordings = recordings
        self._session = session
        self._on_progress = on_progress
        self._began_ns = time.perf_counter_ns()
        self._known_sessions: set[object] = set()
        self._pristine: PipelineState | None = None
        self._before: Callable[[], None] = _nothing
        self._reached: Reached = {}
        self.reached = ReachedKeeper(ingest.decoder, journal) if recordings is None else None
        self.identity = Identity(blueprint, self._pipeline)
        self.live = False
        self.story = Story()
        self.sink: RegeneratingSink

    async def regenerate(self) -> None:
        """Bring the state to where the last life's traces end.

        Raises:
            JournalError: the journal cannot be read.
        """
        told = {"session": self._session, **parts_of(self._blueprint, self._pipeline)}
        self._journal.append_event(CONFIGURED, told, time.time_ns())
        self._pristine = self._try_export()
        snapshot, left = await self._take_up()
        await self._enter(snapshot, left)
        if snapshot is not None:
            self._pipeline.ask_again(snapshot.pipeline.waiting)
        await self._walk().go(await self._pieces(snapshot))
        self._go_on_from_reached()
        self._ingest.decoder.take_gaps()
        self._ingest.decoder.counters[:] = 0
        self.sink.replaying = self.sink.ledger.warming = False
        self.story.replay_s = self._seconds()

    def greet(self, welcome: Welcome) -> None:
        """Let the gateway's stream begin earlier if no state of it is known.

        What comes of that stretch is not published: nobody was there to miss it, or it was decided
        by an earlier life, of which only the place is known where it ended.
        """
        decoder, wanted = self._ingest.decoder, self._blueprint.config.engine.warm_up_resend
        reached = self._reached.pop(welcome.gateway, None)
        if reached is not None and not self.live:
            decoder.expect(welcome.gateway, *begin_of(reached, welcome, wanted))
        if self.live or not wanted or decoder.expected():
            return
        first = max(1, welcome.next_seq - wanted)
        decoder.expect(welcome.gateway, welcome.epoch, first)
        self.sink.ledger.warming = True

    def meet(self, instruments: Instruments) -> None:
        """Compare the gateway's definitions with what is known; begin anew if they contradict it.

        Changed definitions of known instruments are left to the stream, which has them in place.
        """
        known = self._ingest.defined
        try:
            merge_instruments(known, instruments)
        except FrameError as error:
            _log.warning("all begins anew: %s", error)
            self._begin_anew()
        if not len(self._ingest.defined):
            self._ingest.define(instruments)
        elif self._ingest.recorder is not None:
            self._ingest.recorder.define(self._ingest.defined)

    def go_live(self, instruments: Instruments | None) -> None:
        """Judge by the wall clock from the next burst on, and publish what comes of it.

        Args:
            instruments: What the gateway said its definitions are.
        """
        if self.live:
            return
        self.live = True
        self._before()
        self._pipeline.judge.begin_anew(self._journal.next_seq)
        if instruments is not None:
            self._define_rest(instruments)
        places = self._ingest.decoder.expected().items()
        streams = [[gateway, *place] for gateway, place in places]
        facts = {"session": self._session, "streams": streams, **self.facts()}
        self._live_sink.on_event("engine_live", 0, facts)

    def facts(self) -> dict[str, Any]:
        """Return what is told of the restart."""
        story, counts = self.story, self.sink.counts
        return {
            "snapshot": story.snapshot,
            "ignored": story.ignored,
            "replayed": story.replayed,
            "sessions": story.sessions,
            "strange": story.strange,
            "replay_s": round(story.replay_s, 3),
            "slice_s": round(story.slice_ns / _NS_PER_S, 4),
            "seconds": round(self._seconds(), 3),
            **{fate.value: counts[fate.value] for fate in Fate},
        }

    def _seconds(self) -> float:
        return (time.perf_counter_ns() - self._began_ns) / _NS_PER_S

    def _try_export(self) -> PipelineState | None:
        try:
            return self._pipeline.export_state()
        except SnapshotError as error:
            _log.warning("no snapshot can be taken: %s", error)
            self.story.ignored["all"] = str(error)
            return None

    async def _take_up(self) -> tuple[Snapshot | None, list[Snapshot]]:
        """Take up the newest snapshot that fits; return it, and those that were left."""
        left: list[Snapshot] = []
        for path in self._paths() if self._pristine is not None else []:
            try:
                snapshot = await asyncio.to_thread(read_snapshot, path)
                check_time(snapshot, time.time_ns())
                left.append(snapshot)
                await self._check(snapshot)
                self._pipeline.import_state(snapshot.pipeline)
            except SnapshotError as error:
                self._ignore(path, error)
                continue
            self._adopt(snapshot)
            self.story.snapshot = path.name
            return snapshot, left[:-1]
        return None, left

    def _paths(self) -> list[Path]:
        if self._files is None:
            return []
        try:
            return self._files.paths()
        except SnapshotError as error:
            self._ignore(self._files.directory, error)
            return []

    def _ignore(self, path: Path, error: SnapshotError) -> None:
        self.story.ignored[path.name] = str(error)
        self._live_sink.on_event("snapshot_ignored", 0, {"file": path.name, "reason": str(error)})
        self._reset()

    async def _check(self, snapshot: Snapshot) -> None:
        check_fit(snapshot, self._pipeline.kernel.key, self.identity())
        place = snapshot.journal
        if place.next_seq > 1 and not await self._journal.has(place.epoch, place.next_seq - 1):
            raise SnapshotError("the journal does not know the last signal before it")

    def _adopt(self, snapshot: Snapshot) -> None:
        self._ingest.adopt(self._pipeline.instruments)
        for place in snapshot.streams:
            self._ingest.decoder.expect(place.gateway, place.epoch, place.next_seq)

    async def _enter(self, snapshot: Snapshot | None, left: list[Snapshot]) -> None:
        """Let the pipeline regenerate from now on."""
        ledger = await self._read_ledger(snapshot, left)
        judge, desk = self._pipeline.judge, self._pipeline.desk
        clock = RegeneratingClock(judge.clock)
        journal = self._journal
        self.sink = RegeneratingSink(
            self._live_sink,
            ledger,
            clock,
            lambda: (journal.epoch, journal.next_seq),
            self._live_sink.on_expired,
        )
        live = judge.clock, judge.histograms
        asked = None
        if desk is not None and self._has_past(snapshot):
            asked = desk.use(await asyncio.to_thread(self._asking), clock)
        judge.sink, judge.clock, judge.histograms = self.sink, clock, StageHistograms()
        judge.was_let = ledger.knows

        def leave() -> None:
            judge.sink, (judge.clock, judge.histograms) = self._live_sink, live
            judge.was_let = _never
            if desk is not None and asked is not None:
                desk.use(*asked)

        self._before = leave

    def _has_past(self, snapshot: Snapshot | None) -> bool:
        """Whether there is anything to go through before the first live tick."""
        resent = self._blueprint.config.engine.warm_up_resend or self._reached
        if snapshot is not None or resent:
            return True
        directory = self._recordings
        return directory is not None and any(
            one.epoch < self._session for one in sessions_in(directory)
        )

    def _asking(self) -> Asking:
        """Return what answers for the models meanwhile: the reference form, at once."""
        desk, kernel = self._pipeline.desk, self._pipeline.kernel
        assert desk is not None
        try:
            return infer_at_once(self._blueprint, WindowGatherer(kernel, MAX_BATCH))
        except HeqisError as error:
            _log.warning("models answer as when live, for want of their reference: %s", error)
            return desk.inference

    async def _read_ledger(self, snapshot: Snapshot | None, left: list[Snapshot]) -> Ledger:
        place = (0, 0) if snapshot is None else (snapshot.journal.epoch, snapshot.journal.next_seq)
        signals, expired = await self._journal.read_decisions(*place, MAX_DECISIONS)
        sessions = await self._journal.read_fields(RECORDING, MAX_SESSIONS)
        self._known_sessions = {fields.get("session") for fields in sessions}
        horizons = [
            (at.epoch, at.next_seq - 1, older.taken_ns) for older in left for at in older.streams
        ]
        self._reached = await self._journal.read_reached()
        horizons += [(epoch, seq - 1, 0) for epoch, seq in self._reached.values()]
        whole = await self._journal.is_whole_from(*place)
        cut = len(signals) >= MAX_DECISIONS or not whole
        return await asyncio.to_thread(Ledger, [*signals, *expired], horizons, cut=cut)

    async def _pieces(self, snapshot: Snapshot | None) -> list[Piece]:
        if self._recordings is None:
            return []
        if snapshot is None:
            span_ns = self._blueprint.config.engine.warm_up
            return await pieces_within(self._recordings, span_ns, self._session)
        if snapshot.recording is None:
            return []
        return pieces_after(self._recordings, snapshot.recording, self._session)

    def _go_on_from_reached(self) -> None:
        """Let streams go on where the last life was in them, if nothing else tells of any."""
        decoder = self._ingest.decoder
        if decoder.expected():
            self._reached = {}
        for gateway, place in self._reached.items():
            try:
                decoder.expect(gateway, *place)
            except ValueError as error:
                _log.warning("what came after %s is not asked for: %s", place, error)

    def _walk(self) -> Walk:
        return Walk(
            self._ingest,
            self._journal,
            self._blueprint.config.journal.max_queued,
            self.story,
            begin_anew=self._begin_anew,
            on_session=self._on_session,
            on_progress=self._on_progress,
        )

    def _on_session(self, session: int) -> None:
        self.sink.ledger.warming = session not in self._known_sessions

    def _begin_anew(self) -> None:
        """Forget all instruments, and with them all state but the places in the streams."""
        self._reset()
        self._ingest.forget()

    def _reset(self) -> None:
        if self._pristine is not None:
            self._pipeline.import_state(self._pristine)

    def _define_rest(self, instruments: Instruments) -> None:
        """Take definitions that the stream should have brought, and did not."""
        known = self._ingest.defined
        rest = [
            row for row in range(len(instruments))
            if row >= len(known) or known[row].tobytes() != instruments[row].tobytes()
        ]  # fmt: skip
        if rest:
            self._ingest.define(instruments[rest])


def _nothing() -> None:
    return


def _never(_: str) -> bool:
    return False
