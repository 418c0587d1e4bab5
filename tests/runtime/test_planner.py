"""The planner: earliest deadline first, within buckets, dropping only what cannot be met."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.models import Failure
from runtime.latency_model import LatencyModel
from runtime.planner import Plan, Planner
from runtime.request_queue import Request, RequestQueue

MS = 1_000_000
BUCKETS = (1, 2, 4, 8, 16, 32)
NOW = 1_000 * MS
Asked = list[tuple[int, int, int]]
"""Model, slack in tenths of a millisecond, priority."""


def exact_model(fixed_ns: int, row_ns: int, buckets: Sequence[int] = BUCKETS) -> LatencyModel:
    latency = LatencyModel(buckets)
    latency.tail = 1.0
    for bucket in buckets:
        latency.observe(bucket, fixed_ns + row_ns * bucket)
    return latency


def planner_of(models: int = 1, **options: int) -> tuple[Planner, list[RequestQueue]]:
    planner = Planner(**options)
    speeds = [(800_000, 50_000), (100_000, 200_000), (3 * MS, 1_000)]
    return planner, [planner.attach(m, exact_model(*speeds[m])) for m in range(models)]


def put(planner: Planner, queue: RequestQueue, request: Request) -> None:
    """Queue a request that nobody judged."""
    queue.push(request)
    planner.queued += 1


def asked_of(planner: Planner, queues: list[RequestQueue], asked: Asked) -> list[Request]:
    requests = [Request(m, NOW + slack * MS // 10, NOW, p) for m, slack, p in asked]
    for request in requests:
        put(planner, queues[request.model], request)
    return requests


asked_lists = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 120), st.integers(0, 9)), max_size=80
)


def drained(planner: Planner, queues: list[RequestQueue], now_ns: int) -> list[tuple[int, Plan]]:
    """Run until nothing waits; the device takes exactly what was predicted."""
    plans = []
    while planner.queued:
        plan = planner.plan(now_ns)
        plans.append((now_ns, plan))
        if plan.batch:
            now_ns += queues[plan.model].latency.predict(plan.bucket)
    return plans


@given(asked=asked_lists)
def test_every_request_is_in_one_batch_or_dropped_once(asked: Asked) -> None:
    planner, queues = planner_of(3)
    requests = asked_of(planner, queues, asked)
    plans = [plan for _, plan in drained(planner, queues, NOW)]
    seen = [r for plan in plans for r in plan.batch]
    seen += [r for plan in plans for r, _ in plan.dropped]
    assert sorted(map(id, seen)) == sorted(map(id, requests))
    assert planner.queued == 0


@given(asked=asked_lists)
def test_batch_is_of_one_model_within_its_bucket_and_in_order(asked: Asked) -> None:
    planner, queues = planner_of(3)
    asked_of(planner, queues, asked)
    for _, plan in drained(planner, queues, NOW):
        assert len(plan.batch) <= plan.bucket
        assert {request.model for request in plan.batch} <= {plan.model}
        deadlines = [request.deadline_ns for request in plan.batch]
        assert deadlines == sorted(deadlines)
        if plan.batch:
            queue = queues[plan.model]
            assert plan.bucket in queue.latency.buckets
            assert plan.bucket <= queue.size_of(queue.full)


@given(asked=asked_lists)
def test_only_what_cannot_be_met_is_dropped(asked: Asked) -> None:
    planner, queues = planner_of(3)
    asked_of(planner, queues, asked)
    for now_ns, plan in drained(planner, queues, NOW):
        for request, failure in plan.dropped:
            assert failure is Failure.LATE
            soonest_ns = now_ns + queues[request.model].latency.predict(1)
            assert request.deadline_ns < soonest_ns


@given(asked=asked_lists)
def test_idle_device_never_waits_while_there_is_work(asked: Asked) -> None:
    planner, queues = planner_of(3)
    asked_of(planner, queues, asked)
    while planner.queued:
        plan = planner.plan(NOW)
        assert plan.batch or not planner.queued
        assert plan.wait_until_ns == 0


@given(slacks=st.lists(st.integers(0, 120), min_size=1, max_size=80))
def test_nobody_of_equal_rank_who_could_be_met_is_passed_over(slacks: list[int]) -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, slack, 5) for slack in slacks])
    plan = planner.plan(NOW)
    if not plan.batch:
        return
    finish_ns = NOW + queues[0].latency.predict(plan.bucket)
    passed = [r for r in queues[0].requests if r.deadline_ns < plan.batch[-1].deadline_ns]
    assert all(request.deadline_ns < finish_ns for request in passed)


@given(asked=asked_lists)
def test_what_all_fits_is_all_met(asked: Asked) -> None:
    """If even one request a time in order of deadlines meets all, so does the planner."""
    planner, queues = planner_of(3)
    requests = asked_of(planner, queues, [(m, slack + 5, p) for m, slack, p in asked])
    end_ns = NOW
    for request in sorted(requests, key=lambda one: one.deadline_ns):
        end_ns += queues[request.model].latency.predict(1)
        if end_ns > request.deadline_ns:
            return
    for now_ns, plan in drained(planner, queues, NOW):
        assert not plan.dropped
        finish_ns = now_ns + queues[plan.model].latency.predict(plan.bucket)
        assert all(finish_ns <= request.deadline_ns for request in plan.batch)


def test_batch_that_would_be_too_long_for_another_model_is_taken_one_by_one() -> None:
    planner, queues = planner_of(3)
    asked_of(planner, queues, [(0, 12, 5), (1, 5, 5), (1, 15, 5)])
    plans = drained(planner, queues, NOW)
    first = next(plan for _, plan in plans if plan.batch)
    assert (first.model, len(first.batch)) == (1, 1)
    assert not any(plan.dropped for _, plan in plans)


def test_tight_head_gets_the_batch_that_its_deadline_allows() -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, 11, 5), *[(0, 60, 5)] * 20])
    plan = planner.plan(NOW)
    assert (plan.bucket, len(plan.batch)) == (4, 4)
    assert planner.plan(NOW + 1_000_000).bucket == 32


def test_head_that_would_cost_many_others_is_given_up() -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, 9, 5), *[(0, 25, 5)] * 32])
    plan = planner.plan(NOW)
    assert (plan.bucket, len(plan.batch)) == (32, 32)
    assert queues[0].head_ns() == NOW + 900_000


def test_priority_decides_who_is_served_when_not_all_can_be() -> None:
    planner, queues = planner_of()
    low, high = [(0, 24, 1)] * 32, [(0, 26, 8)] * 32
    asked_of(planner, queues, [*low, *high])
    plan = planner.plan(NOW)
    assert {request.priority for request in plan.batch} == {8}


def test_priority_goes_first_at_one_deadline() -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, 100, priority) for priority in (1, 9, 5, 9)])
    batch = planner.plan(NOW).batch
    assert [request.priority for request in batch] == [9, 9, 5, 1]


def test_earliest_head_decides_which_model_runs() -> None:
    planner, queues = planner_of(2)
    asked_of(planner, queues, [(0, 90, 5), (1, 80, 5), (0, 95, 5)])
    assert planner.plan(NOW).model == 1
    assert planner.plan(NOW).model == 0


def test_later_start_skips_what_it_cannot_meet_without_dropping_it() -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, 20, 5), *[(0, 90, 5)] * 40])
    plan = planner.plan(NOW, NOW + 2 * MS, full_only=True)
    assert (len(plan.batch), plan.dropped) == (32, ())
    assert queues[0].head_ns() == NOW + 2 * MS


def test_no_batch_that_is_not_full_is_given_ahead() -> None:
    planner, queues = planner_of()
    asked_of(planner, queues, [(0, 90, 5)] * 31)
    assert not planner.has_full()
    assert planner.plan(NOW, NOW + MS, full_only=True).batch == []
    assert planner.queued == 31


def test_idle_device_takes_what_it_can_just_meet() -> None:
    planner, _ = planner_of()
    assert planner.admit(NOW, Request(0, NOW + 850_000, NOW)) is None
    late = Request(0, NOW + 849_999, NOW)
    assert planner_of()[0].admit(NOW, late) is Failure.REFUSED


def test_backlog_that_leaves_no_time_refuses() -> None:
    planner, _ = planner_of()
    for _ in range(64):
        assert planner.admit(NOW, Request(0, NOW + 10 * MS, NOW), busy_ns=MS) is None
    assert planner.admit(NOW, Request(0, NOW + 6 * MS, NOW), busy_ns=MS) is None, "it goes first"
    assert planner.admit(NOW, Request(0, NOW + 10 * MS, NOW), busy_ns=5 * MS) is Failure.REFUSED
    assert planner.refused_late == 1


@given(most=st.integers(1, 5), asked=st.integers(0, 9))
def test_queue_is_bounded(most: int, asked: int) -> None:
    planner, _ = planner_of(max_queued=most)
    told = [planner.admit(NOW, Request(0, NOW + 900 * MS, NOW)) for _ in range(asked)]
    assert told == [None] * min(most, asked) + [Failure.REFUSED] * max(0, asked - most)
    assert planner.queued == min(most, asked)
    assert planner.refused_full == max(0, asked - most)


def test_device_believed_too_slow_is_tried_again_after_some_refusals() -> None:
    planner, _ = planner_of()
    told = [planner.admit(NOW, Request(0, NOW + 500_000, NOW)) for _ in range(40)]
    assert told[:32] == [Failure.REFUSED] * 32
    assert None in told[32:]
    assert planner.relaxed == 1


def test_busy_device_is_not_believed_faster_for_refusing() -> None:
    planner, _ = planner_of()
    for _ in range(200):
        request = Request(0, NOW + 2 * MS, NOW)
        assert planner.admit(NOW, request, busy_ns=3 * MS) is Failure.REFUSED
    assert planner.relaxed == 0


def test_what_is_past_expires_without_a_plan() -> None:
    planner, queues = planner_of(2)
    asked_of(planner, queues, [(0, 20, 5), (1, 5, 5), (1, 90, 5)])
    gone = planner.expire(NOW + 2 * MS)
    assert [(r.model, failure) for r, failure in gone] == [(0, Failure.LATE), (1, Failure.LATE)]
    assert planner.queued == 1
    assert [request.model for request in planner.take_all()] == [1]
    assert planner.queued == 0


@pytest.mark.parametrize(("gap_us", "waits"), [(20, True), (900, False)])
def test_wait_is_made_only_where_it_is_allowed_and_pays(gap_us: int, *, waits: bool) -> None:
    planner, _ = planner_of(max_wait_ns=2 * MS)
    now_ns = NOW
    for _ in range(3):
        now_ns += gap_us * 1_000
        planner.admit(now_ns, Request(0, now_ns + 50 * MS, now_ns))
    plan = planner.plan(now_ns)
    assert bool(plan.wait_until_ns) is waits
    assert bool(plan.batch) is not waits
    if waits:
        assert plan.wait_until_ns <= NOW + gap_us * 1_000 + 2 * MS
        assert len(planner.plan(plan.wait_until_ns).batch) == 3


@given(
    slacks=st.lists(st.integers(9, 400), min_size=1, max_size=20),
    gap_us=st.integers(1, 500),
)
def test_wait_never_costs_a_deadline(slacks: list[int], gap_us: int) -> None:
    planner, queues = planner_of(max_wait_ns=5 * MS)
    now_ns = NOW
    for slack in slacks:
        now_ns += gap_us * 1_000
        queues[0].note_arrival(now_ns)
        put(planner, queues[0], Request(0, now_ns + slack * MS // 10, now_ns))
    plan = planner.plan(now_ns)
    if not plan.wait_until_ns:
        return
    plan = planner.plan(plan.wait_until_ns)
    assert plan.batch
    assert not plan.dropped


@given(asked=asked_lists, swapped=st.booleans())
def test_model_can_be_taken_out_or_exchanged(asked: Asked, swapped: bool) -> None:
    planner, queues = planner_of(3)
    asked_of(planner, queues, asked)
    waiting = list(queues[1].requests)
    total = planner.queued
    if swapped:
        queue = planner.attach(1, exact_model(1, 1, (1, 64)))
        assert queue.requests == waiting
        assert planner.queued == total
    else:
        assert planner.detach(1) == waiting
        assert planner.queued == total - len(waiting)
        assert planner.detach(1) == []


@given(asked=asked_lists, hop=st.integers(0, 20))
def test_shortcut_for_one_batch_chooses_what_the_whole_plan_would(asked: Asked, hop: int) -> None:
    alone = [(0, slack, priority) for _, slack, priority in asked]
    quick, queues = planner_of(1)
    # A wait that never pays leaves the decision as it is, and the shortcut out.
    slow, others = planner_of(1, max_wait_ns=1)
    asked_of(quick, queues, alone)
    asked_of(slow, others, alone)
    start_ns = NOW + hop * MS // 10
    ours, theirs = quick.plan(NOW, start_ns), slow.plan(NOW, start_ns)
    assert [r.deadline_ns for r in ours.batch] == [r.deadline_ns for r in theirs.batch]
    assert [r.priority for r in ours.batch] == [r.priority for r in theirs.batch]
    assert (ours.bucket, ours.model) == (theirs.bucket, theirs.model)
    assert len(ours.dropped) == len(theirs.dropped)
    assert quick.queued == slow.queued
