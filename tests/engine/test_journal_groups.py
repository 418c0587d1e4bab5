"""What the journal commits together: never a part of one tick's signals."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st
from stream_fakes import make_signal

from engine.core.signals import Refusal, Signal
from engine.journal_schema import Record, SampledRefusal, make_event
from engine.journal_writer import next_group

KINDS = ("signal", "refusal", "event")


def record(kind: str, tick: int, place: int) -> Record:
    if kind == "event":
        return make_event("told", {"place": place}, place)
    if kind == "signal":
        return make_signal(1, place + 1, tick_epoch=3, tick_seq=tick)
    refusal = Refusal("ab", "X", "s", "BUY", "data", "DATA_GAP", 3, tick, 0, 0)
    return SampledRefusal(refusal, place + 1)


@st.composite
def queues(draw: st.DrawFn) -> list[Record]:
    made: list[Record] = []
    for tick in range(draw(st.integers(0, 6))):
        for kind in draw(st.lists(st.sampled_from(KINDS), max_size=5)):
            made.append(record(kind, tick, len(made)))
    return made


@given(queues(), st.integers(1, 8))
def test_groups_are_the_queue_in_order_and_no_tick_with_signals_is_parted(
    records: list[Record], rows: int
) -> None:
    queue = deque(records)
    taken: list[Record] = []
    while queue:
        group = next_group(queue, rows)
        assert len(group) >= min(rows, len(queue))
        for one in group:
            assert queue.popleft() is one
        taken += group
        before = {one.tick_seq for one in taken if isinstance(one, Signal)}
        after = {one.tick_seq for one in queue if isinstance(one, Signal)}
        assert not before & after
    assert taken == records


def test_a_group_is_no_longer_than_the_tick_needs() -> None:
    records = [record("signal", tick, tick) for tick in (0, 1, 1, 2)]
    assert next_group(records, 2) == records[:3]
    assert next_group(records, 1) == records[:1]
    assert next_group([*records[1:3], record("event", 0, 5)], 1) == records[1:3]
