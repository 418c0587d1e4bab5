"""RKNN forms keep the backend contract on the toolkit's simulator, in fp16 and INT8."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from backend_battery import BackendBattery, ask
from rknn_simulator import (
    RknnSimulatorBackend,
    relative_rmse,
    shared_toolkit,
    skip_without_toolkit,
)
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
from runtime.rknn_toolkit import Toolkit, toolkit_python

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def toolkit() -> Iterator[Toolkit]:
    yield skip_without_toolkit()
    shared_toolkit().close()
    shared_toolkit.cache_clear()


class TestRknnFp16(BackendBattery):
    device = "npu"
    precision = Precision.FP16
    tolerance = 2e-3
    buckets = (1,)

    def backend(self) -> Backend:
        return RknnSimulatorBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return onnx_file(onnx, self.precision)


class TestRknnInt8(BackendBattery):
    device = "npu"
    precision = Precision.INT8
    tolerance = 4e-2
    buckets = (1,)
    models = ("tcn",)

    def backend(self) -> Backend:
        return RknnSimulatorBackend(random_windows(TCN_SHAPE, 64))

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return onnx_file(onnx, self.precision)


@pytest.mark.parametrize(
    ("precision", "limit"), [(Precision.FP16, 2e-3), (Precision.INT8, 4e-2)]
)  # fmt: skip
@pytest.mark.parametrize("name", ["mlp", "tcn"])
def test_relative_error_is_as_the_toolkit_promises(
    tmp_path: Path, name: str, precision: Precision, limit: float
) -> None:
    make, shape = (make_mlp, MLP_SHAPE) if name == "mlp" else (make_tcn, TCN_SHAPE)
    onnx = make(tmp_path / "m.onnx")
    backend = RknnSimulatorBackend(random_windows(shape, 64))
    model = backend.load(onnx_file(onnx, precision), shape, "npu", LoadOptions())
    windows = random_windows(shape, 32, seed=5)
    answers = np.concatenate([ask(model, row[None]).copy() for row in windows])
    model.close()
    assert relative_rmse(answers, reference_outputs(onnx, windows)) < limit


def test_converted_file_is_written(tmp_path: Path, toolkit: Toolkit) -> None:
    out = tmp_path / "m.rknn"
    model = toolkit.open(make_mlp(tmp_path / "m.onnx"), MLP_SHAPE, out=out)
    toolkit.release(model)
    assert out.read_bytes().startswith(b"RKNN")


def test_unknown_chip_is_the_bundles_problem(tmp_path: Path, toolkit: Toolkit) -> None:
    with pytest.raises(BundleError, match="rknn-toolkit2"):
        toolkit.open(make_mlp(tmp_path / "m.onnx"), MLP_SHAPE, chip="rk0000")


def test_toolkit_that_ended_is_a_device_that_failed(tmp_path: Path) -> None:
    onnx = make_mlp(tmp_path / "m.onnx")
    with Toolkit(toolkit_python()) as toolkit:
        model = toolkit.open(onnx, MLP_SHAPE)
        toolkit._child.kill()
        toolkit._child.wait()
        with pytest.raises(DeviceError, match="rknn-toolkit2"):
            toolkit.run(model, random_windows(MLP_SHAPE, 1))
    toolkit.close()
