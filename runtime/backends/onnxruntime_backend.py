"""ONNX Runtime: models on the CPU wherever HEQIS runs, and on NVIDIA GPUs through its providers.

A CPU call has its input and output bound to fixed memory beforehand, computes on the calling
thread alone and never spins: threads would fight the loop for the board's few cores. ``cpu:1`` is
the CPU once more, on a thread of its own: for a model that would keep ``cpu`` from others, or to
fall back on where there is nothing else.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

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
)
from runtime.found import ask_module, found_cuda
from runtime.prepared import Call, PreparedModel
from runtime.probe import probe_module

_MODULE: Final = "onnxruntime"
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"
_HOSTS: Final = ("cpu", "cpu:1")
_FLOAT: Final = "tensor(float)"
_SILENT: Final = 4
_STATE_ERRORS: Final = (
    "Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError", "RuntimeException",
    "InvalidProtobuf", "ModelLoaded", "NotImplemented", "InvalidGraph", "EPFail",
    "ModelLoadCanceled", "ModelRequiresCompilation", "NotFound",
)  # fmt: skip
_BAD_FILE: Final = (
    "NoSuchFile", "NoModel", "InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NotImplemented",
)  # fmt: skip


_bounded: list[int] = []
"""The bound of the process's arena, bytes; empty if it has none."""


def bound_memory(most_bytes: int) -> bool:
    """Bound what all models of this process together may compute in, on the processor.

    A model that wants more fails, and is told so by ``DeviceError``; the process lives. The library
    allows one such bound a process, so that only the first call has an effect, and only on what is
    loaded after it.

    Args:
        most_bytes: The bound.

    Returns:
        Whether this call set it.
    """
    if _bounded or not probe_module(_MODULE).present:
        return False
    runtime = import_module(_MODULE)
    kind, memory = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, runtime.OrtMemType.DEFAULT
    as_requested = 1
    arena = runtime.OrtArenaCfg({"max_mem": most_bytes, "arena_extend_strategy": as_requested})
    runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", kind, 0, memory), arena)
    _bounded.append(most_bytes)
    return True


