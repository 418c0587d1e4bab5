"""A stand-in for TensorRT's Python module, for tests on machines without a GPU.

It has the names HEQIS uses and refuses what the version it plays (``STANDIN_TENSORRT``) refuses:
networks without the explicit flag, precision flags that are gone, fixed shapes on a DLA, a profile
used twice. It computes with ONNX Runtime, where the stand-in driver's streams tell it to.
``STANDIN_DLA`` is the number of DLA cores; ``STANDIN_DLA_TAKES=0`` makes them take no layer.
"""

import ctypes
import json
import os
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf

__version__ = os.environ.get("STANDIN_TENSORRT", "10.3.0")
_MAJOR = int(__version__.partition(".")[0])
_MAGIC = b"STANDIN-PLAN"
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


_loggers: list[object] = []


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, text: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, severity: int = ILogger.WARNING) -> None:
        self.severity = severity

    def log(self, severity: int, text: str) -> None:
        pass


class DataType(Enum):
    FLOAT = 0


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DeviceType(Enum):
    GPU = 0
    DLA = 1


class MemoryPoolType(Enum):
    WORKSPACE = 0


class ProfilingVerbosity(Enum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class LayerInformationFormat(Enum):
    ONELINE = 0
    JSON = 1


if _MAJOR < 11:

    class BuilderFlag(IntEnum):
        TF32 = 0
        GPU_FALLBACK = 1
        FP16 = 2
        INT8 = 3

else:

    class BuilderFlag(IntEnum):  # type: ignore[no-redef] # the other version's
        TF32 = 0
        GPU_FALLBACK = 1


if _MAJOR < 10:

    class NetworkDefinitionCreationFlag(IntEnum):
        EXPLICIT_BATCH = 0


if _MAJOR < 11:

    class IInt8EntropyCalibrator2:
        pass


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.shape = shape


class INetworkDefinition:
    def __init__(self) -> None:
        self.onnx = b""
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.operators: list[str] = []
        self.half = False

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self.network = network
        self.errors: list[str] = []

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> str:
        return self.errors[index]

    def parse(self, content: bytes) -> bool:
        import onnx

        try:
            session = onnxruntime.InferenceSession(content)
            graph = onnx.load_from_string(content).graph
        except InvalidProtobuf as error:
            self.errors.append(str(error))
            return False
        self.network.onnx = content
        self.network.operators = [node.op_type for node in graph.node]
        self.network.half = any(each.data_type in {3, 10} for each in graph.initializer)
        for found, tensors in (
            (session.get_inputs(), self.network.inputs),
            (session.get_outputs(), self.network.outputs),
        ):
            for each in found:
                dims = (dim if isinstance(dim, int) else -1 for dim in each.shape)
                tensors.append(Tensor(each.name, tuple(dims)))
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes = [tuple(shape) for shape in shapes]


class IBuilderConfig:
    def __init__(self) -> None:
        self.flags: set[Any] = set()
        self.profiles: list[IOptimizationProfile] = []
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.default_device_type = DeviceType.GPU
        self.DLA_core = -1
        self.int8_calibrator: Any = None
        self.calibration_profile: IOptimizationProfile | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert size > 0

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        self.calibration_profile = profile
        return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        register(logger)
        self.logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        wanted = 1 if _MAJOR < 10 else 0
        assert flags == wanted, "a network of this version wants other flags"
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        on_dla = config.default_device_type is DeviceType.DLA
        half = network.half or any(flag.name == "FP16" for flag in config.flags)
        if on_dla and (network.inputs[0].shape[0] == -1 or not half):
            self.logger.log(ILogger.ERROR, "DLA needs fixed shapes and fp16 or int8")
            return None
        if network.inputs[0].shape[0] == -1 and not config.profiles:
            self.logger.log(ILogger.ERROR, "dynamic shapes need a profile")
            return None
        if config.int8_calibrator is not None:
            calibrate(config, network)
        header = {
            "version": __version__,
            "dla": on_dla,
            "input": [network.inputs[0].name, network.inputs[0].shape],
            "output": [network.outputs[0].name, network.outputs[0].shape],
            "profiles": [profile.shapes for profile in config.profiles],
            "operators": network.operators,
            "detailed": config.profiling_verbosity is ProfilingVerbosity.DETAILED,
            "calibrated": config.int8_calibrator is not None,
        }
        return _MAGIC + json.dumps(header).encode() + b"\n" + network.onnx


def calibrate(config: IBuilderConfig, network: INetworkDefinition) -> None:
    calibrator = config.int8_calibrator
    assert calibrator.read_calibration_cache() is None
    dims = (calibrator.get_batch_size(), *network.inputs[0].shape[1:])
    if network.inputs[0].shape[0] == -1:
        assert config.calibration_profile is not None
    batches = 0
    while addresses := calibrator.get_batch([network.inputs[0].name]):
        assert np.isfinite(floats_at(addresses[0], dims)).all()
        batches += 1
    assert batches, "no calibration batch came"
    calibrator.write_calibration_cache(b"cache")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        register(logger)
        self.logger = logger
        self.num_DLA_cores = int(os.environ.get("STANDIN_DLA", "0"))
        self.DLA_core = -1

    def deserialize_cuda_engine(self, plan: bytes) -> "ICudaEngine | None":
        head, _line, onnx = plan.removeprefix(_MAGIC).partition(b"\n")
        if not plan.startswith(_MAGIC) or not onnx:
            self.logger.log(ILogger.ERROR, "magic tag does not match")
            return None
        try:
            header = json.loads(head)
            session = onnxruntime.InferenceSession(onnx)
        except (ValueError, InvalidProtobuf):
            self.logger.log(ILogger.ERROR, "the plan is damaged")
            return None
        if header["version"] != __version__ or (header["dla"] and self.DLA_core < 0):
            self.logger.log(ILogger.ERROR, "the plan is of another version or device")
            return None
        return ICudaEngine(header, session)


class ICudaEngine:
    def __init__(self, header: dict[str, Any], session: Any) -> None:
        self.header = header
        self.session = session
        self.taken: set[int] = set()
        self.num_io_tensors = 2
        self.num_optimization_profiles = len(header["profiles"])
        setattr(self, "device_memory_size" if _MAJOR < 10 else "device_memory_size_v2", 4096)

    def get_tensor_name(self, index: int) -> str:
        return str(self.header["output" if index else "input"][0])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        given = name == self.header["input"][0]
        return TensorIOMode.INPUT if given else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        side = "input" if name == self.header["input"][0] else "output"
        return tuple(self.header[side][1])

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.header["profiles"][index]]

    def create_execution_context(self) -> "IExecutionContext":
        return IExecutionContext(self)

    def create_engine_inspector(self) -> "EngineInspector":
        return EngineInspector(self)


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self.header = engine.header

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        takes = self.header["dla"] and os.environ.get("STANDIN_DLA_TAKES", "1") != "0"
        layers: list[Any] = [{"Name": "window to nvm", "LayerType": "Reformat"}]
        for kind in self.header["operators"]:
            on_dla = takes and kind in {"Conv", "Gemm", "Relu", "Add"}
            layers.append({"Name": kind, "LayerType": "DLA" if on_dla else kind})
        if not self.header["detailed"]:
            layers = [layer["Name"] for layer in layers]
        return json.dumps({"Layers": layers, "Bindings": []})


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        static = engine.header["input"][1]
        self.dims = tuple(static) if static[0] != -1 else ()
        self.profile = -1
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.callback = _CALLBACK(self._compute)

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        taken = _MAJOR < 10 and index in self.engine.taken
        if taken or not 0 <= index < self.engine.num_optimization_profiles:
            return False
        self.engine.taken.add(index)
        self.profile = index
        return True

    def set_input_shape(self, name: str, dims: tuple[int, ...]) -> bool:
        if self.profile < 0:
            return False
        least, _best, largest = self.engine.get_tensor_profile_shape(name, self.profile)
        self.dims = tuple(dims)
        return tuple(least) <= self.dims <= tuple(largest)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        if len(self.addresses) != 2 or not self.dims:
            return False
        enqueue = self.driver.standin_enqueue
        return bool(enqueue(ctypes.c_void_p(stream), self.callback, None) == 0)

    def _compute(self, _with: object) -> None:
        header = self.engine.header
        source, target = header["input"][0], header["output"][0]
        given = floats_at(self.addresses[source], self.dims).copy()
        answer = self.engine.session.run(None, {source: given})[0]
        floats_at(self.addresses[target], answer.shape)[...] = answer


def register(logger: ILogger) -> None:
    """Keep the first logger, as the library does; another one is a mistake of ours."""
    assert logger in _loggers or not _loggers, "a second logger would be ignored"
    _loggers[:] = [logger]


def floats_at(address: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_float * count))
    return np.ctypeslib.as_array(pointer.contents).reshape(shape)
