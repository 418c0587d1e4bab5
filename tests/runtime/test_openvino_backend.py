"""OpenVINO keeps the backend contract on the CPU, with its own form and with plain ONNX."""

from pathlib import Path

import numpy as np
import pytest
from backend_battery import BackendBattery, ask
from tiny_models import MLP_SHAPE, make_mlp, onnx_file, random_windows, reference_outputs

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.openvino_backend import OpenVinoBackend

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")


def own_form(onnx: Path) -> ModelFile:
    path = onnx.with_suffix(".xml")
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
    return ModelFile(path, "openvino", Precision.FP32)


class TestOpenVinoOnCpu(BackendBattery):
    def backend(self) -> Backend:
        return OpenVinoBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return own_form(onnx)


def test_plain_onnx_is_read_too(tmp_path: Path) -> None:
    onnx, windows = make_mlp(tmp_path / "m.onnx"), random_windows(MLP_SHAPE, 2)
    model = OpenVinoBackend().load(onnx_file(onnx), MLP_SHAPE, "cpu", LoadOptions((2,)))
    assert np.abs(ask(model, windows) - reference_outputs(onnx, windows)).max() < 1e-6


def test_form_without_its_weights_is_refused(tmp_path: Path) -> None:
    file = own_form(make_mlp(tmp_path / "m.onnx"))
    file.path.with_suffix(".bin").unlink()
    with pytest.raises(BundleError, match=r"its weights m\.bin are missing"):
        OpenVinoBackend().load(file, MLP_SHAPE, "cpu", LoadOptions())


def test_device_it_has_not_is_told(tmp_path: Path) -> None:
    file = onnx_file(make_mlp(tmp_path / "m.onnx"))
    with pytest.raises(DeviceError, match="openvino on npu: no such device"):
        OpenVinoBackend().load(file, MLP_SHAPE, "npu", LoadOptions())
