"""PyTorch keeps the backend contract on the CPU, and on a GPU where there is one."""

import inspect
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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

from engine.core.errors import BundleError, ConfigError
from engine.core.models import Backend, LoadOptions, ModelFile, ModelShape, Precision
from runtime.backends.torch_backend import _PASSES, TorchBackend
from runtime.builders.options import BuildOptions
from runtime.builders.torch_builder import build

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def build_form(onnx: Path, shape: ModelShape, **options: Any) -> ModelFile:
    """Build beside the reference."""
    bundle: Any = SimpleNamespace(reference=onnx_file(onnx), shape=shape)
    [form] = build(bundle, onnx.parent, BuildOptions(**options))
    return form


@pytest.fixture(scope="session")
def tiny_programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFile]:
    """Build each model once: tracing takes longer than everything else here."""
    folder = tmp_path_factory.mktemp("programs")
    return {
        "mlp": build_form(make_mlp(folder / "mlp.onnx"), MLP_SHAPE),
        "tcn": build_form(make_tcn(folder / "tcn.onnx"), TCN_SHAPE),
    }


class TestTorchOnCpu(BackendBattery):
    @pytest.fixture(autouse=True)
    def _programs(self, tiny_programs: dict[str, ModelFile]) -> None:
        self.programs = tiny_programs

    def backend(self) -> Backend:
        return TorchBackend()

    def form(self, onnx: Path, shape: ModelShape, bucket: int) -> ModelFile:
        return self.programs[onnx.stem]


class TestTorchOnGpu(TestTorchOnCpu):
    device = "gpu"
    tolerance = 1e-4
    bitwise = False

    def backend(self) -> Backend:
        why = TorchBackend().missing_on_gpu()
        if why:
            pytest.skip(why)
        return TorchBackend()


def test_zip_that_is_no_program_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    np.savez(tmp_path / "m.npz", a=np.zeros(3))
    (tmp_path / "m.npz").rename(path)
    with pytest.raises(BundleError, match="torch cannot read it"):
        TorchBackend().load(
            ModelFile(path, "torch", Precision.FP32), MLP_SHAPE, "cpu", LoadOptions()
        )


def test_half_precision_computes_within_its_tolerance(tmp_path: Path) -> None:
    onnx = make_tcn(tmp_path / "tcn.onnx")
    form = build_form(onnx, TCN_SHAPE, precision=Precision.FP16)
    model = TorchBackend().load(form, TCN_SHAPE, "cpu", LoadOptions((4,)))
    windows = random_windows(TCN_SHAPE, 4)
    assert np.abs(ask(model, windows) - reference_outputs(onnx, windows)).max() < 5e-3
    assert model.precision is Precision.FP16


def test_int8_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp32 or fp16"):
        build_form(make_mlp(tmp_path / "m.onnx"), MLP_SHAPE, precision=Precision.INT8)


def test_installed_torch_has_what_a_gpu_needs() -> None:
    """The names that only a machine with a GPU gets to call."""
    captured = inspect.signature(torch.cuda.graph.__init__).parameters
    assert {"stream", "capture_error_mode"} <= set(captured)
    assert "blocking" in inspect.signature(torch.cuda.Event.__new__).parameters
    assert callable(import_module(_PASSES).move_to_device_pass)
    assert isinstance(torch.backends.cudnn.allow_tf32, bool)


def test_a_program_moves_to_a_device_whole(tiny_programs: dict[str, ModelFile]) -> None:
    program = torch.export.load(tiny_programs["tcn"].path)
    moved = import_module(_PASSES).move_to_device_pass(program, "meta")
    assert {str(value.device) for value in moved.state_dict.values()} == {"meta"}
    assert {str(value.device) for value in moved.constants.values()} <= {"meta"}
    rows = torch.zeros(4, TCN_SHAPE.window, TCN_SHAPE.features, device="meta")
    assert tuple(moved.module().forward(rows).shape) == (4, TCN_SHAPE.outputs)
