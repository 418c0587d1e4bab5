"""The pacer: due times scale, waits end on time and never early."""

import time

import pytest

from replay.pacing import Pacer


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0, 1e6])
def test_gaps_are_scaled_by_the_speed(speed: float) -> None:
    pacer = Pacer(speed)
    start = pacer.due_ns(1_000)
    assert pacer.due_ns(1_000 + 10**9) - start == pytest.approx(10**9 / speed, abs=1)


def test_a_wait_never_ends_early() -> None:
    for wait_ns in (0, 50_000, 2_000_000):
        due = time.perf_counter_ns() + wait_ns
        assert Pacer.wait_until(due) >= due


def test_what_is_past_is_due_at_once() -> None:
    before = time.perf_counter_ns()
    assert Pacer.wait_until(before - 10**9) - before < 10**8
