"""Goes through the recording on the loop thread, a slice a turn, and says how far it is."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.core.errors import FrameError
from engine.core.records import Instruments, Schema
from engine.ingest import Ingest
from engine.journal import Journal
from engine.own_recording import Piece, Stretch
from feeds.codec import decode_frame
from feeds.log_reader import LogSegment

_log = logging.getLogger(__name__)
SLICE_NS: Final = 5_000_000
"""Longest stretch of regeneration without a turn of the event loop, about."""
STEP_NS: Final = SLICE_NS // 4
"""What one compiled call is to take, about."""
MAX_MESSAGES: Final = 64
TELL_NS: Final = 500_000_000
"""Between two words about how far it is."""
LOG_NS: Final = 5_000_000_000

OnProgress = Callable[[str], object]
"""Takes a line about how far it is."""


@dataclass(slots=True)
class Story:
    """What happened on the way to live.

    Attributes:
        snapshot: The file that was taken up, "" if none.
        ignored: Files that were not, and why.
        replayed: Records of the recording gone through.
        sessions: Sessions of the recording they came from.
        strange: Sessions whose definitions contradict those before: all began anew there.
        replay_s: Seconds that took, snapshot included.
        slice_ns: Longest time without a turn of the event loop meanwhile.
    """

    snapshot: str = ""
    ignored: dict[str, str] = field(default_factory=dict)
    replayed: int = 0
    sessions: int = 0
    strange: int = 0
    replay_s: float = 0.0
    slice_ns: int = 0


class Pace:
    """How many messages one step may take; follows what they have cost. Pure.

    A message with a hundred scores of a model costs a thousand times one of quotes.
    """

    def __init__(self) -> None:
        self.messages = 1

    def took(self, messages: int, spent_ns: int) -> None:
        """Say what the last step took."""
        if spent_ns > STEP_NS:
            self.messages = max(1, min(messages, self.messages) // 2)
        elif 2 * spent_ns < STEP_NS and messages == self.messages:
            self.messages = min(MAX_MESSAGES, 2 * self.messages)


class Walk:
    """One way through the recording; owned by the loop thread.

    Args:
        ingest: Its decoder and pipeline take the frames.
        journal: Is given time to write where it has fallen behind.
        max_queued: Rows that may wait there.
        story: Counts.
        begin_anew: Forgets all instruments, and with them all state.
        on_session: Told of the session before anything of it is gone through.
        on_progress: Told now and then how far it is.
    """

    def __init__(
        self,
        ingest: Ingest,
        journal: Journal,
        max_queued: int,
        story: Story,
        *,
        begin_anew: Callable[[], None],
        on_session: Callable[[int], None],
        on_progress: OnProgress,
    ) -> None:
        self._ingest = ingest
        self._journal = journal
        self._max_waiting = max_queued // 4
        self._story = story
        self._begin_anew = begin_anew
        self._on_session = on_session
        self._on_progress = on_progress
        self._pace = Pace()
        self._session: int | None = None
        self._done_bytes = 0
        self._all_bytes = 0
        self._told_ns = self._logged_ns = self._turned_ns = time.perf_counter_ns()

    async def go(self, pieces: Sequence[Piece]) -> None:
        """Go through all of them, in order."""
        self._all_bytes = sum(piece.size_bytes for piece in pieces)
        for piece in pieces:
            stretch = await asyncio.to_thread(piece.open)
            self._turned_ns = time.perf_counter_ns()
            if stretch is not None:
                await self._go_through(stretch)
            self._done_bytes += piece.size_bytes

    async def _go_through(self, stretch: Stretch) -> None:
        if stretch.session != self._session:
            self._session = stretch.session
            self._story.sessions += 1
            self._on_session(stretch.session)
        try:
            if not len(self._ingest.defined):
                self._ingest.learn(stretch.instruments)
            for segment in stretch.segments():
                await self._go_through_segment(segment)
        finally:
            stretch.reader.close()

    async def _go_through_segment(self, segment: LogSegment) -> None:
        at, count = 0, len(segment.offsets)
        while at < count:
            began_ns = time.perf_counter_ns()
            after = self._step(segment, at, min(count, at + self._pace.messages))
            now_ns = time.perf_counter_ns()
            self._pace.took(after - at, now_ns - began_ns)
            at = after
            if now_ns - self._turned_ns >= SLICE_NS:
                await self._breathe(now_ns, int(segment.offsets[at - 1]))

    async def _breathe(self, now_ns: int, offset: int) -> None:
        """Let the loop turn, and the journal write where it has fallen behind."""
        self._story.slice_ns = max(self._story.slice_ns, now_ns - self._turned_ns)
        if now_ns - self._told_ns >= TELL_NS:
            self._told_ns = now_ns
            self._tell(now_ns, self._done_bytes + offset)
        if self._journal.queued > self._max_waiting:
            await self._journal.flush()
        await asyncio.sleep(0)
        self._turned_ns = time.perf_counter_ns()

    def _tell(self, now_ns: int, done_bytes: int) -> None:
        percent = 100 * done_bytes // max(1, self._all_bytes)
        text = f"going through the recording: {percent} %, {self._story.replayed:,} records"
        self._on_progress(text)
        if now_ns - self._logged_ns >= LOG_NS:
            self._logged_ns = now_ns
            _log.info("%s", text)

    def _step(self, segment: LogSegment, at: int, stop: int) -> int:
        decoder, pipeline = self._ingest.decoder, self._ingest.pipeline
        part = decoder.decode(segment.wire, segment.offsets, segment.lengths, at, stop)
        at += part.consumed
        if part.schema == Schema.INSTRUMENTS:
            self._learn(decode_frame(segment.wire.data, int(segment.offsets[at - 1])).records)
        elif part.schema == Schema.TICK:
            pipeline.run_ticks(decoder.ticks, decoder.origins, 0, part.count)
            self._story.replayed += part.count
        elif part.schema == Schema.BAR:
            pipeline.run_bars(decoder.bars, decoder.origins, 0, part.count)
            self._story.replayed += part.count
        return at

    def _learn(self, instruments: Instruments) -> None:
        try:
            self._ingest.learn(instruments)
        except FrameError as error:
            _log.warning("the recording begins anew: %s", error)
            self._story.strange += 1
            self._begin_anew()
            self._ingest.learn(instruments)
