"""The NPU's backend looks at every answer of ``rknnlite``; on a board it keeps the contract."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_battery import BackendBattery, ask
from tiny_models import MLP_SHAPE, random_windows

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, Floats, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.rknn_backend import RknnBackend, check_file, load_model

FORMS = os.environ.get("HEQIS_RKNN_FORMS", "")
"""On a board: the directory with ``mlp.rknn`` and ``tcn.rknn``, made by a PC from these models."""


class FakeLite:
    """An ``RKNNLite`` that answers as told; the real one exists on boards only."""

    def __init__(self, load: int = 0, start: int = 0, answers: Any = None) -> None:
        self.load = load
        self.start = start
        self.answers = answers
        self.released = 0

    def load_rknn(self, path: str) -> int:
        assert Path(path).exists()
        return self.load

    def init_runtime(self) -> int:
        return self.start

    def inference(self, inputs: list[Floats]) -> Any:
        if callable(self.answers):
            return self.answers(inputs[0])
        return self.answers

    def release(self) -> None:
        self.released += 1


def row_sums(window: Floats) -> list[Floats]:
    return [np.stack([window.sum((1, 2))] * MLP_SHAPE.outputs, axis=1)]


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    path = tmp_path / "m.rknn"
    path.write_bytes(b"RKNN\0\0\0\0and so on")
    return ModelFile(path, "rknn", Precision.FP16, 1)


def load(lite: FakeLite, file: ModelFile) -> Any:
    return load_model(lite, file, MLP_SHAPE, LoadOptions())


def test_window_goes_in_and_answer_comes_out(file: ModelFile) -> None:
    lite = FakeLite(answers=row_sums)
    model = load(lite, file)
    windows = random_windows(MLP_SHAPE, 1)
    assert np.allclose(ask(model, windows), windows.sum())
    assert np.allclose(ask(model, 2 * windows, slot=1), 2 * windows.sum())
    assert (model.buckets, model.backend, model.device) == ((1,), "rknn", "npu")
    model.close()
    model.close()
    assert lite.released == 1
    with pytest.raises(DeviceError):
        model.run(1)


def test_file_that_is_refused_is_the_bundles_problem(file: ModelFile) -> None:
    lite = FakeLite(load=-1)
    with pytest.raises(BundleError, match="answered -1"):
        load(lite, file)
    assert lite.released == 1


def test_runtime_that_does_not_start_is_the_devices(file: ModelFile) -> None:
    lite = FakeLite(start=-1)
    with pytest.raises(DeviceError, match="answered -1"):
        load(lite, file)
    assert lite.released == 1


@pytest.mark.parametrize("answers", [None, []])
def test_answer_of_nothing_is_a_failure(file: ModelFile, answers: Any) -> None:
    with pytest.raises(DeviceError, match="answered nothing"):
        load(FakeLite(answers=answers), file)


def test_npu_that_fails_later_is_told_and_the_model_stays_usable(file: ModelFile) -> None:
    lite = FakeLite(answers=row_sums)
    model = load(lite, file)
    lite.answers = None
    with pytest.raises(DeviceError):
        model.run(1)
    lite.answers = row_sums
    assert model.run(1).shape == (1, MLP_SHAPE.outputs)


def test_library_that_raises_is_a_device_that_failed(file: ModelFile) -> None:
    def broken(_window: Floats) -> None:
        raise RuntimeError("rknn_run, ret: -6")

    with pytest.raises(DeviceError, match="ret: -6"):
        load(FakeLite(answers=broken), file)


@pytest.mark.parametrize("count", [1, 2])
def test_model_of_another_shape_is_refused(file: ModelFile, count: int) -> None:
    answers = [np.zeros((1, MLP_SHAPE.outputs + 2 - count), np.float32)] * count
    with pytest.raises(BundleError, match="expected one of"):
        load(FakeLite(answers=answers), file)


@pytest.mark.parametrize(
    ("content", "precision", "batch"),
    [(b"ONNX", Precision.FP16, 1), (b"RKNN", Precision.FP32, 1), (b"RKNN", Precision.INT8, 4)],
)
def test_form_the_npu_cannot_have_is_refused(
    tmp_path: Path, content: bytes, precision: Precision, batch: int
) -> None:
    path = tmp_path / "m.rknn"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        check_file(ModelFile(path, "rknn", precision, batch))


def test_machine_without_an_npu_says_so(file: ModelFile) -> None:
    backend = RknnBackend()
    if not backend.missing():
        pytest.skip("this machine has an NPU")
    assert backend.devices() == ()
    with pytest.raises(DeviceError, match=r"Rockchip|rknnlite|RKNPU"):
        backend.load(file, MLP_SHAPE, "npu", LoadOptions())


@pytest.mark.hardware
class TestRknnOnTheBoard(BackendBattery):
    """Needs a Rockchip board and forms that a PC converted with tests/rknn_forms.py."""

    device = "npu"
    precision = Precision.FP16
    tolerance = 5e-3
    buckets = (1,)

    def backend(self) -> Backend:
        backend = RknnBackend()
        if backend.missing():
            pytest.skip(f"no NPU: {backend.missing()}")
        if not FORMS:
            pytest.skip("HEQIS_RKNN_FORMS does not say where mlp.rknn and tcn.rknn are")
        return backend

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        self.backend()
        return ModelFile(Path(FORMS) / f"{onnx.stem}.rknn", "rknn", self.precision, 1)
