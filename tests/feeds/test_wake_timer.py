"""Short waits on the loop."""

import asyncio
import time

import pytest
import uvloop

from feeds.wake_timer import WakeTimer


@pytest.fixture(params=["descriptor", "loop"])
def use_descriptor(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "descriptor")


def make_timer(use_descriptor: bool) -> WakeTimer:
    timer = WakeTimer()
    if not use_descriptor:
        timer.close()
    return timer


def test_a_wait_lasts_at_least_as_long_as_asked(use_descriptor: bool) -> None:
    async def main() -> None:
        timer = make_timer(use_descriptor)
        for delay_ns in (300_000, 2_000_000, 15_000_000):
            before = time.monotonic_ns()
            await timer.wait(delay_ns)
            waited = time.monotonic_ns() - before
            assert waited >= delay_ns - (0 if use_descriptor else 1_000_000)
        await timer.wait(0)
        timer.close()
        timer.close()

    uvloop.run(main())


def test_wake_ends_a_long_wait_and_is_not_lost_before_one(use_descriptor: bool) -> None:
    async def main() -> None:
        timer = make_timer(use_descriptor)
        async with asyncio.timeout(10):
            asyncio.get_running_loop().call_later(0.01, timer.wake)
            await timer.wait(60_000_000_000)
            timer.wake()
            await timer.wait(60_000_000_000)
        timer.close()

    uvloop.run(main())
