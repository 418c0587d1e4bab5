"""ncnn: models on small Arm CPUs, and on x86; one row at a time, one thread.

A form is a ``.param`` text with its weights in a ``.bin`` beside it. ncnn itself accepts inputs of
another shape than the model was made for and answers something, so a form must state its input's
shape in its ``Input`` line, as the builder writes it, and that is checked here.
"""

import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, Floats, LoadOptions, ModelFile, ModelShape, Precision
from runtime.forms import (
    aligned_floats,
    check_form,
    footprint_bytes,
    serving_buckets,
    weights_beside,
)
from runtime.prepared import Call, PreparedModel
from runtime.probe import probe_module

_MODULE: Final = "ncnn"
_MAGIC: Final = "7767517"
_INPUT: Final = re.compile(r"^Input\s+\S+\s+0 1 \S+\s+0=(\d+) 1=(\d+)\s*$", re.MULTILINE)
_MAX_PARAM_BYTES: Final = 16 << 20


class NcnnBackend:
    """ncnn on ``cpu``."""

    name = "ncnn"
    formats: tuple[str, ...] = ("ncnn",)
    extra = "ncnn"

    def devices(self) -> Sequence[DeviceFact]:
        """Return the CPU where the library is installed."""
        return () if self.missing() else (DeviceFact("cpu", "CPU, one thread"),)

    def missing(self) -> str:
        """Return what is missing, "" if nothing."""
        if probe_module(_MODULE).present:
            return ""
        return "ncnn is not installed: pip install 'heqis[ncnn]'"

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Load a network, name every row of every slot to it, and warm up.

        Raises:
            BundleError: the file is not a model, or not of this shape.
            DeviceError: the library failed, or the device is not here.
        """
        check_form(file, self.formats)
        if device not in {fact.device for fact in self.devices()}:
            raise DeviceError(f"{self.name} on {device}: {self.missing() or 'no such device'}")
        _check_param(file, shape)
        ncnn = import_module(_MODULE)
        net = _open(ncnn, file)
        _check_answer(ncnn, net, file, shape)
        calls = {
            (bucket, slot): _prepare(ncnn, net, shape, bucket)
            for bucket in serving_buckets(file, options)
            for slot in range(options.slots)
        }
        buffers = [each for call in calls.values() for each in call[:2]]
        model = PreparedModel(
            backend=self.name,
            device=device,
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=footprint_bytes(file, *buffers),
            errors=(RuntimeError, ValueError),
        )
        model.warm_up()
        return model


def _check_param(file: ModelFile, shape: ModelShape) -> None:
    """Read the text before ncnn does, which trusts it."""
    if file.path.stat().st_size > _MAX_PARAM_BYTES:
        raise BundleError(file.path, f"it is larger than {_MAX_PARAM_BYTES} bytes")
    lines = file.path.read_text(encoding="utf-8", errors="replace").splitlines()
    counts = lines[1].split() if len(lines) > 1 else []
    layers = [line for line in lines[2:] if line.strip()]
    if not lines or lines[0].strip() != _MAGIC or len(counts) != 2:
        raise BundleError(file.path, f"it is no ncnn network: it does not begin with {_MAGIC}")
    if counts[0] != str(len(layers)):
        raise BundleError(file.path, f"it states {counts[0]} layers and has {len(layers)}")
    found = _INPUT.findall("\n".join(layers))
    if len(found) != 1:
        problem = "its one Input must state its shape as `0=features 1=window`; build it with HEQIS"
        raise BundleError(file.path, problem)
    features, window = map(int, found[0])
    if (window, features) != (shape.window, shape.features):
        expected = f"({shape.window}, {shape.features})"
        raise BundleError(file.path, f"its input is ({window}, {features}), expected {expected}")


def _open(ncnn: Any, file: ModelFile) -> Any:
    net = ncnn.Net()
    half = file.precision is Precision.FP16
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    net.opt.use_bf16_storage = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    weights = weights_beside(file.path)
    if not weights.exists():
        raise BundleError(file.path, f"its weights {weights.name} are missing")
    if net.load_param(str(file.path)):
        raise BundleError(file.path, "ncnn cannot read it; it may need a newer ncnn")
    if net.load_model(str(weights)):
        raise BundleError(weights, "ncnn cannot read the weights: too short, or of another form")
    ends = len(net.input_indexes()), len(net.output_indexes())
    if ends != (1, 1):
        raise BundleError(file.path, f"it has {ends[0]} inputs and {ends[1]} outputs, not one each")
    return net


def _check_answer(ncnn: Any, net: Any, file: ModelFile, shape: ModelShape) -> None:
    """Ask once: nothing in the text states the shape of the answer."""
    row = ncnn.Mat(aligned_floats(shape.window, shape.features))
    extractor = net.create_extractor()
    extractor.input(net.input_indexes()[0], row)
    status, answer = extractor.extract(net.output_indexes()[0])
    if status:
        raise BundleError(file.path, f"it cannot be run: ncnn answered {status}")
    if (answer.dims, answer.w) != (1, shape.outputs):
        found = ", ".join(str(side) for side in (answer.h, answer.w)[-answer.dims :])
        raise BundleError(file.path, f"its output has shape ({found}), expected ({shape.outputs})")


def _prepare(ncnn: Any, net: Any, shape: ModelShape, bucket: int) -> Call:
    staging = aligned_floats(bucket, shape.window, shape.features)
    output = aligned_floats(bucket, shape.outputs)
    rows = [ncnn.Mat(row) for row in staging]
    ends = (net.input_indexes()[0], net.output_indexes()[0])
    return Call(staging, output, partial(_compute, net, ends, rows, output))


def _compute(net: Any, ends: tuple[int, int], rows: Sequence[Any], output: Floats) -> None:
    source, target = ends
    for position, row in enumerate(rows):
        extractor = net.create_extractor()
        extractor.input(source, row)
        status, answer = extractor.extract(target)
        if status:
            raise RuntimeError(f"row {position}: ncnn answered {status}")
        output[position] = answer
