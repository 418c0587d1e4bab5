"""PyTorch exported programs: on an NVIDIA GPU without TensorRT, and on the CPU to compare with.

Loading one for the CPU sets torch to one thread in the whole process. An exported program is no
archive to take from strangers; its hash stands in the bundle's manifest.
"""

import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, LoadOptions, ModelFile, ModelShape
from runtime.backends.torch_cuda import prepare_graph
from runtime.forms import (
    aligned_floats,
    check_count,
    check_form,
    check_input,
    check_output,
    footprint_bytes,
    serving_buckets,
)
from runtime.found import ask_module, found_cuda
from runtime.prepared import Call, PreparedModel
from runtime.probe import probe_module

_MODULE: Final = "torch"
_PASSES: Final = "torch.export.passes"
_LOAD_ERRORS: Final = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError)


class TorchBackend:
    """PyTorch on ``gpu``, with a CUDA graph a bucket and slot, and on ``cpu``."""

    name = "torch"
    formats: tuple[str, ...] = ("torch",)
    extra = "train"

    def devices(self) -> Sequence[DeviceFact]:
        """Return the first GPU where torch finds one, and the CPU, if torch is installed."""
        if self.missing():
            return ()
        cpu = DeviceFact("cpu", "CPU, one thread")
        if self.missing_on_gpu():
            return (cpu,)
        return (DeviceFact("gpu", found_cuda().devices[0].name), cpu)

    def missing(self) -> str:
        """Return what is missing, "" if nothing."""
        if probe_module(_MODULE).present:
            return ""
        return "torch is not installed: pip install 'heqis[train]'"

    def missing_on_gpu(self) -> str:
        """Return why there is no ``gpu``, "" if there is."""
        cuda = found_cuda()
        if not cuda.devices:
            return cuda.problem or "no CUDA device"
        works = ask_module(_MODULE, "m.cuda.is_available()") == "True"
        return "" if works else "this torch has no CUDA, or another than the driver's"

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Load an exported program, prepare every bucket and slot, and warm up.

        Raises:
            BundleError: the file is no exported program, or not of this shape.
            DeviceError: the library failed, or the device is not here.
        """
        check_form(file, self.formats)
        if device not in {fact.device for fact in self.devices()}:
            why = self.missing() or (self.missing_on_gpu() if device == "gpu" else "no such device")
            raise DeviceError(f"{self.name} on {device}: {why}")
        torch = import_module(_MODULE)
        program = _open(torch, file)
        _check(torch, program, file, shape)
        prepare = _prepare_host if device == "cpu" else prepare_graph
        try:
            forward = _forward(torch, program, device)
            calls = {
                (bucket, slot): prepare(torch, forward, shape, bucket)
                for bucket in serving_buckets(file, options)
                for slot in range(options.slots)
            }
        except RuntimeError as error:
            raise DeviceError(f"{self.name} on {device}: {error}") from error
        buffers = [each for call in calls.values() for each in call[:2]]
        model = PreparedModel(
            backend=self.name,
            device=device,
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=footprint_bytes(file, *buffers),
            errors=(RuntimeError,),
        )
        model.graphs = len(calls) if device == "gpu" else 0
        model.warm_up()
        return model


def _open(torch: Any, file: ModelFile) -> Any:
    if not zipfile.is_zipfile(file.path):
        raise BundleError(file.path, "it is no exported program: no whole zip archive")
    try:
        return torch.export.load(file.path)
    except _LOAD_ERRORS as error:
        raise BundleError(file.path, f"torch cannot read it: {error}") from error


def _check(torch: Any, program: Any, file: ModelFile, shape: ModelShape) -> None:
    signature = program.graph_signature
    check_count(file, len(signature.user_inputs), len(signature.user_outputs))
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    source, answer = values[signature.user_inputs[0]], values[signature.user_outputs[0]]
    for what, value in (("input", source), ("output", answer)):
        if getattr(value, "dtype", None) != torch.float32:
            raise BundleError(file.path, f"its {what} is {value!r}, expected a float32 tensor")
    check_input(file, tuple(source.shape), shape)
    check_output(file, tuple(answer.shape), shape)


def _forward(torch: Any, program: Any, device: str) -> Callable[[Any], Any]:
    """Return what computes a batch, without the checks that cost as much as a small model."""
    if device == "cpu":
        torch.set_num_threads(1)
    else:
        # Convolutions in TF32, torch's default, are off by more than an fp32 form may be.
        torch.backends.cudnn.allow_tf32 = False
        program = import_module(_PASSES).move_to_device_pass(program, "cuda:0")
    try:
        module = program.module(check_guards=False)
    except TypeError:
        module = program.module()
    forward: Callable[[Any], Any] = module.forward
    return forward


def _prepare_host(
    torch: Any, forward: Callable[[Any], Any], shape: ModelShape, bucket: int
) -> Call:
    staging = aligned_floats(bucket, shape.window, shape.features)
    output = aligned_floats(bucket, shape.outputs)
    source, target = torch.from_numpy(staging), torch.from_numpy(output)
    return Call(staging, output, partial(_compute, torch, forward, source, target))


def _compute(torch: Any, forward: Callable[[Any], Any], source: Any, target: Any) -> None:
    with torch.inference_mode():
        target.copy_(forward(source))
