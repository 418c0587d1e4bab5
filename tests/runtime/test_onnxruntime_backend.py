"""ONNX Runtime keeps the backend contract on the CPU, and on a GPU where there is one."""

from pathlib import Path

import numpy as np
import pytest
from backend_battery import BackendBattery, ask
from tiny_models import (
    MLP_SHAPE,
    make_constant,
    make_mlp,
    onnx_file,
    random_windows,
    reference_outputs,
)

from engine.core.errors import BundleError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.catalog import find

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


class TestOnnxRuntimeOnCpu(BackendBattery):
    def backend(self) -> Backend:
        return OnnxRuntimeBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return onnx_file(onnx)


class TestOnnxRuntimeOnTheSpareThread(TestOnnxRuntimeOnCpu):
    device = "cpu:1"

    def test_backend_runs_here(self) -> None:
        assert [one.backend.name for one in find("cpu:1", ["onnx"])] == ["onnxruntime"]
        assert [one.device for one in find("cpu:1", ["onnx"])] == ["cpu:1"]


def skip_without_gpu(backend: OnnxRuntimeBackend) -> OnnxRuntimeBackend:
    if "gpu" not in {fact.device for fact in backend.devices()}:
        pytest.skip(backend._missing_on_gpu())
    return backend


class TestOnnxRuntimeOnCuda(TestOnnxRuntimeOnCpu):
    device = "gpu"
    tolerance = 1e-5
    bitwise = False

    def backend(self) -> Backend:
        return skip_without_gpu(OnnxRuntimeBackend("cuda"))


class TestOnnxRuntimeOnTensorRt(TestOnnxRuntimeOnCuda):
    def backend(self) -> Backend:
        return skip_without_gpu(OnnxRuntimeBackend("tensorrt"))


def test_several_buckets_live_in_one_model(tmp_path: Path) -> None:
    onnx = make_mlp(tmp_path / "m.onnx")
    options = LoadOptions((1, 2, 8), 3)
    model = OnnxRuntimeBackend().load(onnx_file(onnx), MLP_SHAPE, "cpu", options)
    assert model.buckets == (1, 2, 8)
    for bucket in model.buckets:
        for slot in range(3):
            windows = random_windows(MLP_SHAPE, bucket, slot)
            expected = reference_outputs(onnx, windows)
            assert np.abs(ask(model, windows, slot) - expected).max() < 1e-6
    model.close()


def test_form_with_a_fixed_batch_has_that_bucket_only(tmp_path: Path) -> None:
    onnxlib = pytest.importorskip("onnx")
    path = make_mlp(tmp_path / "m.onnx")
    model = onnxlib.load(str(path))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnxlib.save(model, str(path))
    file = onnx_file(path)._replace(batch=4)
    assert OnnxRuntimeBackend().load(file, MLP_SHAPE, "cpu", LoadOptions((1, 8))).buckets == (4,)
    with pytest.raises(BundleError, match=r"shape \(4, 8, 4\), expected \(8, 8, 4\)"):
        OnnxRuntimeBackend().load(file._replace(batch=8), MLP_SHAPE, "cpu", LoadOptions())


def test_answer_that_is_no_number_is_handed_on_as_it_is(tmp_path: Path) -> None:
    file = onnx_file(make_constant(tmp_path / "c.onnx", [float("nan"), 2.0, 3.0]))
    model = OnnxRuntimeBackend().load(file, MLP_SHAPE, "cpu", LoadOptions())
    assert np.isnan(model.run(1)[0, 0])


def test_file_that_is_no_model_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"x\.onnx: ONNX Runtime cannot read it"):
        OnnxRuntimeBackend().load(onnx_file(path), MLP_SHAPE, "cpu", LoadOptions())
