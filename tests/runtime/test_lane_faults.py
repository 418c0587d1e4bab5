"""A lane over a real device thread: real time, real models, and devices that misbehave."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from lane_cases import MS, SHAPE, Rig, SumModel, make_rig
from tiny_models import TCN_SHAPE, make_tcn, onnx_file, random_windows, reference_outputs

from engine.core.errors import DeviceError
from engine.core.models import Failure, Floats, LoadOptions
from latency.stall import LoopWatch, StallMeter
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.executors import DeviceThread, Job, learn_latency
from runtime.lane import Lane
from runtime.lane_answers import LOST, RETURNED, BatchFacts
from runtime.planner import Planner
from runtime.request_queue import Request

S = 1_000 * MS
DEADLINE_S = 20.0
WINDOW_VALUES = SHAPE.window * SHAPE.features
RUNNERS = [asyncio.run, uvloop.run]
Runner = Callable[[Coroutine[Any, Any, None]], None]


async def until(met: Callable[[], bool]) -> None:
    """Let the loop turn until something is so; a deadline ends a test that waits in vain."""
    async with asyncio.timeout(DEADLINE_S):
        while not met():  # noqa: ASYNC110  # what is waited for has no event of its own
            await asyncio.sleep(0.001)


def has_answered(rig: Rig, count: int) -> bool:
    return len(rig.done) == count


def waiting_for(gate: threading.Event) -> Callable[[int], None]:
    def wait(bucket: int) -> None:
        gate.wait(DEADLINE_S)

    return wait


class Device:
    """A rig over a device's thread, ended at the end; its loop is watched for stalls."""

    def __init__(self, model: SumModel, *, timeout_ns: int = S, inline_below_ns: int = 0) -> None:
        self.model = model
        self.thread = DeviceThread("npu", timeout_ns=timeout_ns)
        self.rig = make_rig(time.monotonic_ns, self.thread, inline_below_ns=inline_below_ns)
        self.meter = StallMeter()
        self._watch = LoopWatch(self.meter, 5 * MS)

    async def __aenter__(self) -> Rig:
        loop = asyncio.get_running_loop()
        self.rig.lane.start(loop)
        self.rig.lane.attach(0, self.model, name="sum")
        self._watch.start(loop)
        return self.rig

    async def __aexit__(self, *_: object) -> None:
        self._watch.stop()
        assert await self.rig.lane.close(DEADLINE_S)


def ask(rig: Rig, value: object = 1.0, within_ns: int = 10 * S) -> Failure | None:
    told = rig.ask(time.monotonic_ns() + within_ns, value)
    rig.lane.pump()
    return told


@pytest.mark.parametrize("run", RUNNERS)
def test_device_is_only_ever_touched_by_its_own_thread(run: Runner) -> None:
    model = SumModel()

    async def live() -> None:
        async with Device(model) as rig:
            for value in range(200):
                ask(rig, float(value))
                if value % 7 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(rig.done) == 200)
            assert sorted(rig.sums(), key=float) == [v * WINDOW_VALUES for v in range(200)]  # type: ignore[arg-type]
            assert rig.lane.idle

    run(live())
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_batches_grow_while_the_device_is_busy_and_it_never_has_more_than_two() -> None:
    gate = threading.Event()
    model = SumModel((1, 2, 4, 8), before_run=waiting_for(gate))

    async def live() -> None:
        device = Device(model)
        async with device as rig:
            for value in range(1, 40):
                ask(rig, float(value))
            assert device.thread.in_flight == 2, "one running, one full one ready behind it"
            assert rig.lane.planner.queued == 39 - 1 - 8
            gate.set()
            await until(lambda: len(rig.done) == 39)
            assert sorted(rig.sums(), key=float) == [v * WINDOW_VALUES for v in range(1, 40)]  # type: ignore[arg-type]
            assert model.runs == [1, 8, 8, 8, 8, 8]

    uvloop.run(live())


