"""Batches are no larger than the share they are given, wherever one is formed, until it is lifted.

The first step of the budgets' ladder gives a quarter.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_cases import FAR_NS, Told, Windows, asks, config, make_bundle
from lane_cases import MS, HandClock, SumModel, make_rig

from engine.supervision_config import BudgetsConfig
from runtime.config import InferenceConfig
from runtime.executors import Inline
from runtime.inference import Inference
from runtime.latency_model import LatencyModel
from runtime.planner import Planner
from runtime.request_queue import Request

BUCKETS = (1, 2, 4, 8, 16, 32)
SHARE = BudgetsConfig().batch_frac
MOST = int(SHARE * BUCKETS[-1])
NOW = 1_000 * MS
SPEEDS = [(800_000, 50_000), (100_000, 200_000), (3 * MS, 1_000)]
"""Of a batch and of each row in it, nanoseconds; on the first and the last long batches pay."""
Asked = list[tuple[int, int, int]]
"""Model, slack in tenths of a millisecond, priority."""


def learnt(speed: tuple[int, int], buckets: Sequence[int] = BUCKETS) -> LatencyModel:
    latency = LatencyModel(buckets)
    for bucket in buckets:
        latency.observe(bucket, speed[0] + speed[1] * bucket)
    return latency


def sizes_of(planner: Planner, asked: Asked, *, full_only: bool = False) -> list[tuple[int, int]]:
    """Queue all of it and plan until nothing waits; return requests and bucket of each batch."""
    queues = planner._queues
    for model, slack, priority in asked:
        queues[model].push(Request(model, NOW + slack * MS // 10, NOW, priority))
        planner.queued += 1
    sizes, now_ns = [], NOW
    while planner.queued:
        plan = planner.plan(now_ns, full_only=full_only)
        if not plan.batch and not plan.dropped:
            if not plan.wait_until_ns:
                break
            now_ns = plan.wait_until_ns
        if plan.batch:
            sizes.append((len(plan.batch), plan.bucket))
            now_ns += queues[plan.model].latency.predict(plan.bucket)
    return sizes


def test_the_first_step_leaves_a_quarter() -> None:
    assert (SHARE, MOST) == (0.25, 8)


@given(
    crowds=st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 900), st.integers(0, 9), st.sampled_from([1, 9, 40])
        ),
        max_size=12,
    ),
    may_wait=st.booleans(),
    full_only=st.booleans(),
    late=st.booleans(),
)
def test_no_batch_of_any_model_is_larger_than_its_share(
    crowds: list[tuple[int, int, int, int]], may_wait: bool, full_only: bool, late: bool
) -> None:
    planner = Planner(max_wait_ns=2 * MS if may_wait else 0)
    if not late:
        planner.limit(SHARE)
    for model, speed in enumerate(SPEEDS):
        planner.attach(model, learnt(speed))
    if late:
        planner.limit(SHARE)
    asked = [(m, slack, priority) for m, slack, priority, count in crowds for _ in range(count)]
    sizes = sizes_of(planner, asked, full_only=full_only)
    assert all(rows <= bucket <= MOST for rows, bucket in sizes)


@pytest.mark.parametrize("speed", [SPEEDS[0], SPEEDS[2]])
@pytest.mark.parametrize("alone", [True, False])
def test_a_long_queue_is_run_in_smaller_batches_until_the_share_is_lifted(
    speed: tuple[int, int], alone: bool
) -> None:
    planner, models = Planner(), 1 if alone else 2
    for model in range(models):
        planner.attach(model, learnt(speed))
    asked = [(model, 100_000, 5) for model in range(models)] * 64
    whole = [(32, 32)] * 2 * models
    assert sizes_of(planner, asked) == whole
    planner.limit(SHARE)
    assert sizes_of(planner, asked) == [(MOST, MOST)] * 8 * models
    planner.limit(1.0)
    assert sizes_of(planner, asked) == whole


@pytest.mark.parametrize(
    ("buckets", "most"), [((1,), 1), ((1, 2), 1), ((1, 2, 4, 8, 12), 2), ((3, 8), 3), ((2, 8), 2)]
)
def test_the_smallest_bucket_may_always_be_run(buckets: tuple[int, ...], most: int) -> None:
    planner = Planner()
    planner.limit(SHARE)
    planner.attach(0, learnt(SPEEDS[2], buckets))
    sizes = sizes_of(planner, [(0, 100_000, 5)] * 24)
    assert sizes == [(most, most)] * (24 // most)


def test_a_form_that_takes_over_keeps_to_the_share() -> None:
    planner = Planner()
    planner.attach(0, learnt(SPEEDS[0]))
    planner.limit(SHARE)
    planner.attach(0, learnt(SPEEDS[2]))
    assert sizes_of(planner, [(0, 100_000, 5)] * 32) == [(MOST, MOST)] * 4


@pytest.mark.parametrize("known", [True, False])
def test_the_batches_a_lane_runs_are_smaller_while_it_goes_on_learning(known: bool) -> None:
    clock = HandClock()
    model = SumModel(BUCKETS, before_run=lambda bucket: clock.turn(800_000 + 50_000 * bucket))
    rig = make_rig(clock, Inline(clock))
    rig.lane.attach(0, model, latency=learnt(SPEEDS[0]) if known else None)

    def run(requests: int) -> list[int]:
        model.runs.clear()
        before = len(rig.done)
        for _ in range(requests):
            assert rig.ask(clock.now_ns + 10_000 * MS) is None
        rig.lane.pump()
        answered = rig.done[before:]
        assert len(answered) == requests
        assert not any(one.failure for one in answered)
        assert {one.facts.bucket for one in answered} == set(model.runs)
        return list(model.runs)

    assert max(run(64)) == 32
    rig.lane.planner.limit(SHARE)
    largest = [max(run(64)) for _ in range(8)]  # it chooses anew more than once meanwhile
    assert max(largest) == largest[-1] == MOST
    assert not known or min(largest) == MOST
    rig.lane.planner.limit(1.0)
    assert max(run(64)) == 32


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("before_start", [True, False])
def test_every_device_of_an_inference_keeps_to_the_share(
    tmp_path: Path, inline: bool, before_start: bool
) -> None:
    pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")
    bundle = make_bundle(tmp_path / "tiny")
    shared = InferenceConfig(inline_below=1_000 * MS if inline else 0)
    windows, told = Windows(), Told()
    inference = Inference(
        shared,
        [config(bundle, max_batch=BUCKETS[-1])],
        [bundle],
        gather=windows.gather,
        on_answer=told.on_answer,
        on_event=told.on_event,
    )

    async def batches() -> set[int]:
        """Ask for 64 scores at once; return how many requests shared a batch."""
        told.answers.clear()
        found = inference.ask(asks(range(64), deadline_ns=FAR_NS))
        await told.until_answered(found.count(None))
        answers = [*told.answers, *(one for one in found if one is not None)]
        scores = [answer.score for answer in answers]
        assert len(scores) == 64
        assert None not in scores
        return {score.batch for score in scores if score is not None}

    async def main() -> None:
        if before_start:
            inference.limit_batches(SHARE)
        await inference.start()
        try:
            if not before_start:
                assert max(await batches()) > MOST
                inference.limit_batches(SHARE)
            assert max(await batches()) <= MOST
            inference.limit_batches(1.0)
            assert max(await batches()) > MOST
        finally:
            assert await inference.stop()

    asyncio.run(main())
