"""Records again, out of the ring and the spool: which, how flagged, how many."""

from pathlib import Path

import numpy as np
from frame_cases import frame_of, make_instruments, make_ticks
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import SEQUENCED, FrameFlag, Schema
from feeds.codec import Frame, iter_frames
from feeds.config import SpoolConfig
from feeds.control_messages import BUSY, ErrorReply, Resend, Resent
from feeds.frame_ring import FrameRing
from feeds.resend import Limits, Resender, flag_frames
from feeds.sequencer import Sequencer
from feeds.spool import Spool
from feeds.spool_reader import SpoolReader

EPOCH = 5
MANY = 1 << 40


class Source:
    """A stream in a small ring, and in a spool if there is a directory."""

    def __init__(self, directory: Path | None = None, *, ring: int = 16, **limits: int) -> None:
        self.ring = FrameRing(ring, 1 << 30)
        self.sequencer = Sequencer(1, EPOCH)
        self.spool: Spool | None = None
        past = None
        if directory is not None:
            config = SpoolConfig(directory=directory, memory=directory)
            self.spool = Spool(config, make_instruments(), gateway=1, epoch=EPOCH)
            past = SpoolReader(directory, 1, directory)
        keys = {"answer_bytes": 1 << 12, "bytes_per_s": MANY, "peers": 2, **limits}
        self.resender = Resender(
            1, self.ring, lambda: (EPOCH, self.sequencer.next_seq), past, self.flush, Limits(**keys)
        )

    def flush(self) -> None:
        if self.spool is not None:
            self.spool.commit()

    def publish(self, frames: int, ticks: int = 2) -> None:
        for _ in range(frames):
            for frame in self.sequencer.ticks(make_ticks(ticks), 1):
                self.ring.push(frame)
                if self.spool is not None:
                    self.spool.append(frame)

    def ask(self, first: int, count: int, epoch: int = EPOCH) -> tuple[Resent, list[Frame]]:
        head, body = self.resender.serve(b"p", Resend(epoch, first, count), 1)
        assert isinstance(head, Resent)
        return head, list(iter_frames(body))


def numbers(frames: list[Frame]) -> list[int]:
    return [
        frame.first_seq + k
        for frame in frames
        if frame.schema in SEQUENCED
        for k in range(len(frame.records))
    ]


def test_a_range_comes_with_the_frames_that_hold_it_flagged() -> None:
    source = Source()
    source.publish(10)
    head, frames = source.ask(4, 3)
    assert numbers(frames) == [3, 4, 5, 6]
    assert all(frame.flags == FrameFlag.RESEND for frame in frames)
    assert head == Resent(1, EPOCH, 4, 7, 1, 21, 0)


def test_an_answer_is_bounded_and_says_where_to_go_on() -> None:
    source = Source()
    source.publish(16, ticks=10)
    head, frames = source.ask(1, 160)
    assert sum(frame.length for frame in frames) <= 1 << 12
    assert head.next_seq == numbers(frames)[-1] + 1 < 160
    assert head.end_seq == 161


@given(
    frames=st.integers(1, 120),
    first=st.integers(1, 300),
    count=st.integers(0, 300),
    spooled=st.booleans(),
)
def test_asking_on_gives_all_that_is_held_once_and_says_what_is_not(
    tmp_path_factory: object, frames: int, first: int, count: int, spooled: bool
) -> None:
    directory = tmp_path_factory.mktemp("spool") if spooled else None  # type: ignore[attr-defined] # pytest's
    source = Source(directory)
    source.publish(frames)
    end = source.sequencer.next_seq
    held_from = 1 if spooled else source.ring[source.ring.tail].first_seq
    got: set[int] = set()
    at, stop = first, min(first + count, end)
    while at < stop:
        head, found = source.ask(at, stop - at)
        assert head.next_seq > at
        assert head.end_seq == end
        assert head.first_held == held_from
        got |= set(numbers(found))
        at = head.next_seq
    wanted = {seq for seq in range(first, stop) if seq >= held_from}
    assert wanted <= got <= wanted | {first - 1, stop}


def test_nothing_is_known_of_another_epoch_and_that_is_said() -> None:
    source = Source()
    source.publish(3)
    assert source.ask(7, 5, epoch=99) == (Resent(1, 99, 7, 12, 0, 0, 0, torn=True), [])
    assert source.ask(7, 5, epoch=3) == (Resent(1, 3, 7, 12, 0, 0, EPOCH, torn=True), [])


def test_definitions_go_before_the_ticks_that_need_them() -> None:
    source = Source()
    source.publish(2)
    for frame in source.sequencer.definitions(make_instruments(3), 1):
        source.ring.push(frame)
    source.publish(2)
    _, frames = source.ask(5, 2)
    assert [frame.schema for frame in frames] == [Schema.INSTRUMENTS, Schema.TICK]
    source.publish(16)
    _, frames = source.ask(1, 60)
    assert frames[0].schema is Schema.INSTRUMENTS
    assert len(frames[0].records) == 3


def test_one_peer_has_its_share_a_second_and_takes_none_of_anothers() -> None:
    source = Source(bytes_per_s=10_000, answer_bytes=1 << 12)
    source.publish(16, ticks=20)
    request = Resend(EPOCH, 1, 300)
    refused = [isinstance(source.resender.serve(b"a", request, 1)[0], ErrorReply) for _ in range(5)]
    assert refused == [False, False, True, True, True]
    assert isinstance(source.resender.serve(b"b", request, 1)[0], Resent)
    answer, _ = source.resender.serve(b"a", request, 1)
    assert isinstance(answer, ErrorReply)
    assert answer.reason == BUSY
    assert isinstance(source.resender.serve(b"a", request, 1_000_000_000)[0], Resent)
    assert source.resender.counters["refused"] == 4


def test_damaged_frames_are_never_made_to_look_good() -> None:
    good = [frame_of(Schema.TICK, make_ticks(1), seq) for seq in range(1, 4)]
    bad = good[1][:90] + b"\xff" + good[1][91:]
    wire = np.frombuffer(good[0] + bad + good[2], np.uint8)
    frames = list(iter_frames(flag_frames(wire)))
    assert [frame.first_seq for frame in frames] == [1, 3]
    assert all(frame.flags == FrameFlag.RESEND for frame in frames)


@given(st.binary(max_size=400))
def test_garbage_comes_to_nothing(junk: bytes) -> None:
    assert flag_frames(np.frombuffer(junk, np.uint8)) == b""


def test_what_a_torn_log_holds_comes_and_its_end_is_said_to_be_unknown(tmp_path: Path) -> None:
    torn = Source(tmp_path)
    torn.publish(3)
    torn.flush()
    (tmp_path / next(p.name for p in tmp_path.iterdir() if p.is_file())).unlink()
    later = Resender(
        1,
        FrameRing(16, 1 << 30),
        lambda: (EPOCH + 1, 1),
        SpoolReader(tmp_path, 1, tmp_path),
        lambda: None,
        Limits(1 << 12, MANY, 2),
    )
    head, body = later.serve(b"p", Resend(EPOCH, 3, MANY), 1)
    assert head == Resent(1, EPOCH, 3, 7, 1, 7, EPOCH + 1, torn=True)
    assert numbers(list(iter_frames(body))) == [3, 4, 5, 6]
