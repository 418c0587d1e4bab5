"""A request queue keeps its order, gives requests away once, and chooses buckets that pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.latency_model import LatencyModel
from runtime.request_queue import Request, RequestQueue, key_of

BUCKETS = (1, 2, 4, 8, 16, 32)


def queue_for(fixed_ns: int, row_ns: int, slo_ns: int = 0, overhead_ns: int = 0) -> RequestQueue:
    latency = LatencyModel(BUCKETS)
    for bucket in BUCKETS:
        latency.observe(bucket, fixed_ns + row_ns * bucket)
    return RequestQueue(0, latency, slo_ns, overhead_ns)


@given(
    asked=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=60),
    first=st.integers(0, 60),
    count=st.integers(0, 60),
)
def test_requests_come_by_deadline_then_priority_then_arrival(
    asked: list[tuple[int, int]], first: int, count: int
) -> None:
    queue = queue_for(1, 1)
    requests = [Request(0, deadline, 0, priority) for deadline, priority in asked]
    for request in requests:
        assert queue.ahead_of(key_of(request)) == sum(
            key_of(other) <= key_of(request) for other in queue.requests
        )
        queue.push(request)
    ordered = sorted(requests, key=lambda one: (one.deadline_ns, -one.priority))
    assert queue.requests == ordered
    assert queue.take(first, count) == ordered[first : first + count]
    assert queue.requests == ordered[:first] + ordered[first + count :]
    assert queue.keys == [key_of(request) for request in queue.requests]


@given(
    deadlines=st.lists(st.integers(0, 99), max_size=40),
    finish=st.integers(0, 100),
)
def test_first_met_counts_the_deadlines_before_a_time(deadlines: list[int], finish: int) -> None:
    queue = queue_for(1, 1)
    for deadline in deadlines:
        queue.push(Request(0, deadline, 0))
    assert queue.first_met(finish) == sum(deadline < finish for deadline in deadlines)


@given(places=st.sets(st.integers(0, 19), min_size=1))
def test_places_are_taken_and_the_rest_stays(places: set[int]) -> None:
    queue = queue_for(1, 1)
    for deadline in range(20):
        queue.push(Request(0, deadline, 0))
    taken = queue.take_places(sorted(places))
    assert [request.deadline_ns for request in taken] == sorted(places)
    assert [r.deadline_ns for r in queue.requests] == [p for p in range(20) if p not in places]


@given(count=st.integers(1, 100), fixed=st.integers(0, 10**6), row=st.integers(1, 10**6))
def test_bucket_holds_all_unless_two_batches_are_cheaper(count: int, fixed: int, row: int) -> None:
    queue = queue_for(fixed, row)
    place = queue.fill(count)
    size = queue.size_of(place)
    assert place <= queue.full
    if size < count and place < queue.full:
        rest = queue.fill(count - size)
        cost = queue.latency.predicted
        assert cost[place] + cost[rest] <= cost[place + 1]


def test_padding_is_avoided_where_a_batch_costs_little() -> None:
    cheap, dear = queue_for(20_000, 50_000), queue_for(800_000, 50_000)
    assert cheap.size_of(cheap.fill(9)) == 8
    assert dear.size_of(dear.fill(9)) == 16
    costly_hand_over = queue_for(20_000, 50_000, overhead_ns=500_000)
    assert costly_hand_over.size_of(costly_hand_over.fill(9)) == 16


def test_full_bucket_is_the_smallest_that_is_nearly_best() -> None:
    assert queue_for(800_000, 50_000).full == 5
    flat = queue_for(0, 50_000)
    assert flat.size_of(flat.full) == 1


def test_bucket_longer_than_the_objective_is_left_out() -> None:
    queue = queue_for(800_000, 50_000, slo_ns=2_050_000)
    assert queue.latency.uppers[queue.full] <= 2_050_000
    assert queue.latency.uppers[queue.full + 1] > 2_050_000
    assert queue_for(800_000, 50_000, slo_ns=1).full == 0


def test_full_bucket_follows_what_is_learnt() -> None:
    queue = queue_for(800_000, 50_000)
    for _ in range(200):
        queue.latency.observe(32, 50_000_000)
        queue.refresh()
    assert queue.size_of(queue.full) == 16


@pytest.mark.parametrize(("count", "expected_ms"), [(0, 0.0), (32, 2.4), (64, 4.8)])
def test_work_is_counted_in_full_batches(count: int, expected_ms: float) -> None:
    assert queue_for(800_000, 50_000).work_ns(count) == expected_ms * 1e6


def test_gap_between_arrivals_is_followed() -> None:
    queue = queue_for(1, 1)
    for number in range(1, 300):
        queue.note_arrival(number * 1_000)
    assert queue.gap_ns == pytest.approx(1_000)
