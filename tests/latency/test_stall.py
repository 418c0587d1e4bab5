"""The stall meter finds a loop that stood still, and costs next to nothing."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from latency.stall import LOOP, LoopWatch, StallMeter

MS_NS = 1_000_000
RUNNERS = [asyncio.run, uvloop.run]
Runner = Callable[[Coroutine[Any, Any, None]], None]


def test_lateness_beyond_the_budget_is_a_stall() -> None:
    meter = StallMeter(budget_ns=5 * MS_NS)
    for late_ns in (0, 5 * MS_NS, 6 * MS_NS, 9 * MS_NS):
        meter.record(1_000, 1_000 + late_ns)
    assert (meter.stalls, meter.worst_ns) == (2, 9 * MS_NS)
    assert meter.cumulative().total == 4


def test_early_wake_up_counts_as_on_time() -> None:
    meter = StallMeter()
    meter.record(2_000, 1_000)
    summary = meter.cumulative().summary()
    assert (summary.count, summary.max, summary.clock_faults) == (1, 0, 0)


@given(lates=st.lists(st.integers(0, 10**9), max_size=40), budget=st.integers(0, 10**9))
def test_counts_equal_a_plain_walk_over_the_wake_ups(lates: list[int], budget: int) -> None:
    meter = StallMeter(budget)
    for late in lates:
        meter.record(7, 7 + late)
    assert meter.stalls == sum(late > budget for late in lates)
    assert meter.worst_ns == max(lates, default=0)
    assert meter.cumulative().total == len(lates)


def test_interval_holds_what_came_since_the_last() -> None:
    meter = StallMeter()
    meter.record(0, 5)
    assert meter.take_interval()[LOOP].total == 1
    assert meter.take_interval()[LOOP].total == 0


class NotifyingMeter(StallMeter):
    """Lets a test await the next wake-up."""

    def __init__(self, budget_ns: int = 60 * MS_NS) -> None:
        super().__init__(budget_ns)
        self.woken = asyncio.Event()

    def record(self, scheduled_ns: int, actual_ns: int) -> None:
        super().record(scheduled_ns, actual_ns)
        self.woken.set()

    async def next_wake_up(self) -> None:
        self.woken.clear()
        async with asyncio.timeout(10):
            await self.woken.wait()


@pytest.mark.parametrize("run", RUNNERS)
def test_blocked_loop_is_found_with_its_length(run: Runner) -> None:
    async def block() -> None:
        meter = NotifyingMeter()
        watch = LoopWatch(meter, interval_ns=MS_NS)
        watch.start(asyncio.get_running_loop())
        await meter.next_wake_up()
        time.sleep(0.1)  # noqa: ASYNC251 - the loop must stand still
        await meter.next_wake_up()
        watch.stop()
        assert meter.stalls >= 1
        assert meter.worst_ns > 95 * MS_NS

    run(block())


@pytest.mark.parametrize("run", RUNNERS)
def test_stopped_watch_leaves_nothing_on_the_loop(run: Runner) -> None:
    async def stop() -> None:
        meter = NotifyingMeter()
        watch = LoopWatch(meter, interval_ns=MS_NS)
        for _ in range(2):
            watch.start(asyncio.get_running_loop())
            await meter.next_wake_up()
        handle = watch._handle
        watch.stop()
        watch.stop()
        assert handle is not None
        assert handle.cancelled()

    run(stop())


def test_interval_finer_than_a_millisecond_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1 ms"):
        LoopWatch(StallMeter(), interval_ns=1)
