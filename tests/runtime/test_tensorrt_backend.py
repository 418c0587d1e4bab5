"""TensorRT keeps the backend contract on a GPU and a DLA; skipped where there is none.

``test_tensorrt_standin`` runs this file in a process of its own, on stand-ins for driver and
library, so that all but the arithmetic is tried everywhere.
"""

import logging
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from backend_battery import BackendBattery, ask
from tiny_models import (
    MLP_SHAPE,
    TCN_SHAPE,
    make_mlp,
    make_tcn,
    onnx_file,
    random_windows,
    reference_outputs,
)

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.tensorrt_backend import TensorRtBackend
from runtime.engine_cache import pack
from runtime.tensorrt_cache import EngineOrder
from runtime.tensorrt_versions import Flavour

STANDIN = "STANDIN_TENSORRT" in os.environ
NO_GRAPHS = "STANDIN_NO_GRAPHS" in os.environ
BUCKETS = (1, 4, 16)


made = cache(TensorRtBackend)
"""Each flavour once: asking what is here takes a second."""


def backend_on(device: str, flavour: Flavour = Flavour.TENSORRT) -> TensorRtBackend:
    backend = made(flavour)
    if device not in {fact.device for fact in backend.devices()}:
        pytest.skip(f"no {device}: {backend.missing() or 'TensorRT counts no such DLA core'}")
    return backend


@pytest.mark.hardware
class TestTensorRtOnGpu(BackendBattery):
    device = "gpu"
    tolerance = 1e-5
    bitwise = False

    def backend(self) -> Backend:
        return backend_on(self.device)

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return onnx_file(onnx, self.precision)


class TestTensorRtOnDla(TestTensorRtOnGpu):
    device = "dla:0"
    tolerance = 5e-3

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return onnx_file(onnx, Precision.FP32)

    def test_loaded_model_says_what_it_is(self) -> None:
        model = self.any_model()
        assert (model.backend, model.device, model.precision) == ("tensorrt", "dla:0", "fp16")


class TestRtxOnGpu(TestTensorRtOnGpu):
    def backend(self) -> Backend:
        if STANDIN:
            pytest.skip("TensorRT for RTX is the real one, which knows a stand-in from a driver")
        return backend_on(self.device, Flavour.RTX)


@pytest.mark.hardware
def test_every_bucket_and_slot_runs_as_a_graph(tmp_path: Path) -> None:
    onnx = make_tcn(tmp_path / "m.onnx")
    model = backend_on("gpu").load(onnx_file(onnx), TCN_SHAPE, "gpu", LoadOptions(BUCKETS, 3))
    try:
        assert model.graphs == (0 if NO_GRAPHS else 3 * len(BUCKETS))
        for bucket in BUCKETS:
            for slot in range(3):
                windows = random_windows(TCN_SHAPE, bucket, slot)
                expected = reference_outputs(onnx, windows)
                assert np.abs(ask(model, windows, slot) - expected).max() < 1e-5
    finally:
        model.close()


@pytest.mark.hardware
@pytest.mark.parametrize("device", ["gpu", "dla:0"])
def test_engines_are_built_once_and_again_if_damaged(tmp_path: Path, device: str) -> None:
    backend = backend_on(device)
    onnx, cache = make_mlp(tmp_path / "m.onnx"), tmp_path / "cache"
    options = LoadOptions((1, 4), 2, cache)
    backend.load(onnx_file(onnx), MLP_SHAPE, device, options).close()
    built = sorted(cache.iterdir())
    assert len(built) == (1 if device == "gpu" else 2)
    times = [path.stat().st_ino for path in built]
    backend.load(onnx_file(onnx), MLP_SHAPE, device, options).close()
    assert [path.stat().st_ino for path in built] == times
    built[0].write_bytes(built[0].read_bytes()[:-7])
    backend.load(onnx_file(onnx), MLP_SHAPE, device, options).close()
    assert sorted(cache.iterdir()) == built


@pytest.mark.hardware
def test_engine_the_library_refuses_is_built_anew(tmp_path: Path) -> None:
    backend = backend_on("gpu")
    onnx, cache = make_mlp(tmp_path / "m.onnx"), tmp_path / "cache"
    options = LoadOptions((1,), 1, cache)
    backend.load(onnx_file(onnx), MLP_SHAPE, "gpu", options).close()
    (path,) = cache.iterdir()
    order = EngineOrder(onnx_file(onnx), MLP_SHAPE, "gpu", Precision.FP32, (1,))
    key, _plan = backend.compile(order)
    path.write_bytes(pack(key, b"no plan"))
    backend.load(onnx_file(onnx), MLP_SHAPE, "gpu", options).close()
    assert len(path.read_bytes()) > 1000


