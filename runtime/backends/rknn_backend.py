"""Rockchip's NPU through ``rknnlite``, on the board.

The library answers what went wrong with -1 or None and a line in its log, so every answer is
looked at. One window at a time: larger batches were reported to be slower there. The RK3568 has one
core, which one thread owns.
"""

import importlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, Floats, LoadOptions, ModelFile, ModelShape, Precision
from runtime.forms import aligned_floats, check_form, footprint_bytes
from runtime.prepared import Call, PreparedModel
from runtime.probe import NpuProbe, probe_npu

_MAGIC: Final = b"RKNN"
_OK: Final = 0
_ERRORS: Final = (RuntimeError, ValueError, TypeError, OSError)
"""What the library raises where it does not answer -1."""


class RknnBackend:
    """Runs ``.rknn`` forms on ``npu``. Making one imports and asks nothing."""

    name = "rknn"
    formats: tuple[str, ...] = ("rknn",)
    extra = "rk3568"

    def devices(self) -> Sequence[DeviceFact]:
        """Return the NPU if its driver and ``rknnlite`` are here."""
        return () if self.missing() else (DeviceFact("npu", f"Rockchip {self._npu.soc} NPU"),)

    def missing(self) -> str:
        """Return what is missing for it to run here and how to get it, "" if nothing."""
        npu = self._npu
        if npu.soc is None:
            return "no Rockchip chip"
        if npu.driver is None:
            return f"{npu.soc}: no NPU driver; use a kernel with RKNPU"
        how = "pip install 'heqis[rk3568]', on Python 3.12 at most"
        return "" if npu.module else f"rknnlite is not installed: {how}"

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Load a form onto the NPU, and warm it up.

        Raises:
            BundleError: the form is damaged, for another chip, or of another shape.
            DeviceError: the NPU or its library failed, or is not here.
        """
        check_form(file, self.formats)
        check_file(file)
        missing = self.missing()
        if missing or device != "npu":
            raise DeviceError(missing or f"{self.name} runs on npu, not on {device}")
        library = importlib.import_module("rknnlite.api")
        return load_model(library.RKNNLite(), file, shape, options)

    @cached_property
    def _npu(self) -> NpuProbe:
        return probe_npu()


def check_file(file: ModelFile) -> None:
    """Refuse what is no ``.rknn`` file for one window at a time in fp16 or INT8.

    Raises:
        BundleError: it is not.
    """
    try:
        with file.path.open("rb") as stream:
            head = stream.read(len(_MAGIC))
    except OSError as error:
        raise BundleError(file.path, f"it cannot be read: {error.strerror}") from error
    if head != _MAGIC:
        raise BundleError(file.path, "it is no RKNN model; build it again")
    if file.batch != 1 or file.precision is Precision.FP32:
        expected = "RKNN forms have batch 1 and are fp16 or int8"
        raise BundleError(file.path, f"batch {file.batch}, {file.precision}: {expected}")


def load_model(
    library: Any, file: ModelFile, shape: ModelShape, options: LoadOptions
) -> PreparedModel:
    """Load a file into an ``RKNNLite``, and look at every answer.

    Raises:
        BundleError: the library does not take the file, or the model has another shape.
        DeviceError: the NPU's runtime did not start or compute.
    """
    try:
        _start(library, file)
        calls = {(1, slot): _call(library, file, shape) for slot in range(options.slots)}
        buffers = [buffer for call in calls.values() for buffer in call[:2]]
        model = PreparedModel(
            backend=RknnBackend.name,
            device="npu",
            precision=file.precision,
            shape=shape,
            calls=calls,
            memory_bytes=footprint_bytes(file, *buffers),
            errors=_ERRORS,
            release=library.release,
        )
        model.warm_up()
    except BaseException:
        library.release()
        raise
    return model


def _start(library: Any, file: ModelFile) -> None:
    try:
        loaded = library.load_rknn(str(file.path))
        started = library.init_runtime() if loaded == _OK else None
    except _ERRORS as error:
        raise DeviceError(f"rknnlite failed: {error}") from error
    if loaded != _OK:
        raise BundleError(file.path, f"rknnlite did not take it (load_rknn answered {loaded})")
    if started != _OK:
        raise DeviceError(f"the NPU's runtime did not start (init_runtime answered {started})")


def _call(library: Any, file: ModelFile, shape: ModelShape) -> Call:
    staging = aligned_floats(1, shape.window, shape.features)
    output = aligned_floats(1, shape.outputs)

    def compute() -> None:
        answers = library.inference(inputs=[staging])
        if not answers:
            raise DeviceError("the NPU answered nothing")
        output[:] = _only_row(answers, file, shape)

    return Call(staging, output, compute)


def _only_row(answers: Sequence[Any], file: ModelFile, shape: ModelShape) -> Floats:
    found = np.asarray(answers[0], dtype=np.float32)
    if len(answers) != 1 or found.size != shape.outputs:
        problem = f"it gave {len(answers)} outputs, the first of shape {found.shape}"
        raise BundleError(file.path, f"{problem}, expected one of (1, {shape.outputs})")
    return found.reshape(1, shape.outputs)
