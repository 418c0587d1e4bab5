"""OpenVINO: models on x86 and Arm CPUs, one thread each, compiled for every batch size.

A request whose tensors were set beforehand is computed on the calling thread; OpenVINO's queues of
asynchronous requests cost several times a small model.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, LoadOptions, ModelFile, ModelShape, Precision
from runtime.forms import (
    aligned_floats,
    check_count,
    check_form,
    check_input,
    check_output,
    footprint_bytes,
    serving_buckets,
    weights_beside,
)
from runtime.prepared import Call, PreparedModel
from runtime.probe import probe_module

_MODULE: Final = "openvino"
_PLUGIN: Final = "CPU"
_HINT_OF: Final = {Precision.FP32: "f32", Precision.FP16: "f16", Precision.INT8: "f32"}


class OpenVinoBackend:
    """OpenVINO on ``cpu``; reads its own form and plain ONNX."""

    name = "openvino"
    formats: tuple[str, ...] = ("openvino", "onnx")
    extra = "openvino"

    def devices(self) -> Sequence[DeviceFact]:
        """Return the CPU where the library is installed."""
        return () if self.missing() else (DeviceFact("cpu", "CPU, one thread"),)

    def missing(self) -> str:
        """Return what is missing, "" if nothing."""
        if probe_module(_MODULE).present:
            return ""
        return "openvino is not installed: pip install 'heqis[openvino]'"

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Read a form, compile it once a bucket, set every slot's tensors, and warm up.

        Raises:
            BundleError: the file is not a model, or not of this shape.
            DeviceError: the library failed, or the device is not here.
        """
        check_form(file, self.formats)
        if device not in {fact.device for fact in self.devices()}:
            raise DeviceError(f"{self.name} on {device}: {self.missing() or 'no such device'}")
        openvino = import_module(_MODULE)
        core = openvino.Core()
        model = _read(core, file)
        _check(openvino, model, file, shape)
        calls: dict[tuple[int, int], Call] = {}
        for bucket in serving_buckets(file, options):
            compiled = _compile(core, model, file, shape, bucket)
            for slot in range(options.slots):
                calls[bucket, slot] = _set_tensors(openvino, compiled, shape, bucket)
        buffers = [each for call in calls.values() for each in call[:2]]
        prepared = PreparedModel(
            backend=self.name,
            device=device,
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=footprint_bytes(file, *buffers),
            errors=(RuntimeError,),
        )
        prepared.warm_up()
        return prepared


def _read(core: Any, file: ModelFile) -> Any:
    if file.format == "openvino" and not weights_beside(file.path).exists():
        raise BundleError(file.path, f"its weights {weights_beside(file.path).name} are missing")
    try:
        return core.read_model(str(file.path))
    except RuntimeError as error:
        raise BundleError(file.path, f"OpenVINO cannot read it: {_first_line(error)}") from error


def _check(openvino: Any, model: Any, file: ModelFile, shape: ModelShape) -> None:
    check_count(file, len(model.inputs), len(model.outputs))
    source, answer = model.inputs[0], model.outputs[0]
    for each in (source, answer):
        if each.element_type != openvino.Type.f32:
            kind = each.element_type.get_type_name()
            raise BundleError(file.path, f"{each.any_name!r} is {kind}, expected f32")
    check_input(file, _dims(source.partial_shape), shape)
    check_output(file, _dims(answer.partial_shape), shape)


def _compile(core: Any, model: Any, file: ModelFile, shape: ModelShape, bucket: int) -> Any:
    """Compile for one batch size: fixed shapes are faster than a dynamic one."""
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINT_OF[file.precision],
        "ENABLE_CPU_PINNING": False,
    }
    try:
        fixed = model.clone()
        fixed.reshape([bucket, shape.window, shape.features])
        check_output(file._replace(batch=bucket), _dims(fixed.outputs[0].partial_shape), shape)
        return core.compile_model(fixed, _PLUGIN, settings)
    except RuntimeError as error:
        raise BundleError(file.path, f"OpenVINO cannot compile it: {_first_line(error)}") from error


def _set_tensors(openvino: Any, compiled: Any, shape: ModelShape, bucket: int) -> Call:
    staging = aligned_floats(bucket, shape.window, shape.features)
    output = aligned_floats(bucket, shape.outputs)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(staging, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(output, shared_memory=True))
    return Call(staging, output, partial(request.infer))


def _dims(partial_shape: Any) -> list[object]:
    return ["?" if dim.is_dynamic else dim.get_length() for dim in partial_shape]


def _first_line(error: RuntimeError) -> str:
    """Return the last line that says something; those above name OpenVINO's own sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from")]
    return told[0] if told else str(error)
