"""What is held after a gap: in order, bounded, and where more is missing."""

from collections import deque
from typing import Any

from frame_cases import frame_of, make_instruments, make_ticks, tick_frame
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import Schema
from feeds.answer import Frames
from feeds.hold import Hold, Place, place_of


def _messages(frames: Frames) -> list[bytes]:
    return [
        frames.wire[at : at + length].tobytes()
        for at, length in zip(frames.offsets.tolist(), frames.lengths.tolist(), strict=True)
    ]


def test_messages_come_back_in_order_in_slices() -> None:
    hold = Hold(1 << 20)
    frames = [tick_frame(make_ticks(1), seq) for seq in range(1, 11)]
    for frame in frames:
        hold.append(frame)
    assert _messages(hold.oldest(300)) == frames[:3]
    hold.drop(1)
    assert len(hold) == 9
    assert _messages(hold.oldest(1 << 20)) == frames[1:]
    assert _messages(hold.oldest(0)) == frames[1:2]
    hold.drop(9)
    assert (len(hold), hold.held_bytes) == (0, 0)
    assert _messages(hold.oldest(100)) == []
    hold.drop(0)


@given(
    st.lists(
        st.one_of(
            st.integers(8, 300_000).map(lambda words: ("append", words * 8)),
            st.tuples(st.integers(0, 1 << 20), st.floats(0, 1)).map(lambda few: ("take", *few)),
        ),
        max_size=60,
    )
)
def test_it_is_a_queue_of_any_messages(steps: list[tuple[Any, ...]]) -> None:
    hold, twin, number = Hold(1 << 20), deque[bytes](), 0
    for what, *amounts in steps:
        if what == "append":
            number += 1
            twin.append(number.to_bytes(8, "little") * (amounts[0] // 8))
            hold.append(memoryview(twin[-1]))
        else:
            most, share = amounts
            got = _messages(hold.oldest(most))
            assert got == list(twin)[: len(got)]
            assert bool(got) == bool(twin)
            assert sum(map(len, got[:-1])) < max(1, most)
            dropped = round(share * len(got))
            hold.drop(dropped)
            for _ in range(dropped):
                twin.popleft()
        assert len(hold) == len(twin)
        assert hold.held_bytes == sum(map(len, twin)) + 8 * len(twin)


def test_what_is_held_keeps_its_bytes_while_more_comes() -> None:
    hold = Hold(1 << 20)
    first = tick_frame(make_ticks(1), 1)
    hold.append(first)
    frames = hold.oldest(1)
    hold.append(tick_frame(make_ticks(4), 2))
    assert _messages(frames) == [first]


def test_it_says_when_it_is_full_and_when_half_is_free() -> None:
    hold = Hold(1000)
    while not hold.full:
        hold.append(tick_frame(make_ticks(1), 1))
    assert hold.held_bytes >= 1000 > hold.held_bytes - 144 - 8
    assert not hold.roomy
    hold.drop(len(hold.oldest(500).offsets))
    assert hold.roomy
    assert hold.most_bytes >= 1000


@given(st.lists(st.tuples(st.integers(7, 9), st.integers(1, 30), st.integers(1, 4)), max_size=40))
def test_every_gap_among_the_held_is_told(frames: list[tuple[int, int, int]]) -> None:
    hold = Hold(1 << 20)
    hold.follow(Place(7, 5))
    now, past, expected = 7, None, 5
    for epoch, first, count in frames:
        told = hold.append(tick_frame(make_ticks(count), first, epoch=epoch))
        if epoch == past:
            assert told is None
        elif epoch != now:
            assert told == Place(epoch, first)
            now, past, expected = epoch, now, first + count
        else:
            assert told == (Place(epoch, first) if first > expected else None)
            expected = max(expected, first + count)


def test_definitions_are_held_and_are_no_gap() -> None:
    hold = Hold(1 << 20)
    hold.follow(Place(7, 5))
    frame = frame_of(Schema.INSTRUMENTS, make_instruments(), 50)
    assert hold.append(frame) is None
    assert hold.append(tick_frame(make_ticks(1), 5)) is None
    assert len(hold) == 2
    assert place_of(frame) == Place(7, 50)