@pytest.mark.hardware
def test_ready_made_engine_is_read(tmp_path: Path) -> None:
    backend = backend_on("gpu")
    onnx = make_mlp(tmp_path / "m.onnx")
    order = EngineOrder(onnx_file(onnx), MLP_SHAPE, "gpu", Precision.FP32, (4,))
    key, plan = backend.compile(order)
    path = tmp_path / "m.engine"
    path.write_bytes(pack(key, plan))
    file = ModelFile(path, "tensorrt", Precision.FP32, 4)
    model = backend.load(file, MLP_SHAPE, "gpu", LoadOptions((1, 4)))
    windows = random_windows(MLP_SHAPE, 4)
    assert model.buckets == (4,)
    assert np.abs(ask(model, windows) - reference_outputs(onnx, windows)).max() < 1e-5
    model.close()
    path.write_bytes(pack(key, plan)[:-1])
    with pytest.raises(BundleError, match="damaged"):
        backend.load(file, MLP_SHAPE, "gpu", LoadOptions((4,)))


@pytest.mark.hardware
@pytest.mark.parametrize(("made", "other"), [("dla:0", "gpu"), ("gpu", "dla:0")])
def test_engine_of_a_dla_is_none_of_the_gpu(tmp_path: Path, made: str, other: str) -> None:
    backend_on("dla:0")
    backend = backend_on("gpu")
    onnx = make_mlp(tmp_path / "m.onnx")
    order = EngineOrder(onnx_file(onnx), MLP_SHAPE, made, Precision.FP16, (4,))
    path = tmp_path / "m.engine"
    path.write_bytes(pack(*backend.compile(order)))
    file = ModelFile(path, "tensorrt", Precision.FP16, 4)
    backend.load(file, MLP_SHAPE, made, LoadOptions((4,))).close()
    with pytest.raises(BundleError, match=f"made for {made}, not for {other}"):
        backend.load(file, MLP_SHAPE, other, LoadOptions((4,)))


@pytest.mark.hardware
@pytest.mark.parametrize("device", ["gpu", "dla:0"])
def test_int8_is_built_from_a_calibration_set(tmp_path: Path, device: str) -> None:
    backend = backend_on(device)
    onnx = make_tcn(tmp_path / "m.onnx")
    rows = random_windows(TCN_SHAPE, 64)
    order = EngineOrder(onnx_file(onnx), TCN_SHAPE, device, Precision.INT8, (8,), rows)
    key, plan = backend.compile(order)
    path = tmp_path / "m.engine"
    path.write_bytes(pack(key, plan))
    file = ModelFile(path, "tensorrt", Precision.INT8, 8)
    model = backend.load(file, TCN_SHAPE, device, LoadOptions((8,)))
    windows = random_windows(TCN_SHAPE, 8, 3)
    assert np.abs(ask(model, windows) - reference_outputs(onnx, windows)).max() < 6e-2
    assert model.precision is Precision.INT8
    model.close()


@pytest.mark.hardware
def test_what_fell_back_from_the_dla_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = backend_on("dla:0")
    onnx = make_mlp(tmp_path / "m.onnx")
    with caplog.at_level(logging.WARNING):
        model = backend.load(onnx_file(onnx), MLP_SHAPE, "dla:0", LoadOptions())
    model.close()
    assert ("dla:0" in caplog.text) == bool(model.fallback)
    if STANDIN:
        assert "Softmax" in model.fallback


@pytest.mark.hardware
def test_model_that_is_all_on_the_gpu_is_not_said_to_be_on_the_dla(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not STANDIN:
        pytest.skip("only a stand-in's DLA can be told to take nothing")
    backend = backend_on("dla:0")
    monkeypatch.setenv("STANDIN_DLA_TAKES", "0")
    with pytest.raises(DeviceError, match="place it on gpu"):
        backend.load(onnx_file(make_mlp(tmp_path / "m.onnx")), MLP_SHAPE, "dla:0", LoadOptions())


@pytest.mark.hardware
def test_core_that_is_not_counted_is_refused(tmp_path: Path) -> None:
    backend = backend_on("gpu")
    with pytest.raises(DeviceError, match=r"counts . DLA cores"):
        backend.load(onnx_file(make_mlp(tmp_path / "m.onnx")), MLP_SHAPE, "dla:7", LoadOptions())


def test_machine_without_tensorrt_says_what_is_missing(tmp_path: Path) -> None:
    backend = TensorRtBackend()
    if not backend.missing():
        pytest.skip("TensorRT is here")
    assert backend.devices() == ()
    with pytest.raises(DeviceError, match=r"not installed|no CUDA device|tensorrt"):
        backend.load(onnx_file(make_mlp(tmp_path / "m.onnx")), MLP_SHAPE, "gpu", LoadOptions())