class OnnxRuntimeBackend:
    """ONNX Runtime on ``cpu`` and ``cpu:1``, and on ``gpu`` with one of its NVIDIA providers.

    Args:
        provider: What ``gpu`` means: "cuda", or "tensorrt", which compiles the model first.
    """

    formats: tuple[str, ...] = ("onnx",)
    extra = ""

    def __init__(self, provider: str = "cuda") -> None:
        self.name = _MODULE if provider == "cuda" else f"{_MODULE}-{provider}"
        self._provider = _CUDA if provider == "cuda" else _TENSORRT

    def devices(self) -> Sequence[DeviceFact]:
        """Return the CPU, and the first GPU where driver and provider are both here."""
        facts = []
        if self._provider == _CUDA and probe_module(_MODULE).present:
            facts.append(DeviceFact("cpu", "CPU, one thread"))
        if not self._missing_on_gpu():
            facts.append(DeviceFact("gpu", found_cuda().devices[0].name))
        return facts

    def missing(self) -> str:
        """Return what is missing, "" if it can run on the CPU or, for TensorRT, on the GPU."""
        if not probe_module(_MODULE).present:
            return "onnxruntime is not installed: pip install onnxruntime"
        return "" if self._provider == _CUDA else self._missing_on_gpu()

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> PreparedModel:
        """Load an ONNX form, bind every bucket and slot, and warm up.

        Raises:
            BundleError: the file is not a model, or not of this shape.
            DeviceError: the library failed, or the device is not here.
        """
        check_form(file, self.formats)
        if device not in (*_HOSTS, *(fact.device for fact in self.devices())):
            raise DeviceError(f"{self.name} on {device}: {self._missing_on_gpu()}")
        runtime = import_module(_MODULE)
        errors = _state_errors(_STATE_ERRORS)
        session = self._session(runtime, file, device, options)
        _check(session, file, shape)
        bind = _bind_host if device in _HOSTS else partial(_bind_cuda, runtime)
        calls = {
            (bucket, slot): bind(session, bucket, shape)
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
            errors=errors,
        )
        _warm_up(model, file)
        return model

    def _session(self, runtime: Any, file: ModelFile, device: str, options: LoadOptions) -> Any:
        providers = [_CPU] if device in _HOSTS else self._gpu_providers(file, options)
        try:
            session = runtime.InferenceSession(
                str(file.path), sess_options=_session_options(runtime), providers=providers
            )
        except _state_errors(_BAD_FILE) as error:
            raise BundleError(file.path, f"ONNX Runtime cannot read it: {error}") from error
        except _state_errors(_STATE_ERRORS) as error:
            raise DeviceError(f"{self.name} on {device}: {error}") from error
        if device not in _HOSTS and self._provider not in session.get_providers():
            raise DeviceError(f"{self.name} on {device}: {self._provider} did not start")
        return session

    def _gpu_providers(self, file: ModelFile, options: LoadOptions) -> list[Any]:
        cuda = (_CUDA, {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
        if self._provider == _CUDA:
            return [cuda, _CPU]
        compiled = {"device_id": "0", "trt_fp16_enable": str(file.precision == Precision.FP16)}
        if options.cache is not None:
            Path(options.cache).mkdir(parents=True, exist_ok=True)
            compiled |= {
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(options.cache),
            }
        return [(_TENSORRT, compiled), cuda, _CPU]

    def _missing_on_gpu(self) -> str:
        cuda = found_cuda()
        if not cuda.devices:
            return cuda.problem or "no CUDA device"
        providers = ask_module(_MODULE, '",".join(m.get_available_providers())')
        if self._provider not in providers.split(","):
            return f"this onnxruntime has no {self._provider}: pip install onnxruntime-gpu"
        return ""


def _session_options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if _bounded:
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def _state_errors(names: Sequence[str]) -> tuple[type[Exception], ...]:
    """Return the library's exceptions of these names; versions differ in which they have."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = [getattr(state, name) for name in names if hasattr(state, name)]
    return (*found, RuntimeError, ValueError)


def _check(session: Any, file: ModelFile, shape: ModelShape) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    check_count(file, len(inputs), len(outputs))
    for each in (inputs[0], outputs[0]):
        if each.type != _FLOAT:
            raise BundleError(file.path, f"{each.name!r} is {each.type}, expected {_FLOAT}")
    check_input(file, inputs[0].shape, shape)
    check_output(file, outputs[0].shape, shape)


def _bind_host(session: Any, bucket: int, shape: ModelShape) -> Call:
    staging = aligned_floats(bucket, shape.window, shape.features)
    output = aligned_floats(bucket, shape.outputs)
    binding = session.io_binding()
    for bind, name, memory in (
        (binding.bind_input, session.get_inputs()[0].name, staging),
        (binding.bind_output, session.get_outputs()[0].name, output),
    ):
        bind(name, "cpu", 0, np.float32, memory.shape, memory.ctypes.data)
    return Call(staging, output, partial(session.run_with_iobinding, binding))


def _bind_cuda(runtime: Any, session: Any, bucket: int, shape: ModelShape) -> Call:
    """Bind device memory: what is bound from the host is copied once, when it is bound."""
    staging = aligned_floats(bucket, shape.window, shape.features)
    output = aligned_floats(bucket, shape.outputs)
    make = runtime.OrtValue.ortvalue_from_shape_and_type
    source = make(staging.shape, np.float32, "cuda", 0)
    answer = make(output.shape, np.float32, "cuda", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, source)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, answer)

    def compute() -> None:
        source.update_inplace(staging)
        session.run_with_iobinding(binding)
        output[...] = answer.numpy()

    return Call(staging, output, compute)


def _warm_up(model: PreparedModel, file: ModelFile) -> None:
    try:
        model.warm_up()
    except DeviceError as error:
        raise BundleError(file.path, f"it cannot be run: {error}") from error
