"""Live inference over real lanes, threads and models: every request gets exactly one answer."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference_cases import (
    FAR_NS,
    Told,
    Windows,
    asks,
    config,
    make_bundle,
    make_odd_bundle,
)
from tiny_models import reference_outputs

from engine.core.errors import BundleError, ConfigError, DeviceError
from engine.core.models import Failure
from latency.stall import LoopWatch, StallMeter
from runtime.asking import Ask
from runtime.bundle import Bundle
from runtime.config import InferenceConfig, ModelConfig
from runtime.faults import Fault
from runtime.inference import Answer, Inference
from runtime.placement import Cause

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

MS = 10**6
THREADED = InferenceConfig(inline_below=0, timeout=300 * MS, probe_interval=40 * MS)
INLINE = InferenceConfig(inline_below=1000 * MS, timeout=300 * MS, probe_interval=40 * MS)


class Rig:
    """An inference with one or more models, its windows and what it told."""

    def __init__(
        self, shared: InferenceConfig, bundles: list[Bundle], models: list[ModelConfig]
    ) -> None:
        self.windows = Windows()
        self.told = Told()
        self.inference = Inference(
            shared,
            models,
            bundles,
            gather=self.windows.gather,
            on_answer=self.told.on_answer,
            on_event=self.told.on_event,
        )

    async def answers(self, wanted: list[Ask]) -> list[Answer]:
        """Ask, and wait for every answer."""
        before = len(self.told.answers)
        found = self.inference.ask(wanted)
        later = sum(answer is None for answer in found)
        await self.told.until(lambda: len(self.told.answers) >= before + later)
        by_context = {answer.context: answer for answer in self.told.answers[before:]}
        assert len(self.told.answers) == before + later
        return [
            answer or by_context[ask.context] for ask, answer in zip(wanted, found, strict=True)
        ]

    def device(self) -> str:
        return str(self.inference.status()["models"]["tiny"]["device"])

    def causes(self) -> list[object]:
        return [fields["cause"] for fields in self.told.of_kind("model_device")]


def run(
    shared: InferenceConfig,
    bundle: Bundle,
    work: Callable[[Rig], Awaitable[None]],
    *placement: str,
    **more: Any,
) -> Rig:
    rig = Rig(shared, [bundle], [config(bundle, *placement, **more)])

    async def main() -> None:
        await rig.inference.start()
        try:
            await work(rig)
        finally:
            assert await rig.inference.stop()

    asyncio.run(main())
    return rig


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])
def test_every_request_is_answered_with_its_own_score(
    bundle: Bundle, shared: InferenceConfig
) -> None:
    async def work(rig: Rig) -> None:
        answers = await rig.answers(asks(range(40)))
        expected = reference_outputs(bundle.reference.path, rig.windows.rows[:40])
        for answer, row in zip(answers, expected, strict=True):
            assert answer.score is not None
            np.testing.assert_allclose(answer.score.values, row, atol=1e-5)
            assert answer.score.bundle == bundle.identity
            assert (answer.score.backend, answer.score.device) == ("onnxruntime", "cpu")
            assert answer.score.queue_ns >= 0
            assert answer.score.service_ns > 0

    run(shared, bundle, work)


def test_what_is_fast_enough_is_answered_at_once(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        assert all(rig.inference.ask(asks(range(5))))
        assert rig.told.answers == []

    run(INLINE, bundle, work)


def test_what_is_not_is_answered_later(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        assert rig.inference.ask(asks([1])) == [None]
        await rig.told.until(lambda: len(rig.told.answers) == 1)

    run(THREADED, bundle, work)


def test_a_request_whose_time_is_over_is_refused_at_once(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        (answer,) = await rig.answers(asks([1], deadline_ns=time.monotonic_ns() - 1))
        assert answer.failure in {Failure.REFUSED, Failure.LATE}

    run(INLINE, bundle, work)


def test_windows_gone_or_not_a_number_fail_alone_and_blame_nobody(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        rig.windows.gone.add(1)
        rig.windows.rows[2, 0, 0] = np.nan
        for _ in range(20):
            answers = await rig.answers(asks([0, 1, 2, 3]))
            failures = [answer.failure for answer in answers]
            assert failures == [None, Failure.SUPERSEDED, Failure.INVALID, None]
        assert rig.device() == "cpu"

    run(INLINE, bundle, work)
    run(THREADED, bundle, work)


def test_before_a_start_and_after_a_stop_nobody_answers(bundle: Bundle) -> None:
    rig = Rig(INLINE, [bundle], [config(bundle)])

    async def work() -> None:
        assert [a and a.failure for a in rig.inference.ask(asks([1]))] == [Failure.UNAVAILABLE]
        await rig.inference.start()
        await rig.inference.stop()
        assert [a and a.failure for a in rig.inference.ask(asks([1]))] == [Failure.UNAVAILABLE]

    asyncio.run(work())


def test_a_stop_answers_what_waits(bundle: Bundle) -> None:
    rig = Rig(THREADED, [bundle], [config(bundle)])

    async def work() -> None:
        await rig.inference.start()
        found = rig.inference.ask(asks(range(64)))
        await rig.inference.stop()
        assert len(rig.told.answers) == found.count(None) == 64

    asyncio.run(work())


def test_a_device_that_is_not_here_is_skipped_and_named(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        (answer,) = await rig.answers(asks([1]))
        assert answer.score is not None
        rungs = rig.inference.status()["models"]["tiny"]["rungs"]
        assert [rung["standing"] for rung in rungs] == ["absent", "ready"]
        assert "dla:7" in str(rungs[0]["detail"])

    run(INLINE, bundle, work, "dla:7", "cpu")


def test_a_model_that_nothing_here_can_run_does_not_start(bundle: Bundle) -> None:
    rig = Rig(INLINE, [bundle], [config(bundle, "dla:7")])
    with pytest.raises(BundleError) as caught:
        asyncio.run(rig.inference.start())
    first, entry, *reasons, mend = str(caught.value).splitlines()
    assert first.endswith("nothing here can run it; models.tiny.placement asks for")
    assert entry == "  dla:7"
    assert "    onnxruntime: it has no dla:7" in reasons
    assert max(map(len, reasons)) < 100
    assert mend.startswith('put "cpu" last in models.tiny.placement')


@pytest.mark.parametrize("kind", ["raise", "nan"])
@pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])
def test_a_broken_device_is_left_and_returned_to(
    bundle: Bundle, shared: InferenceConfig, kind: str
) -> None:
    async def work(rig: Rig) -> None:
        rig.inference.fault("cpu", kind)
        failures = [(await rig.answers(asks([n])))[0].failure for n in range(3)]
        assert set(failures) == {Failure.FAILED if kind == "raise" else Failure.INVALID}
        assert rig.device() == ""
        found = rig.inference.ask(asks([1, 2]))
        assert [a and a.failure for a in found] == [Failure.UNAVAILABLE] * 2
        rig.inference.fault("cpu", None)
        await rig.told.until(lambda: rig.device() == "cpu")
        assert (await rig.answers(asks([1])))[0].score is not None

    rig = run(shared, bundle, work)
    cause = "DEVICE_FAILED" if kind == "raise" else "DEVICE_INVALID"
    assert rig.causes() == ["DEVICE_STARTED", cause, "DEVICE_RECOVERED"]
    kinds = [fields["fault"] for fields in rig.told.of_kind("model_fault")]
    assert kinds == [kind, ""]


@pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])
def test_a_device_that_hangs_does_not_hold_the_loop_and_recovers(
    bundle: Bundle, shared: InferenceConfig
) -> None:
    async def work(rig: Rig) -> None:
        rig.inference.fault("cpu", "hang")
        longest, last = 0.0, time.monotonic()
        found = rig.inference.ask(asks(range(10)))
        assert found == [None] * 10
        while len(rig.told.answers) < 10:
            await asyncio.sleep(0)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        assert {answer.failure for answer in rig.told.answers} == {Failure.FAILED}
        assert rig.device() == ""
        assert longest < 0.1
        rig.inference.fault("cpu", None)
        await rig.told.until(lambda: rig.device() == "cpu")
        assert (await rig.answers(asks([1])))[0].score is not None
        assert len(rig.told.answers) in (10, 11)

    rig = run(shared, bundle, work)
    assert rig.causes() == ["DEVICE_STARTED", "DEVICE_LOST", "DEVICE_RECOVERED"]
    assert [f["health"] for f in rig.told.of_kind("model_health")] == ["lost", "returned"]


def test_a_device_that_answers_late_gives_no_score_after_the_deadline(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        rig.inference.fault("cpu", "late")
        deadline_ns = time.monotonic_ns() + 50 * MS
        answers = await rig.answers(asks(range(10), deadline_ns=deadline_ns))
        assert {answer.failure for answer in answers} <= {Failure.LATE, Failure.REFUSED}
        rig.inference.fault("cpu", None)
        soon_ns = time.monotonic_ns() + 5000 * MS
        assert (await rig.answers(asks([1], deadline_ns=soon_ns)))[0].score is not None

    run(INLINE, bundle, work)


def test_the_next_device_takes_over_and_the_first_returns(bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="the second device of this test is OpenVINO's")

    async def work(rig: Rig) -> None:
        rungs = rig.inference.status()["models"]["tiny"]["rungs"]
        assert [rung["backend"] for rung in rungs] == ["openvino", "onnxruntime"]
        assert (await rig.answers(asks([1])))[0].score is not None
        form = rig.inference._models[0].forms["openvino@cpu"]
        form.loaded.close()
        for n in range(3):
            assert (await rig.answers(asks([n])))[0].failure is Failure.FAILED
        (answer,) = await rig.answers(asks([1]))
        assert answer.score is not None
        assert answer.score.backend == "onnxruntime"
        await rig.told.until(lambda: len(rig.causes()) == 3)

    rig = run(INLINE, bundle, work, "openvino@cpu", "cpu")
    assert rig.causes() == ["DEVICE_STARTED", "DEVICE_FAILED", "DEVICE_RECOVERED"]


def test_a_model_without_room_is_not_loaded_and_says_so(bundle: Bundle, tmp_path: Path) -> None:
    big = make_bundle(tmp_path / "big", hidden=30_000)
    shared = InferenceConfig(memory_budget_bytes=1 << 20, inline_below=0)

    async def work(rig: Rig) -> None:
        (answer,) = await rig.answers(asks([1]))
        assert answer.failure is Failure.UNAVAILABLE
        (rung,) = rig.inference.status()["models"]["tiny"]["rungs"]
        assert "raise inference.memory_budget_bytes" in str(rung["detail"])

    run(shared, big, work)


def test_of_two_models_one_that_breaks_leaves_the_other_alone(
    bundle: Bundle, tmp_path: Path
) -> None:
    odd = make_odd_bundle(tmp_path / "odd", (np.nan, 0.5, 0.5), (0.2, 0.3, 0.5))
    rig = Rig(THREADED, [bundle, odd], [config(bundle), config(odd, name="odd")])

    async def work() -> None:
        await rig.inference.start()
        mixed = [Ask(n % 2, FAR_NS, n) for n in range(20)]
        answers = await rig.answers(mixed)
        assert all(answer.score for answer in answers[::2])
        assert {answer.failure for answer in answers[1::2]} == {Failure.UNAVAILABLE}
        await rig.inference.stop()

    asyncio.run(work())


def test_what_nobody_knows_is_refused(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        with pytest.raises(ConfigError, match="devices in use are: cpu"):
            rig.inference.fault("gpu", "raise")
        with pytest.raises(ConfigError, match="faults are: raise, hang, late, nan"):
            rig.inference.fault("cpu", "melt")
        with pytest.raises(ConfigError, match="models are: tiny"):
            await rig.inference.swap("huge", bundle.path)

    run(INLINE, bundle, work)


def test_times_are_kept_by_model_and_device(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        await rig.answers(asks(range(10)))
        summary = rig.inference.histograms()["tiny", "cpu"].summary()
        assert summary["queue"].count == summary["inference"].count == 10

    run(THREADED, bundle, work)


def test_a_stop_leaves_a_device_that_hangs_behind(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.inference.STOP_LIMIT_S", 0.2)
    rig = Rig(THREADED, [bundle], [config(bundle)])

    async def work() -> None:
        await rig.inference.start()
        rig.inference.fault("cpu", "hang")
        rig.inference.ask(asks([1]))
        await rig.told.until(lambda: rig.device() == "")
        assert not await rig.inference.stop()
        rig.inference.fault("cpu", None)

    asyncio.run(work())


def test_the_loop_turns_on_while_devices_misbehave_one_after_the_other(bundle: Bundle) -> None:
    async def work(rig: Rig) -> None:
        meter = StallMeter(20 * MS)
        watch = LoopWatch(meter, 2 * MS)
        watch.start(asyncio.get_running_loop())
        for kind in ("raise", "nan", "late", "hang"):
            rig.inference.fault("cpu", kind)
            deadline_ns = time.monotonic_ns() + 150 * MS
            asked = asks(range(20), deadline_ns=deadline_ns)
            answers = await rig.answers(asked)
            assert [answer.context for answer in answers] == list(range(20))
            assert {answer.score for answer in answers} == {None}
            rig.inference.fault("cpu", None)
            await rig.told.until(lambda: rig.device() == "cpu")
        watch.stop()
        assert meter.cumulative().summary().count > 0
        assert meter.worst_ns < 100 * MS

    run(INLINE, bundle, work)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shared", [INLINE, THREADED], ids=["inline", "threaded"])
def test_whatever_breaks_and_is_swapped_every_request_gets_exactly_one_answer(
    bundle: Bundle, tmp_path: Path, shared: InferenceConfig, seed: int
) -> None:
    other = make_bundle(tmp_path / "other", version="2", seed=99)
    dice = random.Random(seed)

    async def work(rig: Rig) -> None:
        at_once, later = 0, 0
        for _ in range(15):
            what = dice.choice(["raise", "nan", "hang", None, None, "swap"])
            if what == "swap":
                rig.inference.fault("cpu", None)
                with contextlib.suppress(DeviceError):
                    await rig.inference.swap("tiny", dice.choice([bundle, other]).path)
            else:
                rig.inference.fault("cpu", what)
            for _ in range(dice.randrange(4)):
                limit_ns = dice.choice([1, 50, 5000]) * MS
                wanted = asks(range(dice.randrange(30)), deadline_ns=time.monotonic_ns() + limit_ns)
                found = rig.inference.ask(wanted)
                at_once += len(wanted) - found.count(None)
                later += found.count(None)
                await asyncio.sleep(0)
        rig.inference.fault("cpu", None)
        await rig.told.until_answered(later)
        await rig.told.until(lambda: rig.device() == "cpu")
        counts = rig.inference.status()["models"]["tiny"]
        assert counts["scores"] + sum(counts["failures"].values()) == at_once + later
        assert len(rig.told.answers) == later

    run(shared, bundle, work, max_batch=2)


def test_a_device_slow_to_load_keeps_nobody_waiting_and_joins_when_ready(bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="the device that is slow to load")
    shared = THREADED.model_copy(update={"start_wait": 1_500 * MS})
    rig = Rig(shared, [bundle], [config(bundle, "openvino@cpu", "cpu", check_share=0.5)])

    async def main() -> None:
        rig.inference._lanes.turn("openvino@cpu", Fault.LATE)
        await rig.inference.start()
        assert rig.inference.status()["models"]["tiny"]["backend"] == "onnxruntime"
        slow, _ = rig.inference.status()["models"]["tiny"]["rungs"]
        assert (slow["standing"], slow["detail"]) == ("absent", "still loading")
        (answer,) = await rig.answers(asks([1]))
        assert answer.score is not None
        rig.inference._lanes.turn("openvino@cpu", None)
        await rig.told.until(lambda: rig.causes().count(Cause.STARTED) == 2)
        assert rig.inference.status()["models"]["tiny"]["backend"] == "openvino"
        async with asyncio.timeout(20):
            while rig.inference.status()["models"]["tiny"]["watch"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await rig.inference.stop()

    asyncio.run(main())


def test_an_engine_starts_although_its_only_device_is_still_loading(bundle: Bundle) -> None:
    shared = THREADED.model_copy(update={"start_wait": 20 * MS})
    rig = Rig(shared, [bundle], [config(bundle, "onnxruntime@cpu")])

    async def main() -> None:
        rig.inference._lanes.turn("cpu", Fault.LATE)
        await rig.inference.start()
        assert rig.inference.unserved() == {"tiny": "onnxruntime@cpu is absent: still loading"}
        (answer,) = await rig.answers(asks([1]))
        assert answer.failure is Failure.UNAVAILABLE
        rig.inference._lanes.turn("cpu", None)
        await rig.told.until(lambda: bool(rig.causes()))
        assert rig.inference.unserved() == {}
        assert await rig.inference.stop()

    asyncio.run(main())


def test_a_stop_waits_for_no_loading(bundle: Bundle) -> None:
    shared = THREADED.model_copy(update={"start_wait": 20 * MS})
    rig = Rig(shared, [bundle], [config(bundle, "cpu")])

    async def main() -> None:
        rig.inference._lanes.turn("cpu", Fault.HANG)
        await rig.inference.start()
        assert await rig.inference.stop()

    began_ns = time.monotonic_ns()
    asyncio.run(main())
    assert time.monotonic_ns() - began_ns < 5_000 * MS
    rig.inference._lanes.turn("cpu", None)
