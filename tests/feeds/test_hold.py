"""What is held after a gap: in order, bounded, and where more is missing."""

from frame_cases import frame_of, make_instruments, make_ticks, tick_frame
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import Schema
from feeds.hold import Hold, Place, place_of


def test_messages_come_back_in_order_in_slices() -> None:
    hold = Hold(1 << 20)
    frames = [tick_frame(make_ticks(1), seq) for seq in range(1, 11)]
    for frame in frames:
        hold.append(frame)
    first = hold.take(300)
    assert first == frames[:3]
    hold.put_back(first[1:])
    assert hold.take(1 << 20) == frames[1:]
    assert (len(hold), hold.held_bytes) == (0, 0)
    assert hold.take(100) == []


def test_it_says_when_it_is_full_and_when_half_is_free() -> None:
    hold = Hold(1000)
    while not hold.full:
        hold.append(tick_frame(make_ticks(1), 1))
    assert hold.held_bytes >= 1000 > hold.held_bytes - 144 - 64
    assert not hold.roomy
    hold.take(500)
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
