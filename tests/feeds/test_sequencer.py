"""Numbering, framing and the ring of latest frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import Schema, empty_ticks, instrument_row
from feeds.codec import decode_frame
from feeds.frame_ring import FrameRing
from feeds.outlet import Outlet
from feeds.sequencer import Sequenced, Sequencer


class TakingSender:
    """Takes frames while there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        if len(self.taken) == self.room:
            return False
        self.taken.append(frame)
        return True


@given(st.lists(st.integers(1, 700), max_size=8))
def test_frames_count_contiguously_whatever_the_batches(batches: list[int]) -> None:
    sequencer = Sequencer(7, 42)
    frames = [f for size in batches for f in sequencer.ticks(empty_ticks(size), 1000)]
    expected = 1
    for made in frames:
        frame = decode_frame(made.frame)
        assert (frame.gateway, frame.epoch, frame.first_seq) == (7, 42, expected)
        assert len(frame.records) == made.consumed <= 256
        expected += made.consumed
    assert expected == 1 + sum(batches) == sequencer.next_seq


def test_a_frame_carries_when_its_first_tick_should_have_left() -> None:
    intended = np.arange(300, dtype=np.int64) + 5000
    frames = Sequencer(1, 1).ticks(empty_ticks(300), 9000, intended)
    assert [decode_frame(f.frame).ts_intended for f in frames] == [5000, 5256]
    assert {decode_frame(f.frame).ts_send for f in frames} == {9000}


def test_definitions_consume_no_sequence_number() -> None:
    sequencer = Sequencer(1, 1, first_seq=10)
    made = sequencer.definitions(instrument_row("A.SIM"), 5)
    assert [(m.first_seq, m.consumed) for m in made] == [(10, 0)]
    assert decode_frame(made[0].frame).schema is Schema.INSTRUMENTS
    assert sequencer.next_seq == 10


def frames_of(counts: list[int]) -> list[Sequenced]:
    made, seq = [], 1
    for count in counts:
        made.append(Sequenced(seq, count, bytes(10)))
        seq += count
    return made


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_ring_holds_the_newest_and_finds_every_number_it_holds(
    counts: list[int], max_frames: int
) -> None:
    ring = FrameRing(max_frames, 1 << 20)
    frames = frames_of(counts)
    for frame in frames:
        ring.push(frame)
    held = frames[-max_frames:]
    assert [ring[i] for i in range(ring.tail, ring.head)] == held
    assert ring.held_bytes == 10 * len(held)
    last = frames[-1].first_seq + frames[-1].consumed
    for seq in range(last + 2):
        where = ring.find(seq)
        holders = [f for f in held if f.first_seq <= seq < f.first_seq + f.consumed]
        assert ([] if where is None else [ring[where]]) == holders


def test_ring_is_bounded_in_bytes_and_says_what_it_no_longer_has() -> None:
    ring = FrameRing(100, 35)
    for frame in frames_of([1] * 10):
        ring.push(frame)
    assert (len(ring), ring.held_bytes) == (3, 30)
    with pytest.raises(IndexError, match="not held"):
        ring[0]


def test_outlet_sends_in_order_when_the_peer_returns() -> None:
    ring, sender = FrameRing(16, 1 << 20), TakingSender(0)
    outlet = Outlet("x", sender, ring)
    for frame in frames_of([2, 3, 4]):
        ring.push(frame)
    assert outlet.drain(10) == 0
    assert (outlet.blocked, outlet.waiting) == (True, 3)
    sender.room = 10
    assert outlet.drain(2) == 2
    assert outlet.drain(10) == 1
    assert (outlet.blocked, outlet.waiting, outlet.dropped_frames) == (False, 0, 0)


def test_outlet_counts_exactly_what_the_ring_dropped() -> None:
    ring, sender = FrameRing(2, 1 << 20), TakingSender(0)
    outlet = Outlet("x", sender, ring)
    frames = frames_of([2, 3, 4, 5])
    ring.push(frames[0])
    sender.room = 1
    assert outlet.drain(10) == 1
    for frame in frames[1:]:
        ring.push(frame)
    sender.room = 10
    assert outlet.drain(10) == 2
    assert (outlet.dropped_frames, outlet.dropped_ticks) == (1, 3)


def test_definitions_that_left_the_ring_are_sent_before_what_follows() -> None:
    sequencer, ring, sender = Sequencer(1, 5), FrameRing(2, 1 << 20), TakingSender(0)
    outlet = Outlet("engine", sender, ring)

    def publish(*made: list[Sequenced]) -> None:
        for frame in (one for part in made for one in part):
            ring.push(frame)

    rows = np.concatenate([instrument_row(f"{name}.SIM", id=i) for i, name in enumerate("ABC")])
    ticks = empty_ticks(3)
    publish(sequencer.definitions(rows, 5), sequencer.ticks(ticks, 6))
    later = rows[1:2].copy()
    later["pre_close"] = 7.5
    publish(sequencer.definitions(later, 7), sequencer.ticks(ticks, 8), sequencer.ticks(ticks, 9))
    outlet.drain(9)
    sender.room = 9
    assert outlet.drain(1) == 1
    outlet.drain(9)
    publish(sequencer.ticks(ticks, 10))
    outlet.drain(9)
    sent = [decode_frame(frame) for frame in sender.taken]
    assert [frame.schema for frame in sent] == [Schema.INSTRUMENTS, *3 * [Schema.TICK]]
    assert [frame.first_seq for frame in sent] == [4, 4, 7, 10]
    assert sent[0].records["symbol"].tolist() == rows["symbol"].tolist()
    assert sent[0].records["pre_close"][1] == 7.5
    assert (outlet.dropped_frames, outlet.dropped_ticks) == (3, 3)
