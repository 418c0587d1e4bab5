"""When a process that ended is started again, and when no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.restart_policy import RestartPolicy, RestartRule

S = 1_000_000_000
RULE = RestartRule(
    first_wait_ns=S, longest_wait_ns=4 * S, healthy_ns=60 * S, most=5, window_ns=600 * S
)


def test_waits_double_up_to_a_bound_and_then_it_is_given_up() -> None:
    policy = RestartPolicy(RULE)
    waits = [policy.wait_ns(0, at * S) for at in range(1, 8)]
    assert waits == [S, 2 * S, 4 * S, 4 * S, 4 * S, None, None]
    assert policy.restarts == 5


def test_a_healthy_time_forgives_the_waits_but_not_the_number() -> None:
    policy = RestartPolicy(RULE)
    at = 0
    for _ in range(3):
        policy.wait_ns(0, at := at + S)
    assert policy.wait_ns(at, at + 60 * S) == S
    assert policy.wait_ns(at + 61 * S, at + 62 * S) == 2 * S
    assert policy.wait_ns(at + 70 * S, at + 200 * S) is None, "the sixth within ten minutes"


def test_ends_that_lie_far_apart_go_on_for_ever() -> None:
    policy = RestartPolicy(RULE)
    for number in range(50):
        at = number * 200 * S
        assert policy.wait_ns(at + S, at + 150 * S) == S
    assert policy.restarts == 50


def test_no_restarts_are_granted_where_none_are_allowed() -> None:
    assert RestartPolicy(RestartRule(most=0)).wait_ns(0, S) is None


@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60),
)
def test_never_more_than_so_many_within_a_window(most: int, ends: list[tuple[int, bool]]) -> None:
    policy = RestartPolicy(RestartRule(S, 4 * S, 60 * S, most, 600 * S))
    now, granted = 0, []
    for apart_s, was_ready in ends:
        now += apart_s * S
        wait = policy.wait_ns(max(1, now - 90 * S) if was_ready else 0, now)
        if wait is not None:
            assert S <= wait <= 4 * S
            granted.append(now)
    for at in granted:
        assert sum(at - 600 * S < other <= at for other in granted) <= max(most, 0)


@pytest.mark.parametrize("ready_s", [0, 10])
def test_a_short_life_forgives_nothing(ready_s: int) -> None:
    policy = RestartPolicy(RULE)
    policy.wait_ns(0, S)
    assert policy.wait_ns(ready_s * S, (ready_s + 59) * S) == 2 * S
