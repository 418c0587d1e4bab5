"""The NPU as rknn-toolkit2 simulates it on a PC: a backend for tests, so that parity is tested."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from engine.core.errors import BundleError, DeviceError
from engine.core.models import (
    DeviceFact,
    Floats,
    LoadOptions,
    ModelFile,
    ModelShape,
    Precision,
)
from runtime.forms import aligned_floats, check_form, footprint_bytes
from runtime.prepared import Call, PreparedModel
from runtime.rknn_toolkit import Toolkit, toolkit_python


@cache
def shared_toolkit() -> Toolkit:
    """One child for all tests of a process: starting it takes four seconds."""
    return Toolkit(toolkit_python())


def skip_without_toolkit() -> Toolkit:
    if not toolkit_python().exists():
        pytest.skip("no rknn-toolkit2; heqis model build --target rk3568 makes its environment")
    return shared_toolkit()


class RknnSimulatorBackend:
    """Converts an ONNX model for the RK3568 at every load and runs it on the simulator.

    Args:
        calibration: Shape (N, W, F) for INT8 forms.
    """

    name = "rknn-simulator"
    formats: tuple[str, ...] = ("onnx",)
    extra = ""

    def __init__(self, calibration: Floats | None = None) -> None:
        self._calibration = calibration

    def devices(self) -> Sequence[DeviceFact]:
        return (DeviceFact("npu", "RK3568 NPU, simulated"),)

    def missing(self) -> str:
        return ""

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        check_form(file, self.formats)
        if device != "npu":
            raise DeviceError(f"{self.name} runs on npu, not on {device}")
        toolkit = skip_without_toolkit()
        calibration = self._calibration if file.precision is Precision.INT8 else None
        number = toolkit.open(file.path, shape, calibration=calibration)
        calls = {(1, slot): make_call(toolkit, number, shape) for slot in range(options.slots)}
        found = toolkit.run(number, calls[1, 0].staging).shape
        if found != (1, shape.outputs):
            raise BundleError(file.path, f"its output has shape {found}, not (1, {shape.outputs})")
        buffers = [buffer for call in calls.values() for buffer in call[:2]]
        return PreparedModel(
            backend=self.name,
            device=device,
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=footprint_bytes(file, *buffers),
            errors=(),
            release=lambda: toolkit.release(number),
        )


def make_call(toolkit: Toolkit, number: int, shape: ModelShape) -> Call:
    staging = aligned_floats(1, shape.window, shape.features)
    output = aligned_floats(1, shape.outputs)

    def compute() -> None:
        output[:] = toolkit.run(number, staging)

    return Call(staging, output, compute)


def relative_rmse(outputs: Floats, expected: Floats) -> float:
    """Return the root mean square error relative to the expected outputs'."""
    error = np.sqrt(np.mean(np.square(outputs - expected)))
    return float(error / np.sqrt(np.mean(np.square(expected))))
