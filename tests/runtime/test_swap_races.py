"""What happens at the same time as a swap, a probe, a fault or a stop: nothing is lost or mixed."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from inference_cases import Told, Windows, asks, config, make_bundle
from lane_cases import SHAPE, SumModel, make_rig

from engine.core.errors import BundleError
from engine.core.models import Failure
from runtime.bundle import Bundle
from runtime.config import InferenceConfig
from runtime.executors import DeviceThread
from runtime.inference import Inference
from runtime.served import Form, Place

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

MS = 10**6
DEADLINE_S = 20.0
SHARED = InferenceConfig(inline_below=0, timeout=1000 * MS, probe_interval=40 * MS)
NEVER_PROBED = SHARED.model_copy(update={"probe_interval": 10**15})
TWO_RUNGS = ("openvino@cpu", "cpu")


class Rig:
    """An inference of one model, and what it told."""

    def __init__(self, bundle: Bundle, shared: InferenceConfig, *placement: str, **more: Any):
        self.windows, self.told = Windows(), Told()
        self.inference = Inference(
            shared,
            [config(bundle, *placement, **more)],
            [bundle],
            gather=self.windows.gather,
            on_answer=self.told.on_answer,
            on_event=self.told.on_event,
        )
        self.placer = self.inference._placer
        self.served = self.placer.models[0]

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = self.inference.status()["models"]["tiny"]
        return found

    def serves(self, backend: str) -> bool:
        return bool(self.model["backend"] == backend)

    async def answered(self, count: int) -> None:
        """Ask for the first windows and wait for all answers."""
        before = len(self.told.answers)
        assert self.inference.ask(asks(range(count))) == [None] * count
        await self.told.until_answered(before + count)

    async def leave(self) -> None:
        """Have the only device fail until it is left."""
        self.inference.fault("cpu", "raise")
        for _ in range(3):
            await self.answered(1)
        assert self.serves("")


def run(
    bundle: Bundle,
    work: Callable[[Rig], Awaitable[None]],
    *placement: str,
    shared: InferenceConfig = SHARED,
    **more: Any,
) -> None:
    rig = Rig(bundle, shared, *placement, **more)

    async def main() -> None:
        await rig.inference.start()
        try:
            await work(rig)
        finally:
            assert await rig.inference.stop()

    asyncio.run(main())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110  # what is waited for has no event of its own
            await asyncio.sleep(0.001)


def waiting_for(gate: threading.Event) -> Callable[[int], None]:
    def wait(bucket: int) -> None:
        gate.wait(DEADLINE_S)

    return wait


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "old")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "new", version="2", seed=99)


def test_a_probe_that_waits_at_a_swap_is_answered_by_the_new_form(old: Bundle, new: Bundle) -> None:
    async def work(rig: Rig) -> None:
        await rig.leave()
        rig.inference.fault("cpu", None)
        lane, gate = rig.inference._lanes.of("cpu"), threading.Event()
        busy = asyncio.ensure_future(lane.call(lambda: gate.wait(DEADLINE_S)))
        await until(lambda: lane.planner.queued > 0)
        await rig.inference.swap("tiny", new.path)
        gate.set()
        await busy
        await rig.told.until(lambda: rig.serves("onnxruntime"))
        assert rig.served.forms["cpu"].probes.count == 0
        await rig.answered(4)
        assert {answer.score.bundle for answer in rig.told.answers[-4:] if answer.score} == {
            new.identity
        }

    run(old, work)


@pytest.mark.parametrize("is_refused", [False, True], ids=["loaded", "refused"])
def test_a_loading_that_ends_after_a_swap_changes_nothing(
    old: Bundle, new: Bundle, *, is_refused: bool
) -> None:
    async def work(rig: Rig) -> None:
        await rig.leave()
        await until(lambda: not rig.served.forms)
        real, begun, gate = rig.placer.loader.load, asyncio.Event(), asyncio.Event()

        async def slow(place: Place, bundle: Bundle, *, evict: bool = True) -> Form:
            form = await real(place, bundle, evict=evict)
            if bundle is old:
                begun.set()
                await gate.wait()
                if is_refused:
                    raise BundleError(bundle.path, "the old bundle is gone")
            return form

        rig.placer.loader.load = slow  # type: ignore[method-assign]
        rig.inference.fault("cpu", None)
        await begun.wait()
        await rig.inference.swap("tiny", new.path)
        gate.set()
        await rig.told.until(lambda: rig.serves("onnxruntime"))
        assert rig.model["bundle"] == new.identity

    run(old, work)


def test_a_device_that_does_not_answer_at_a_swap_is_returned_to(old: Bundle, new: Bundle) -> None:
    pytest.importorskip("openvino", reason="the device that does not answer")

    async def work(rig: Rig) -> None:
        rig.inference.fault("openvino@cpu", "hang")
        await rig.answered(1)
        assert rig.serves("onnxruntime")
        told = await rig.inference.swap("tiny", new.path)
        assert "does not answer" in told["left_out"]["openvino@cpu"]
        rig.inference.fault("openvino@cpu", None)
        await rig.told.until(lambda: rig.serves("openvino"))
        assert rig.served.forms["openvino@cpu"].bundle.identity == new.identity

    run(old, work, *TWO_RUNGS)


def test_a_form_that_another_pushed_out_of_memory_takes_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="the device that is pushed out")
    monkeypatch.setattr("runtime.loading.MemoryMark.grown_bytes", lambda _: 0)
    small = make_bundle(tmp_path / "small", hidden=8_000)
    large = make_bundle(tmp_path / "large", version="2", hidden=24_000, seed=9)

    async def work(rig: Rig) -> None:
        rig.placer.on_drift(rig.served.forms["openvino@cpu"], "for the test")
        assert rig.serves("onnxruntime")
        cache = rig.placer.loader.cache
        # Room for what serves and one large form, not for two.
        cache.budget_bytes = int(2.55 * cache.used_bytes)
        told = await rig.inference.swap("tiny", large.path)
        assert "needed the memory" in told["left_out"]["openvino@cpu"]
        assert list(rig.served.forms) == ["cpu"]
        await rig.answered(4)
        assert all(answer.score for answer in rig.told.answers)

    run(small, work, *TWO_RUNGS, shared=NEVER_PROBED)


def test_no_drift_is_seen_between_the_answers_of_two_bundles(old: Bundle, new: Bundle) -> None:
    pytest.importorskip("openvino", reason="a form beside the reference")

    async def work(rig: Rig) -> None:
        await until(lambda: rig.model["watch"] is not None)
        lane, gate = rig.inference._lanes.of("cpu"), threading.Event()
        busy = asyncio.ensure_future(lane.call(lambda: gate.wait(DEADLINE_S)))
        await rig.answered(8)
        await until(lambda: lane.planner.queued == 8)
        await rig.inference.swap("tiny", new.path)
        gate.set()
        await busy
        await until(lambda: lane.idle)
        assert rig.told.of_kind("model_drift") == []
        assert rig.model["watch"]["unchecked"] == 8

    run(old, work, "openvino@cpu", check_share=1.0)


def test_a_form_is_not_blamed_for_nonsense_of_the_reference(old: Bundle) -> None:
    pytest.importorskip("openvino", reason="a form beside the reference")

    async def work(rig: Rig) -> None:
        await until(lambda: rig.model["watch"] is not None)
        rig.inference.fault("onnxruntime@cpu", "nan")
        await rig.answered(8)
        await until(lambda: rig.model["watch"]["unchecked"] == 8)
        assert rig.serves("openvino")
        assert rig.told.of_kind("model_drift") == []

    run(old, work, "openvino@cpu", check_share=1.0)


def test_a_candidate_is_compared_with_what_serves_now(old: Bundle, new: Bundle) -> None:
    async def work(rig: Rig) -> None:
        await rig.answered(8)
        await until(lambda: rig.model["shadow"]["compared"] == 8)
        assert rig.model["shadow"]["max_abs"] > 0.01
        await rig.inference.swap("tiny", new.path)
        assert rig.model["shadow"]["compared"] == 0
        await rig.answered(8)
        await until(lambda: rig.model["shadow"]["compared"] == 8)
        assert rig.model["shadow"]["max_abs"] < 1e-6

    run(old, work, shadow=new.path)


def test_ticks_that_were_old_are_no_fault_of_the_device(old: Bundle) -> None:
    pytest.importorskip("openvino", reason="the device that is not to blame")

    async def work(rig: Rig) -> None:
        past_ns = time.monotonic_ns() - 1
        found = [rig.inference.ask(asks([1], deadline_ns=past_ns))[0] for _ in range(40)]
        assert {answer and answer.failure for answer in found} == {Failure.REFUSED}
        assert rig.serves("openvino")
        assert rig.model["failures"] == {"MODEL_REFUSED": 40}

    run(old, work, *TWO_RUNGS)


def test_a_device_whose_file_is_gone_when_it_is_loaded_again_is_dropped(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "gone")

    async def work(rig: Rig) -> None:
        await rig.leave()
        bundle.reference.path.unlink()
        await until(lambda: rig.model["rungs"][0]["standing"] == "absent")
        assert "cannot be read" in rig.model["rungs"][0]["detail"]

    run(bundle, work)


def test_a_start_that_fails_gives_everything_back(old: Bundle, tmp_path: Path) -> None:
    rig = Rig(old, SHARED, shadow=tmp_path / "none")

    async def main() -> None:
        with pytest.raises(BundleError, match="no such directory"):
            await rig.inference.start()
        assert rig.inference.status()["memory"]["models"] == 0

    asyncio.run(main())
    assert not [one for one in threading.enumerate() if one.name == "device-cpu"]


def test_a_stop_answers_what_hangs(old: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.inference.STOP_LIMIT_S", 0.2)
    rig = Rig(old, SHARED)

    async def main() -> None:
        await rig.inference.start()
        rig.inference.fault("cpu", "hang")
        assert rig.inference.ask(asks([1, 2])) == [None] * 2
        assert not await rig.inference.stop()
        assert [answer.failure for answer in rig.told.answers] == [Failure.FAILED] * 2
        rig.inference.fault("cpu", None)

    asyncio.run(main())


def test_a_model_that_is_put_anew_keeps_off_the_buffers_in_use() -> None:
    gate = threading.Event()
    model = SumModel((1,), before_run=waiting_for(gate))

    async def main() -> None:
        rig = make_rig(time.monotonic_ns, DeviceThread("npu"))
        rig.lane.start(asyncio.get_running_loop())
        for value in (1.0, 2.0):
            rig.lane.attach(0, model)
            rig.ask(time.monotonic_ns() + 10_000 * MS, value)
            rig.lane.pump()
        gate.set()
        await until(lambda: len(rig.done) == 2)
        assert rig.sums() == [SHAPE.window * SHAPE.features, 2.0 * SHAPE.window * SHAPE.features]
        assert await rig.lane.close(DEADLINE_S)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["removed", "stopped", "hung"])
def test_every_request_that_a_lane_took_is_counted_once(
    old: Bundle, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "hung":
        monkeypatch.setattr("runtime.inference.STOP_LIMIT_S", 0.2)
    rig = Rig(old, SHARED, max_batch=2)

    async def main() -> None:
        await rig.inference.start()
        lane = rig.inference._lanes.of("cpu")
        counts, _ = lane._records["tiny"]
        rig.inference.fault("cpu", "hang" if how == "hung" else "late")
        assert rig.inference.ask(asks(range(8))) == [None] * 8
        if how == "removed":
            rig.placer.remove(rig.served, rig.served.forms["cpu"])
            rig.inference._lanes.turn("cpu", None)
            await rig.told.until_answered(8)
        assert await rig.inference.stop() is (how != "hung")
        rig.inference._lanes.turn("cpu", None)
        assert len(rig.told.answers) == 8
        assert counts.asked == counts.answered + sum(counts.failures.values()) == 8

    asyncio.run(main())


def test_a_device_is_not_back_before_all_it_was_given_up_with_is() -> None:
    gates = threading.Event(), threading.Event()
    model = SumModel((1,), before_run=lambda _: waiting_for(gates[len(model.runs) - 1])(1))
    device = DeviceThread("npu")

    async def main() -> None:
        rig = make_rig(time.monotonic_ns, device)
        rig.lane.start(asyncio.get_running_loop())
        rig.lane.attach(0, model)
        for value in (1.0, 2.0):
            rig.ask(time.monotonic_ns() + 10_000 * MS, value)
            rig.lane.pump()
        gates[0].set()
        limit_s = time.monotonic() + DEADLINE_S
        while len(model.runs) < 2 and time.monotonic() < limit_s:
            time.sleep(0.001)  # noqa: ASYNC251  # the loop must not hear that the first is done
        device._lose()
        await asyncio.sleep(0.05)
        assert rig.lane.lost
        gates[1].set()
        await until(lambda: not rig.lane.lost)
        assert rig.health == ["lost", "returned"]
        assert len(rig.done) == 2
        assert await rig.lane.close(DEADLINE_S)

    asyncio.run(main())


def test_a_model_that_becomes_fast_keeps_off_the_buffers_its_thread_is_at() -> None:
    gate = threading.Event()

    def wait(_: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            gate.wait(DEADLINE_S)

    async def main() -> None:
        rig = make_rig(time.monotonic_ns, DeviceThread("npu"), inline_below_ns=50 * MS)
        rig.lane.start(asyncio.get_running_loop())
        rig.lane.attach(0, SumModel((1,), before_run=wait))
        for value in (1.0, 2.0):
            rig.ask(time.monotonic_ns() + 10_000 * MS, value)
            rig.lane.pump()
            rig.lane._hosted[0].inline = True
        gate.set()
        await until(lambda: len(rig.done) == 2)
        assert rig.sums() == [SHAPE.window * SHAPE.features, 2.0 * SHAPE.window * SHAPE.features]
        assert await rig.lane.close(DEADLINE_S)

    asyncio.run(main())
