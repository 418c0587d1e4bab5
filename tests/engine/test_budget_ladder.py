"""Budgets that run out take the engine down step by step, and it comes back slowly."""

import math

from hypothesis import given
from hypothesis import strategies as st

from engine.budget_ladder import BudgetLadder, BudgetLevel, BudgetReading

S = 1_000_000_000
LIMITS = (0.6, 0.7, 0.8)
NORMAL, SMALLER, FEWER, HALT = BudgetLevel


def reading(value: float) -> BudgetReading:
    return BudgetReading("memory", value, LIMITS)


def ladder() -> BudgetLadder:
    return BudgetLadder(3 * S, 30 * S, 0.1)


def test_a_limit_counts_once_it_was_passed_for_long_enough() -> None:
    one = ladder()
    assert one.look(0, [reading(0.65)]) is None
    assert one.look(2 * S, [reading(0.65)]) is None
    change = one.look(3 * S, [reading(0.65)])
    assert change is not None
    assert (change.before, change.after, change.because) == (NORMAL, SMALLER, ("memory 0.65",))


def test_a_peak_in_between_counts_for_nothing() -> None:
    one = ladder()
    for at in range(0, 100, 2):
        assert one.look(at * S, [reading(0.65 if at % 4 else 0.5)]) is None


def test_a_leap_is_taken_whole() -> None:
    one = ladder()
    one.look(0, [reading(0.9)])
    change = one.look(3 * S, [reading(0.9)])
    assert change is not None
    assert change.after is HALT


def test_the_way_back_is_one_step_at_a_time_and_needs_room() -> None:
    one = ladder()
    one.look(0, [reading(0.75)])
    one.look(3 * S, [reading(0.75)])
    assert one.level is FEWER
    for at in range(4, 100):
        assert one.look(at * S, [reading(0.65)]) is None, "0.65 is too near to 0.7"
    steps = [(at, c.after) for at in range(100, 200) if (c := one.look(at * S, [reading(0.4)]))]
    assert steps == [(130, SMALLER), (161, NORMAL)]


def test_the_halt_is_never_taken_back() -> None:
    one = ladder()
    one.look(0, [reading(0.9)])
    one.look(3 * S, [reading(0.9)])
    for at in range(4, 1000):
        assert one.look(at * S, [reading(0.0)]) is None
    assert one.level is HALT


def test_what_is_left_counts_the_other_way_round() -> None:
    room = BudgetReading("disk", 50, (100, 40, 10), falling=True)
    assert (room.step(), room.step(0.3)) == (1, 2)


def test_the_worst_of_all_resources_counts_and_is_named() -> None:
    one = ladder()
    readings = [reading(0.1), BudgetReading("queue", 0.72, LIMITS), BudgetReading("x", 9, ())]
    one.look(0, readings)
    change = one.look(3 * S, readings)
    assert change is not None
    assert (change.after, change.because) == (FEWER, ("queue 0.72",))


def test_what_cannot_be_read_is_no_reason_for_anything() -> None:
    one = ladder()
    for at in range(100):
        readings = [
            reading(math.nan), BudgetReading("disk", math.nan, (3, 2, 1), falling=True),
        ]  # fmt: skip
        assert one.look(at * S, readings) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_it_never_flaps(values: list[float]) -> None:
    one, changes = ladder(), []
    for at, value in enumerate(values):
        change = one.look(at * S, [reading(value)])
        if change is not None:
            changes.append((at, change))
    for at, change in changes:
        if change.after > change.before:
            assert min(values[at - 3 : at + 1]) >= LIMITS[change.after - 1]
        else:
            assert max(values[at - 30 : at + 1]) < LIMITS[change.before - 1] * 0.9
            assert change.before - change.after == 1
