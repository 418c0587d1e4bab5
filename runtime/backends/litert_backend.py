"""LiteRT, formerly TensorFlow Lite: the lightest way to run a small model on a CPU.

A form has a fixed batch, since XNNPACK refuses to resize one; every slot has an interpreter of its
own, on the calling thread. Tensors inside an interpreter may move between calls, so rows are copied
in and out, which costs about a microsecond.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, Floats, LoadOptions, ModelFile, ModelShape
from runtime.forms import (
    aligned_floats,
    check_count,
    check_form,
    check_input,
    check_output,
    footprint_bytes,
)
from runtime.prepared import Call, PreparedModel
from runtime.probe import probe_module

_MODULE: Final = "ai_edge_litert"
_ERRORS: Final = (RuntimeError, ValueError)


class LiteRtBackend:
    """LiteRT on ``cpu``."""

    name = "litert"
    formats: tuple[str, ...] = ("litert",)
    extra = "litert"

    def devices(self) -> Sequence[DeviceFact]:
        """Return the CPU where the library is installed."""
        return () if self.missing() else (DeviceFact("cpu", "CPU, one thread"),)

    def missing(self) -> str:
        """Return what is missing, "" if nothing."""
        if probe_module(_MODULE).present:
            return ""
        return "ai-edge-litert is not installed: pip install 'heqis[litert]'"

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Make an interpreter a slot and warm it up; the only bucket is the form's batch.

        Raises:
            BundleError: the file is not a model, or not of this shape and batch.
            DeviceError: the library failed, or the device is not here.
        """
        check_form(file, self.formats)
        if device not in {fact.device for fact in self.devices()}:
            raise DeviceError(f"{self.name} on {device}: {self.missing() or 'no such device'}")
        if not file.batch:
            raise BundleError(file.path, "a LiteRT form has a fixed batch; the manifest says none")
        make = import_module(f"{_MODULE}.interpreter").Interpreter
        calls = {
            (file.batch, slot): _prepare(_open(make, file), file, shape)
            for slot in range(options.slots)
        }
        buffers = [each for call in calls.values() for each in call[:2]]
        model = PreparedModel(
            backend=self.name,
            device=device,
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=options.slots * footprint_bytes(file) + footprint_bytes(file, *buffers),
            errors=_ERRORS,
        )
        model.warm_up()
        return model


def _open(make: Any, file: ModelFile) -> Any:
    try:
        interpreter = make(model_path=str(file.path), num_threads=1)
        interpreter.allocate_tensors()
    except _ERRORS as error:
        raise BundleError(file.path, f"LiteRT cannot read it: {error}") from error
    return interpreter


def _prepare(interpreter: Any, file: ModelFile, shape: ModelShape) -> Call:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    check_count(file, len(inputs), len(outputs))
    for each in (inputs[0], outputs[0]):
        if each["dtype"] != np.float32:
            kind = np.dtype(each["dtype"]).name
            raise BundleError(file.path, f"{each['name']!r} is {kind}, expected float32")
    check_input(file, inputs[0]["shape"].tolist(), shape)
    check_output(file, outputs[0]["shape"].tolist(), shape)
    staging = aligned_floats(file.batch, shape.window, shape.features)
    output = aligned_floats(file.batch, shape.outputs)
    ends = (inputs[0]["index"], outputs[0]["index"])
    return Call(staging, output, partial(_compute, interpreter, ends, staging, output))


def _compute(interpreter: Any, ends: tuple[int, int], staging: Floats, output: Floats) -> None:
    interpreter.set_tensor(ends[0], staging)
    interpreter.invoke()
    output[...] = interpreter.get_tensor(ends[1])
