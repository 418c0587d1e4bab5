"""Bugs planted on purpose: each changes one real part, as somebody's mistake might.

A simulation that does not find them is none.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

from engine.core.signals import Signal
from engine.ingest import Ingest
from engine.journal_store import JournalStore
from engine.journal_writer import JournalWriter
from engine.operator_desk import OperatorDesk
from engine.regenerate import Fate, Ledger
from engine.stream_messages import GapReason, Subscribe
from engine.stream_ring import SignalRing
from feeds.control_messages import ErrorReply, Resend, Resent
from feeds.hold import Hold, Place
from feeds.recovery import Recovery
from feeds.resend import Resender
from runtime.executors import Job
from runtime.lane import Lane

Planted = Callable[[], Any]
"""Returns a context manager: inside, the bug is there."""


def _resend_is_off_by_one() -> Any:
    """The gateway sends again from the number after the one asked for."""
    serve = Resender.serve

    def wrong(
        self: Resender, peer: bytes, request: Resend, mono_ns: int
    ) -> tuple[Resent | ErrorReply, bytes]:
        later = Resend(request.epoch, request.first_seq + 1, request.count)
        head, frames = serve(self, peer, later, mono_ns)
        if isinstance(head, Resent):
            head = Resent(
                head.gateway, head.epoch, request.first_seq, head.next_seq, head.first_held,
                head.end_seq, head.next_epoch, head.torn,
            )  # fmt: skip
        frames = b"" if not frames else _without_first(frames)
        return head, frames

    return mock.patch.object(Resender, "serve", wrong)


def _without_first(frames: bytes) -> bytes:
    from feeds.codec import decode_frame

    return frames[decode_frame(frames).length :]


def _duplicates_are_taken_for_new() -> Any:
    """What came twice is counted on from where it begins."""
    take = Ingest.take

    def wrong(
        self: Ingest, wire: Any, offsets: Any, lengths: Any, at: int, count: int, woken_ns: int
    ) -> int:
        for gateway, (epoch, expected) in self.decoder.expected().items():
            place = _place(wire, offsets, lengths, at)
            if place is not None and place[0] == epoch and 0 < expected - place[1] <= 2:
                self.decoder.expect(gateway, epoch, place[1])
                self.decoder.hold(gateway, at_gaps=True)
        return take(self, wire, offsets, lengths, at, count, woken_ns)

    return mock.patch.object(Ingest, "take", wrong)


def _place(wire: Any, offsets: Any, lengths: Any, at: int) -> tuple[int, int] | None:
    if at >= len(offsets) or int(lengths[at]) < 64:
        return None
    begin = int(offsets[at])
    head = bytes(wire[begin : begin + 64])
    schema = int.from_bytes(head[6:8], "little")
    if schema != 2:
        return None
    return int.from_bytes(head[8:16], "little"), int.from_bytes(head[16:24], "little")


def _resume_skips_one() -> Any:
    """A client that resumes is not sent the first signal that it asks for."""
    from engine import stream_protocol

    start_of = stream_protocol.start_of

    def wrong(message: Subscribe, ring: SignalRing) -> tuple[int, GapReason | None]:
        cursor, reason = start_of(message, ring)
        skip = message.from_seq is not None and reason is None and cursor <= ring.head
        return cursor + skip, reason

    return mock.patch.object(stream_protocol, "start_of", wrong)


def _hold_is_never_full() -> Any:
    """What comes after a gap is held without a bound."""
    return mock.patch.object(Hold, "full", property(lambda self: False))


def _ids_are_used_again() -> Any:
    """After a restart, what was journaled is not known again, and is published once more."""

    def wrong(self: Ledger, signal: Signal, now_ns: int) -> Fate:
        return Fate.LATE

    return mock.patch.object(Ledger, "fate", wrong)


def _gaps_are_not_told() -> Any:
    """A gap is opened in the engine, and neither journal nor clients hear of it."""

    def wrong(self: Ingest) -> None:
        self._gaps = self.pipeline.gaps
        self.decoder.take_gaps()

    return mock.patch.object(Ingest, "_tell_gaps", wrong)


def _answers_count_for_more() -> Any:
    """The engine believes that an answer has got one number further than it has."""
    take = Recovery.take

    def wrong(self: Recovery, head: Resent, mono_ns: int) -> None:
        take(self, head, mono_ns)
        if not self.done and self.cursor.epoch == self.goal.epoch:
            self.cursor = Place(self.cursor.epoch, self.cursor.seq + 1)

    return mock.patch.object(Recovery, "take", wrong)


def _rows_are_forgotten() -> Any:
    """A group of rows that could not be written is taken for written."""
    fail = JournalWriter._fail

    def wrong(self: JournalWriter, *args: Any) -> None:
        fail(self, *args)
        if self.queue:
            self.queue.popleft()

    return mock.patch.object(JournalWriter, "_fail", wrong)


def _numbers_go_on_after_a_kill() -> Any:
    """The stream's epoch stays although signals may have been sent that were not journaled."""

    async def wrong(self: JournalStore, now_wall_ns: int) -> tuple[int, int]:
        rows = await self.writer.execute_fetchall("SELECT max(epoch) FROM signals")
        epoch = next(iter(rows))[0] or now_wall_ns // 1_000_000
        await self.mark(epoch, 1, clean=False)
        return epoch, 1

    return mock.patch.object(JournalStore, "begin_epoch", wrong)


def _lost_batches_are_not_answered() -> Any:
    """When a device hangs, nobody tells those who wait for its answers."""

    def wrong(self: Lane, jobs: list[Job]) -> None:
        for job in jobs:
            job.hosted.in_flight -= 1
        self._on_health(self.device, "lost")

    return mock.patch.object(Lane, "on_lost", wrong)


def _a_halt_is_over_with_its_life() -> Any:
    """The next life of the engine begins as the configuration has it."""
    return mock.patch.object(OperatorDesk, "restore", return_value=None)


BUGS: Final[Mapping[str, Planted]] = {
    one.__name__.removeprefix("_"): one
    for one in (
        _resend_is_off_by_one,
        _duplicates_are_taken_for_new,
        _resume_skips_one,
        _hold_is_never_full,
        _ids_are_used_again,
        _gaps_are_not_told,
        _answers_count_for_more,
        _rows_are_forgotten,
        _numbers_go_on_after_a_kill,
        _lost_batches_are_not_answered,
        _a_halt_is_over_with_its_life,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one of BUGS."""
    with BUGS[name]():
        yield
