"""Loading on threads of their own: given up when it takes too long, and then nobody's."""

import asyncio
import threading
from pathlib import Path

import pytest
from inference_cases import Windows, config, make_bundle

from engine.core.errors import DeviceError
from runtime import loading
from runtime.bundle import Bundle
from runtime.config import InferenceConfig
from runtime.executors import run_apart
from runtime.faults import Fault
from runtime.inference import Inference
from runtime.loading import is_host, lane_name
from runtime.prepared import PreparedModel

pytest.importorskip("onnxruntime", reason="models are run by ONNX Runtime")

SHARED = InferenceConfig(memory_budget_bytes=1 << 20)


def make_inference(bundle: Bundle) -> Inference:
    return Inference(
        SHARED,
        [config(bundle, "onnxruntime@cpu")],
        [bundle],
        gather=Windows().gather,
        on_answer=lambda answer: None,
    )


def test_each_library_on_the_processor_has_a_lane_and_each_other_device_one() -> None:
    names = {
        (backend, device): lane_name(backend, device)
        for backend in ("onnxruntime", "openvino", "tensorrt")
        for device in ("cpu", "gpu", "dla:0")
    }
    assert names["onnxruntime", "cpu"] == "cpu"
    assert names["openvino", "cpu"] == "openvino@cpu"
    assert names["tensorrt", "gpu"] == names["onnxruntime", "gpu"] == "gpu"
    assert all(is_host(name) == (device == "cpu") for (_, device), name in names.items())


def test_work_apart_comes_back_to_the_loop_with_what_it_gave_or_raised() -> None:
    def fail() -> None:
        raise DeviceError("it broke")

    async def main() -> None:
        here = threading.get_ident()
        assert await run_apart(threading.get_ident) != here
        with pytest.raises(DeviceError, match="it broke"):
            await run_apart(fail)

    asyncio.run(main())


def test_a_file_larger_than_the_budget_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "large", hidden=20_000)
    assert bundle.reference.path.stat().st_size > 1 << 20

    async def main() -> None:
        placer = make_inference(bundle)._placer
        place = placer.models[0].place("onnxruntime@cpu")
        with pytest.raises(DeviceError, match=r"model\.onnx has \d+ bytes, 1048576 are allowed"):
            await placer.loader.load(place, bundle)
        assert await placer.stop(1.0)

    asyncio.run(main())


def test_what_is_loaded_too_late_is_closed_by_the_thread_that_loaded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    closed = threading.Event()
    close = PreparedModel.close

    def note(model: PreparedModel) -> None:
        close(model)
        closed.set()

    monkeypatch.setattr(PreparedModel, "close", note)
    monkeypatch.setattr(loading, "LOAD_LIMIT_S", 0.2)

    async def main() -> None:
        placer = make_inference(bundle)._placer
        placer.lanes.turn("cpu", Fault.LATE)
        place = placer.models[0].place("onnxruntime@cpu")
        with pytest.raises(DeviceError, match="loading took over"):
            await placer.loader.load(place, bundle)
        assert not closed.is_set()
        placer.lanes.turn("cpu", None)
        assert await asyncio.to_thread(closed.wait, 10.0)
        assert len(placer.loader.cache) == 0
        assert await placer.stop(1.0)

    asyncio.run(main())
