"""Steady time follows the wall clock's pace and none of its steps."""

import time

import pytest

from latency.steady import steady_ns, stepped_ns


def test_it_is_the_wall_clock_while_nobody_sets_it() -> None:
    assert abs(stepped_ns()) < 100_000_000
    assert abs(steady_ns() - time.time_ns()) < 100_000_000


def test_it_never_goes_back() -> None:
    times = [steady_ns() for _ in range(10_000)]
    assert times == sorted(times)


@pytest.mark.parametrize("step_ns", [3_600_000_000_000, -3_600_000_000_000])
def test_a_step_shows_as_one_and_moves_nothing(
    monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    before, real = steady_ns(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + step_ns)
    assert 0 <= steady_ns() - before < 1_000_000_000
    assert abs(stepped_ns() - step_ns) < 100_000_000