def test_real_model_answers_each_window_with_its_own_row(tmp_path: Path) -> None:
    path = make_tcn(tmp_path / "tcn.onnx")
    options = LoadOptions((1, 4, 16), slots=2)
    loaded = OnnxRuntimeBackend().load(onnx_file(path), TCN_SHAPE, "cpu", options)
    windows = random_windows(TCN_SHAPE, 300)
    rows = np.full((300, TCN_SHAPE.outputs), np.nan, np.float32)
    answered: list[BatchFacts] = []

    def place_of(request: Request) -> int:
        assert isinstance(request.context, int)
        return request.context

    def gather(model: int, requests: list[Request], out: Floats) -> list[bool]:
        out[: len(requests)] = windows[[place_of(request) for request in requests]]
        return [True] * len(requests)

    def on_done(
        request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        rows[place_of(request)] = row
        answered.append(facts)

    async def live() -> None:
        lane = Lane("cpu", DeviceThread("cpu"), Planner(), gather, on_done)
        lane.start(asyncio.get_running_loop())
        latency = await lane.call(lambda: learn_latency(loaded))
        lane.attach(0, loaded, latency=latency)
        for place in range(300):
            now_ns = time.monotonic_ns()
            assert lane.submit(Request(0, now_ns + 10 * S, now_ns, 5, place)) is None
            if place % 3 == 0:
                lane.pump()
                await asyncio.sleep(0)
        lane.pump()
        await until(lambda: len(answered) == 300)
        await lane.call(loaded.close)
        assert await lane.close()
        assert lane.hop.mean_ns > 0

    uvloop.run(live())
    np.testing.assert_allclose(rows, reference_outputs(path, windows), atol=1e-5)
    assert {facts.device for facts in answered} == {"cpu"}
    assert all(facts.service_ns > 0 for facts in answered)


@pytest.mark.parametrize("error", [DeviceError("gone"), RuntimeError("odd"), MemoryError()])
def test_model_that_raises_fails_its_batch_and_the_thread_lives_on(error: Exception) -> None:
    model = SumModel()

    def break_once(bucket: int) -> None:
        model.before_run = lambda bucket: None
        raise error

    async def live() -> None:
        async with Device(model) as rig:
            model.before_run = break_once
            ask(rig)
            await until(lambda: len(rig.done) == 1)
            ask(rig)
            await until(lambda: len(rig.done) == 2)
            assert rig.failures() == [Failure.FAILED, None]
            assert rig.health == []

    uvloop.run(live())


def hang_and_return(timeout_ns: int, let_go: Callable[[Rig, threading.Event], Any]) -> None:
    """Hang a device, see it lost, have it let go, and see it serve again."""
    gate = threading.Event()
    model = SumModel(before_run=waiting_for(gate))

    async def live() -> None:
        device = Device(model, timeout_ns=timeout_ns)
        async with device as rig:
            began_ns = time.monotonic_ns()
            for _ in range(30):
                ask(rig)
            await until(lambda: rig.lane.lost)
            lost_ns = time.monotonic_ns() - began_ns
            assert timeout_ns <= lost_ns < 2 * timeout_ns + 100 * MS
            assert rig.failures() == [Failure.FAILED] * 30
            assert ask(rig) is Failure.FAILED, "refused at once while it hangs"
            assert (rig.health, device.thread.in_flight) == ([LOST], 0)
            with pytest.raises(RuntimeError, match="lost"):
                device.thread.put(Job(rig.lane._hosted[0], [], 1, 0))
            let_go(rig, gate)
            await until(lambda: not rig.lane.lost)
            assert rig.health == [LOST, RETURNED]
            assert len(model.runs) == 1, "the batch behind the hung one is not run for nobody"
            assert ask(rig, 2.0) is None
            await until(lambda: len(rig.done) == 31)
            assert rig.done[-1].row is not None
            assert device.thread.hangs == 1
        assert device.meter.stalls == 0, f"worst {device.meter.worst_ns} ns"

    uvloop.run(live())


def test_hung_call_is_given_up_and_the_device_comes_back_when_the_call_does() -> None:
    hang_and_return(80 * MS, lambda rig, gate: gate.set())


@pytest.mark.slow
def test_call_that_hangs_for_ten_seconds_stalls_nobody() -> None:
    def let_go(rig: Rig, gate: threading.Event) -> None:
        asyncio.get_running_loop().call_later(9.0, gate.set)

    hang_and_return(S, let_go)


def test_end_of_a_lane_whose_device_hangs_is_not_waited_for() -> None:
    gate = threading.Event()
    model = SumModel(before_run=waiting_for(gate))

    async def live() -> None:
        rig = make_rig(time.monotonic_ns, DeviceThread("npu", timeout_ns=20 * MS))
        rig.lane.start(asyncio.get_running_loop())
        rig.lane.attach(0, model)
        ask(rig)
        await until(lambda: rig.lane.lost)
        assert not await rig.lane.close(0.01)
        gate.set()

    uvloop.run(live())


def test_answer_that_comes_late_is_late_and_the_next_is_not() -> None:
    gate = threading.Event()
    model = SumModel()

    async def live() -> None:
        async with Device(model) as rig:
            model.before_run = waiting_for(gate)
            ask(rig, within_ns=5 * MS)
            await asyncio.sleep(0.01)
            gate.set()
            await until(lambda: len(rig.done) == 1)
            ask(rig)
            await until(lambda: len(rig.done) == 2)
            assert rig.failures() == [Failure.LATE, None]

    uvloop.run(live())


def test_request_that_waits_behind_other_work_is_late_in_time() -> None:
    """While the thread loads or probes nothing is handed over, and nothing waits for ever."""
    gate = threading.Event()

    async def live() -> None:
        async with Device(SumModel(), timeout_ns=80 * MS) as rig:
            loading = asyncio.ensure_future(rig.lane.call(lambda: gate.wait(DEADLINE_S)))
            await asyncio.sleep(0)
            assert ask(rig, within_ns=20 * MS) is None
            await until(lambda: len(rig.done) == 1)
            assert rig.failures() == [Failure.LATE]
            assert ask(rig) is None
            gate.set()
            assert await loading
            await until(lambda: len(rig.done) == 2)
            assert rig.failures() == [Failure.LATE, None]
            assert not rig.lane.lost

    uvloop.run(live())


def test_other_work_runs_on_the_owner_thread_and_tells_what_it_raised() -> None:
    async def live() -> None:
        model = SumModel()
        async with Device(model) as rig:
            ask(rig)
            where = await rig.lane.call(threading.get_ident)
            await until(lambda: len(rig.done) == 1)
            assert model.threads == {where}
            with pytest.raises(DeviceError, match="no such engine"):
                await rig.lane.call(fail)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(rig.lane.call(lambda: time.sleep(0.05)), 0.01)
            assert ask(rig) is None
            await until(lambda: len(rig.done) == 2)

    def fail() -> None:
        raise DeviceError("no such engine")

    uvloop.run(live())


def test_old_form_ends_what_it_began_and_the_new_one_takes_what_waits() -> None:
    gate = threading.Event()
    old = SumModel(before_run=waiting_for(gate))
    new = SumModel((1, 16))

    async def live() -> None:
        async with Device(old) as rig:
            for value in range(1, 4):
                ask(rig, float(value))
            rig.lane.attach(0, new, name="sum")
            closing = asyncio.ensure_future(rig.lane.call(old.close))
            await asyncio.sleep(0)
            gate.set()
            await closing
            await until(lambda: len(rig.done) == 3)
            assert rig.failures() == [None] * 3
            assert (old.runs, old.closed, new.runs) == ([1], 1, [16])
            assert rig.lane.counts()["sum"]["answered"] == 3

    uvloop.run(live())


def test_fast_model_runs_on_the_loop_thread_until_it_becomes_slow() -> None:
    model = SumModel((1,))

    async def live() -> None:
        async with Device(model, inline_below_ns=50 * MS) as rig:
            rig.lane.attach(0, model, name="sum", latency=learn_latency(model))
            for number in range(20):
                ask(rig)
                assert len(rig.done) == number + 1
            assert model.threads == {threading.get_ident()}
            ran_inline = rig.lane.counts()["sum"]["inline_batches"]
            for _ in range(60):
                rig.lane.latency(0).observe(1, S)
            model.threads.clear()
            ask(rig)
            await until(lambda: len(rig.done) == 21)
            assert rig.lane.counts()["sum"]["inline_batches"] == ran_inline == 20
            assert threading.get_ident() not in model.threads

    uvloop.run(live())


def test_a_call_that_was_once_slow_on_the_loop_thread_is_kept_off_it() -> None:
    slow: list[float] = []
    model = SumModel((1,), before_run=lambda bucket: time.sleep(slow.pop() if slow else 0.0))

    async def live() -> None:
        async with Device(model, inline_below_ns=5 * MS) as rig:
            rig.lane.attach(0, model, name="sum", latency=learn_latency(model))
            ask(rig)
            assert rig.lane.counts()["sum"]["inline_batches"] == 1
            slow.append(0.05)
            ask(rig)
            told = rig.lane.counts()["sum"]
            assert (told["inline_batches"], told["slow_inline"]) == (2, 1)
            for count in range(3, 120):
                ask(rig)
                await until(partial(has_answered, rig, count))
            assert rig.lane.latency(0).predict(1) < 2 * MS, "it is fast again, and known to be"
            assert rig.lane.counts()["sum"]["inline_batches"] == 2

    uvloop.run(live())


def test_fast_model_does_not_queue_behind_a_slow_one() -> None:
    gate = threading.Event()
    slow = SumModel(before_run=waiting_for(gate))
    fast = SumModel((1,))

    async def live() -> None:
        async with Device(slow, inline_below_ns=50 * MS) as rig:
            rig.lane.attach(1, fast, name="fast")
            rig.lane.latency(1).observe(1, 1_000)
            rig.lane._hosted[1].inline = True
            ask(rig)
            assert rig.ask(time.monotonic_ns() + S, 3.0, model=1) is None
            rig.lane.pump()
            assert rig.sums() == [3.0 * WINDOW_VALUES], "answered at once, beside the slow one"
            gate.set()
            await until(lambda: len(rig.done) == 2)

    uvloop.run(live())


def test_allowed_wait_lets_a_batch_grow_and_ends() -> None:
    model = SumModel((1, 2, 4, 8))

    async def live() -> None:
        thread = DeviceThread("npu")
        rig = make_rig(time.monotonic_ns, thread, planner=Planner(max_wait_ns=20 * MS))
        rig.lane.start(asyncio.get_running_loop())
        rig.lane.attach(0, model)
        for bucket in (1, 2, 4, 8):
            rig.lane.latency(0).observe(bucket, 100 * MS + bucket * 1_000)
        rig.lane._hosted[0].queue.gap_ns = 1_000.0
        for value in (1.0, 2.0, 3.0):
            ask(rig, value)
            await asyncio.sleep(0)
        assert rig.lane.planner.queued == 3
        await until(lambda: len(rig.done) == 3)
        assert model.runs == [4]
        assert min(one.facts.queue_ns for one in rig.done) > 5 * MS
        assert await rig.lane.close()

    uvloop.run(live())
