"""The schedule: recorded gaps by speed, nothing early, every tick once, heartbeats between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_cases import START_NS

from engine.core.records import MAX_FRAME_RECORDS, TickKind, Ticks, empty_ticks
from replay.lab.schedule import Pace, Schedule, due_times, make_schedule, stamped

S = 1_000_000_000


def ticks_at(offsets_ns: list[int]) -> Ticks:
    ticks = empty_ticks(len(offsets_ns))
    ticks["kind"] = TickKind.TRADE
    ticks["ts_recv"] = START_NS + np.array(offsets_ns)
    ticks["ts_event"] = ticks["ts_recv"] - 1_000
    ticks["size"] = np.arange(len(ticks)) + 1
    return ticks


def pace(speed: float = 1.0, slot_ns: int = 0, length_ns: int = 1_000 * S) -> Pace:
    return Pace(speed, length_ns, slot_ns)


def dues_of(schedule: Schedule) -> list[int]:
    return np.repeat(schedule.due_ns, schedule.counts).tolist()


def test_gaps_are_the_recorded_ones_by_the_speed() -> None:
    due = due_times(ticks_at([0, 10, 30, 30, 1_030])["ts_recv"], pace(speed=10.0))
    assert due.tolist() == [0, 1, 3, 3, 103]


def test_a_long_wait_is_cut_and_a_step_back_waits_for_nothing() -> None:
    due = due_times(ticks_at([0, 100 * S, 99 * S, 101 * S])["ts_recv"], pace())
    assert due.tolist() == [0, 5 * S, 5 * S, 7 * S]


def test_ticks_of_one_slot_share_a_frame_that_is_due_with_the_last() -> None:
    schedule = make_schedule(ticks_at([0, 200, 499, 500, 1_700]), pace(slot_ns=500))
    assert schedule.firsts.tolist() == [0, 3, 4]
    assert schedule.due_ns.tolist() == [499, 500, 1_700]


def test_without_slots_only_ticks_of_one_moment_share_a_frame() -> None:
    schedule = make_schedule(ticks_at([0, 1, 1, 2]), pace())
    assert schedule.counts.tolist() == [1, 2, 1]


def test_a_frame_holds_no_more_than_the_wire_allows() -> None:
    count = MAX_FRAME_RECORDS * 2 + 5
    schedule = make_schedule(ticks_at([*([0] * count), 10]), pace(slot_ns=100))
    assert schedule.counts.tolist() == [MAX_FRAME_RECORDS, MAX_FRAME_RECORDS, 6]
    assert set(schedule.due_ns.tolist()) == {10}


def test_the_play_ends_at_its_length() -> None:
    schedule = make_schedule(ticks_at([0, S, 2 * S, 3 * S]), pace(length_ns=2 * S))
    kept = schedule.ticks[schedule.ticks["kind"] == TickKind.TRADE]
    assert kept["size"].tolist() == [1, 2, 3]


def test_heartbeats_fill_silence_in_market_time() -> None:
    schedule = make_schedule(ticks_at([0, 3 * S]), pace(speed=10.0))
    assert schedule.due_ns.tolist() == [0, S // 10, S // 5, 3 * S // 10]
    assert schedule.ticks["kind"].tolist() == [1, 0, 0, 1]
    assert (schedule.ticks["ts_recv"] - START_NS).tolist() == [0, S, 2 * S, 3 * S]
    assert (np.diff(schedule.ticks["ts_event"]) > 0).all()


def test_moved_ticks_are_received_when_due_and_keep_their_delay() -> None:
    schedule = make_schedule(ticks_at([0, 400, 900]), pace(slot_ns=500))
    moved = stamped(schedule, 7 * S)
    assert (moved["ts_recv"] - 7 * S).tolist() == [400, 400, 900]
    assert (moved["ts_recv"] - moved["ts_event"]).tolist() == [1_000] * 3
    assert schedule.ticks["ts_recv"][0] == START_NS, "the schedule itself keeps the log's times"


@given(
    gaps=st.lists(st.integers(0, 3 * S), min_size=1, max_size=60),
    speed=st.sampled_from([0.5, 1.0, 3.0, 70.0]),
    slot_ns=st.sampled_from([0, 1, 500_000, 50_000_000]),
)
def test_every_tick_is_sent_once_in_order_and_never_early(
    gaps: list[int], speed: float, slot_ns: int
) -> None:
    ticks = ticks_at(np.cumsum([0, *gaps]).tolist())
    schedule = make_schedule(ticks, pace(speed, slot_ns))
    market = schedule.ticks["kind"] == TickKind.TRADE
    assert schedule.ticks["size"][market].tolist() == ticks["size"].tolist()
    assert schedule.firsts[0] == 0
    assert (schedule.counts > 0).all()
    assert (np.diff(schedule.due_ns) >= 0).all()
    own = due_times(ticks["ts_recv"], pace(speed, slot_ns))
    late = np.array(dues_of(schedule))[market] - own
    assert (late >= 0).all()
    assert (late <= slot_ns).all()
    assert np.diff(schedule.due_ns, prepend=0).max() <= 100_000_000, "never silent for longer"


def test_slots_do_not_change_what_is_sent() -> None:
    ticks = ticks_at(np.cumsum(np.arange(500) * 1_000).tolist())
    alone, shared = (make_schedule(ticks, pace(slot_ns=slot)) for slot in (0, 500_000))
    assert len(shared.due_ns) < len(alone.due_ns)
    assert alone.ticks.tobytes() == shared.ticks.tobytes()


@pytest.mark.parametrize("speed", [1.0, 50.0])
def test_a_schedule_lasts_as_long_as_the_log_by_its_speed(speed: float) -> None:
    ticks = ticks_at(np.arange(0, 60 * S, S // 4).tolist())
    schedule = make_schedule(ticks, pace(speed))
    assert schedule.due_ns[-1] == pytest.approx(59.75 * S / speed, abs=300)
