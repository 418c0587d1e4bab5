"""Another bundle while requests go on, candidates beside, and the reference now and then."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from inference_cases import Told, Windows, asks, config, draft, make_bundle
from tiny_models import MLP_SHAPE, TCN_SHAPE, make_mlp, random_windows, reference_outputs

from engine.core.errors import BundleError, DeviceError
from runtime.asking import Answer
from runtime.bundle import Bundle
from runtime.bundle_writer import write_bundle
from runtime.config import InferenceConfig
from runtime.inference import Inference

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

MS = 10**6
SHARED = InferenceConfig(inline_below=0, timeout=1000 * MS, probe_interval=40 * MS)


class Rig:
    """An inference of one model, and what it told."""

    def __init__(self, bundle: Bundle, shared: InferenceConfig, *placement: str, **more: Any):
        self.windows = Windows()
        self.told = Told()
        self.inference = Inference(
            shared,
            [config(bundle, *placement, **more)],
            [bundle],
            gather=self.windows.gather,
            on_answer=self.told.on_answer,
            on_event=self.told.on_event,
        )

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = self.inference.status()["models"]["tiny"]
        return found

    async def answers(self, count: int) -> list[Answer]:
        """Ask for the first windows and wait for all answers."""
        before = len(self.told.answers)
        assert self.inference.ask(asks(range(count))) == [None] * count
        await self.told.until_answered(before + count)
        return self.told.answers[before:]


def run(
    bundle: Bundle,
    work: Callable[[Rig], Awaitable[None]],
    *placement: str,
    shared: InferenceConfig = SHARED,
    **more: Any,
) -> Rig:
    rig = Rig(bundle, shared, *placement, **more)

    async def main() -> None:
        await rig.inference.start()
        try:
            await work(rig)
        finally:
            assert await rig.inference.stop()

    asyncio.run(main())
    return rig


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "old")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("models") / "new", version="2", seed=99)


def lying_bundle(path: Path) -> Bundle:
    """Return a bundle whose model does not answer as its parity vectors say."""
    model = make_mlp(path.with_suffix(".onnx"), seed=5)
    inputs = random_windows(MLP_SHAPE, 8, seed=3)
    outputs = np.tile(np.array([0.2, 0.3, 0.5], np.float32), (8, 1))
    return write_bundle(path, draft("liar", "1", MLP_SHAPE), {"model.onnx": model}, inputs, outputs)


def test_a_swap_loses_no_request_and_no_answer_is_of_the_wrong_bundle(
    old: Bundle, new: Bundle
) -> None:
    async def work(rig: Rig) -> None:
        swap = asyncio.ensure_future(rig.inference.swap("tiny", new.path))
        asked = 0
        while not swap.done():
            asked += rig.inference.ask(asks(range(8))).count(None)
            await rig.told.until_answered(asked)
        found = rig.inference.ask(asks(range(8)))
        await rig.told.until_answered(asked + found.count(None))
        expected = {
            bundle.identity: reference_outputs(bundle.reference.path, rig.windows.rows[:8])
            for bundle in (old, new)
        }
        for answer in rig.told.answers:
            assert answer.score is not None
            assert isinstance(answer.context, int)
            row = expected[answer.score.bundle][answer.context]
            np.testing.assert_allclose(answer.score.values, row, atol=1e-5)
        assert rig.told.answers[0].score is not None
        assert rig.told.answers[0].score.bundle == old.identity
        assert rig.told.answers[-1].score is not None
        assert rig.told.answers[-1].score.bundle == new.identity
        assert rig.inference.bundle_of("tiny").identity == new.identity

    rig = run(old, work)
    (fields,) = rig.told.of_kind("model_swap")
    assert (fields["before"], fields["after"]) == (old.identity, new.identity)


def test_what_waits_is_answered_by_the_new_bundle_what_is_computed_by_the_old(
    old: Bundle, new: Bundle
) -> None:
    async def work(rig: Rig) -> None:
        for _ in range(3):
            rig.inference.ask(asks(range(64)))
            await rig.inference.swap("tiny", new.path)
            await rig.inference.swap("tiny", old.path)
        await rig.told.until_answered(3 * 64)
        assert all(answer.score for answer in rig.told.answers)

    run(old, work, max_batch=1)


def test_a_bundle_that_fails_parity_takes_nobodys_place(old: Bundle, tmp_path: Path) -> None:
    liar = lying_bundle(tmp_path / "liar")

    async def work(rig: Rig) -> None:
        with pytest.raises(DeviceError, match="NOT within"):
            await rig.inference.swap("tiny", liar.path)
        assert rig.model["bundle"] == old.identity
        assert all(answer.score for answer in await rig.answers(4))
        assert rig.inference.status()["memory"]["models"] == 1

    assert run(old, work).told.of_kind("model_swap") == []


def test_a_bundle_of_other_inputs_does_not_fit(old: Bundle, tmp_path: Path) -> None:
    wide = make_bundle(tmp_path / "wide", shape=TCN_SHAPE)

    async def work(rig: Rig) -> None:
        with pytest.raises(BundleError, match=r"features\[4\]"):
            await rig.inference.swap("tiny", wide.path)
        with pytest.raises(BundleError, match="no such directory"):
            await rig.inference.swap("tiny", tmp_path / "nothing")
        assert all(answer.score for answer in await rig.answers(4))

    run(old, work)


def test_a_bundle_for_which_there_is_no_room_takes_nobodys_place(
    old: Bundle, tmp_path: Path
) -> None:
    big = make_bundle(tmp_path / "big", hidden=30_000)

    async def work(rig: Rig) -> None:
        with pytest.raises(DeviceError, match="memory_budget_bytes"):
            await rig.inference.swap("tiny", big.path)
        assert all(answer.score for answer in await rig.answers(4))

    run(old, work, shared=InferenceConfig(memory_budget_bytes=1 << 20, inline_below=0))


def test_one_bundle_is_brought_in_at_a_time(old: Bundle, new: Bundle) -> None:
    async def work(rig: Rig) -> None:
        first = asyncio.ensure_future(rig.inference.swap("tiny", new.path))
        await asyncio.sleep(0)
        with pytest.raises(DeviceError, match="being brought in"):
            await rig.inference.swap("tiny", old.path)
        await first
        assert rig.model["swaps"] == 1

    run(old, work)


def test_a_swap_gives_the_old_bundles_memory_back(old: Bundle, new: Bundle) -> None:
    async def work(rig: Rig) -> None:
        before = rig.inference.status()["memory"]["used_bytes"]
        for _ in range(4):
            await rig.inference.swap("tiny", new.path)
            await rig.inference.swap("tiny", old.path)
        assert rig.inference.status()["memory"]["used_bytes"] == before

    run(old, work)


def test_a_shadow_answers_the_same_inputs_and_never_the_asker(old: Bundle, new: Bundle) -> None:
    async def work(rig: Rig) -> None:
        await rig.inference.shadow("tiny", new.path)
        answers = await rig.answers(8)
        assert {answer.score.bundle for answer in answers if answer.score} == {old.identity}
        while rig.model["shadow"]["compared"] < 8:
            await rig.answers(1)
        told = rig.model["shadow"]
        rows = rig.windows.rows
        differ = np.abs(
            reference_outputs(old.reference.path, rows)
            - reference_outputs(new.reference.path, rows)
        )
        assert 0 < told["max_abs"] <= differ.max() + 1e-5
        assert told["bundle"] == new.identity
        ended = await rig.inference.shadow("tiny", None)
        assert ended["before"]["compared"] >= 8
        assert rig.model["shadow"] is None
        assert len(rig.told.answers) == len({id(answer) for answer in rig.told.answers})

    rig = run(old, work)
    assert len(rig.told.of_kind("model_shadow")) == 2


def test_a_shadow_of_the_same_bundle_agrees(old: Bundle) -> None:
    async def work(rig: Rig) -> None:
        while rig.model["shadow"]["compared"] < 20:
            await rig.answers(4)
        assert rig.model["shadow"]["max_abs"] < 1e-6
        assert rig.model["shadow"]["disagreed"] == 0

    run(old, work, shadow=old.path)


def drifting_bundle(path: Path) -> Bundle:
    """Return a bundle with a second form that passes parity but is another model elsewhere.

    Its first form answers as the reference does on the parity vectors, which are all zero.
    """
    onnx = pytest.importorskip("onnx", reason="the drifting form is made with onnx")
    reference = make_mlp(path.with_suffix(".onnx"), seed=7)
    graph = onnx.load(str(reference))
    first = graph.graph.initializer[0]
    weights = onnx.numpy_helper.to_array(first)
    first.CopyFrom(onnx.numpy_helper.from_array(-weights, first.name))
    other = path.with_suffix(".other.onnx")
    onnx.save(graph, str(other))
    manifest = draft("drifting", "1", MLP_SHAPE)
    form = manifest.forms[0]
    second = msgspec.structs.replace(form, file="drifts.onnx", reference=False)
    manifest = msgspec.structs.replace(manifest, forms=(second, form))
    inputs = np.zeros((8, MLP_SHAPE.window, MLP_SHAPE.features), np.float32)
    sources: dict[str, Path | bytes] = {"model.onnx": reference, "drifts.onnx": other}
    return write_bundle(path, manifest, sources, inputs, reference_outputs(reference, inputs))


def test_a_form_that_drifts_from_the_reference_is_noticed_and_given_up(tmp_path: Path) -> None:
    drifting = drifting_bundle(tmp_path / "drifting")

    async def work(rig: Rig) -> None:
        def demoted() -> bool:
            causes = [fields["cause"] for fields in rig.told.of_kind("model_device")]
            return "DEVICE_DRIFT" in causes

        while not demoted():
            found = rig.inference.ask(asks(range(4)))
            wanted = len(rig.told.answers) + found.count(None)
            await rig.told.until_answered(wanted)
        assert rig.model["device"] == ""

    rig = run(drifting, work, check_share=1.0)
    verdicts = [fields["verdict"] for fields in rig.told.of_kind("model_drift")]
    assert verdicts[:2] == ["alarm", "demote"]


def test_the_reference_itself_is_not_checked(old: Bundle) -> None:
    async def work(rig: Rig) -> None:
        await rig.answers(8)
        assert rig.model["watch"] is None
        assert rig.inference.status()["memory"]["models"] == 1

    run(old, work, check_share=1.0)
