"""The schedule of a paced stream."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import Ticks, empty_ticks
from feeds.pacing import Pacer

START = 50_000
WALL = 1_700_000_000_000_000_000


def ticks_at(*times: int, delay: int = 10) -> Ticks:
    ticks = empty_ticks(len(times))
    ticks["ts_recv"] = times
    ticks["ts_event"] = ticks["ts_recv"] - delay
    return ticks


def started(*batches: Ticks, **keys: object) -> Pacer:
    pacer = Pacer(iter(batches), **keys)  # type: ignore[arg-type] # keywords vary by test
    assert pacer.next_due_ns(START) == START
    return pacer


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.integers(1, 400), st.data())
def test_every_tick_leaves_once_in_order_and_not_before_it_is_due(
    gaps: list[int], step: int, data: st.DataObject
) -> None:
    times = np.cumsum(gaps) + 1000
    cut = data.draw(st.integers(0, len(gaps)))
    pacer = started(*(b for b in (ticks_at(*times[:cut]), ticks_at(*times[cut:])) if len(b)),
                    keep_times=True)  # fmt: skip
    taken: list[int] = []
    now = START
    while pacer.next_due_ns(now) is not None:
        paced = pacer.take(now, WALL + now, 7)
        for tick, intended in zip(paced.ticks, paced.intended, strict=True):
            assert tick["ts_recv"] - times[0] <= now - START
            assert intended - WALL - START == tick["ts_recv"] - times[0]
            taken.append(int(tick["ts_recv"]))
        now += step
    assert taken == times.tolist()


def test_speed_shortens_the_waits() -> None:
    pacer = started(ticks_at(0, 1000, 3000), speed=10.0, keep_times=True)
    assert len(pacer.take(START + 99, WALL, 9).ticks) == 1
    assert pacer.next_due_ns(0) == START + 100
    assert len(pacer.take(START + 300, WALL, 9).ticks) == 2
    assert pacer.next_due_ns(0) is None
    assert pacer.exhausted


def test_a_long_gap_is_shortened_across_batches_too() -> None:
    pacer = started(ticks_at(0), ticks_at(10**12), longest_gap_ns=500, keep_times=True)
    pacer.take(START, WALL, 9)
    assert pacer.next_due_ns(0) == START + 500


def test_moved_times_are_the_gateways_and_keep_the_delay() -> None:
    pacer = started(ticks_at(1000, 1400, delay=30))
    paced = pacer.take(START + 450, WALL, 9)
    assert paced.ticks["ts_recv"].tolist() == [WALL, WALL]
    assert paced.ticks["ts_event"].tolist() == [WALL - 30, WALL - 30]
    assert paced.intended.tolist() == [WALL - 450, WALL - 50]


def test_moved_times_never_step_back_with_the_clock() -> None:
    pacer = started(ticks_at(0, 10))
    pacer.take(START, WALL, 9)
    late = pacer.take(START + 10, WALL - 3600, 9)
    assert late.ticks["ts_recv"].tolist() == [WALL]
    assert pacer.heartbeat_time(START + 20, WALL - 9) == (WALL - 10, WALL)


def test_heartbeats_stand_between_the_ticks_around_them() -> None:
    pacer = started(ticks_at(1000), ticks_at(2000), keep_times=True, speed=2.0)
    assert pacer.heartbeat_time(START, WALL) is None
    pacer.take(START, WALL, 9)
    assert pacer.heartbeat_time(START + 100, WALL) == (1190, 1200)
    assert pacer.heartbeat_time(START + 10_000, WALL) == (1990, 2000)
    assert pacer.heartbeat_time(START + 100, WALL) == (1990, 2000)


def test_a_source_without_ticks_is_exhausted_at_once() -> None:
    pacer = Pacer(iter([ticks_at()]))
    assert pacer.next_due_ns(0) is None
    assert not len(pacer.take(0, 0, 5).ticks)
