"""Everything in which TensorRT 8.6, 10, 11 and TensorRT for RTX differ, in one place.

========  ======================  ===========================  ==============================
version   a network is            precision comes from         INT8
========  ======================  ===========================  ==============================
8.6       explicit by a flag      builder flags                calibrator, or Q/DQ in the ONNX
10        explicit always         builder flags                Q/DQ (DLA: calibrator)
11, RTX   strongly typed always   the types in the ONNX file   Q/DQ
========  ======================  ===========================  ==============================

From 8.6 on all run the same way: ``set_tensor_address`` and ``execute_async_v3``. Which DLA there
is only ``Runtime.num_DLA_cores`` knows: its symbols are there in versions that cannot use one.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from engine.core.errors import DeviceError
from engine.core.models import Precision

_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_OLDEST: Final = (8, 6)
_FIRST_STRONGLY_TYPED: Final = 11
_FIRST_WITHOUT_EXPLICIT_FLAG: Final = 10

RUN_NAMES: Final = {
    "Runtime": ("deserialize_cuda_engine", "num_DLA_cores", "DLA_core"),
    "ICudaEngine": (
        "create_execution_context",
        "create_engine_inspector",
        "get_tensor_name",
        "get_tensor_mode",
        "get_tensor_shape",
        "get_tensor_dtype",
        "get_tensor_profile_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    ),
    "IExecutionContext": (
        "execute_async_v3",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ),
    "EngineInspector": ("get_engine_information",),
    "LayerInformationFormat": ("JSON",),
    "TensorIOMode": ("INPUT", "OUTPUT"),
    "DataType": ("FLOAT",),
    "ILogger": ("ERROR", "WARNING"),
}
"""Names that every version has to run an engine; tests look for them in installed bindings."""

BUILD_NAMES: Final = {
    "Builder": (
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ),
    "INetworkDefinition": ("get_input", "get_output", "num_inputs", "num_outputs"),
    "IBuilderConfig": (
        "add_optimization_profile",
        "clear_flag",
        "profiling_verbosity",
        "set_flag",
        "set_memory_pool_limit",
    ),
    "IOptimizationProfile": ("set_shape",),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "MemoryPoolType": ("WORKSPACE",),
    "ProfilingVerbosity": ("DETAILED",),
    "BuilderFlag": ("TF32",),
}
"""Names that every version has to build one."""


class Flavour(StrEnum):
    """The two libraries, by the name of their module."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt_rtx"


class Int8(StrEnum):
    """How a network learns its INT8 scales."""

    CALIBRATOR = "calibrator"
    QDQ = "qdq"


class Rules(NamedTuple):
    """What a version wants."""

    flavour: Flavour
    version: str
    explicit_batch: bool
    """A network needs the flag EXPLICIT_BATCH."""
    precision_flags: bool
    """FP16 and INT8 are flags of the builder; else they are types in the ONNX file."""
    calibrator: bool
    """INT8 calibrators exist."""
    calibrates_gpu: bool
    """INT8 on the GPU is calibrated too, not only on the DLA."""
    shares_profiles: bool
    """Execution contexts may share an optimisation profile; before 10 each needs its own."""
    dla: bool
    """It can have DLA cores; ask the runtime how many."""
    built_for_chips: bool
    """Engines are built ahead of time for stated chips, on a machine without any GPU too."""

    @property
    def build_names(self) -> dict[str, tuple[str, ...]]:
        """Names that this version has to have to build an engine."""
        extra: dict[str, tuple[str, ...]] = {}
        if self.precision_flags:
            extra["BuilderFlag"] = ("FP16", "INT8", "GPU_FALLBACK")
        if self.explicit_batch:
            extra["NetworkDefinitionCreationFlag"] = ("EXPLICIT_BATCH",)
        if self.calibrator:
            extra["IInt8EntropyCalibrator2"] = ("get_batch", "get_batch_size")
        if self.dla:
            extra["DeviceType"] = ("DLA",)
        if self.built_for_chips:
            extra["IBuilderConfig"] = ("num_compute_capabilities", "set_compute_capability")
        owners = BUILD_NAMES.keys() | extra.keys()
        return {owner: BUILD_NAMES.get(owner, ()) + extra.get(owner, ()) for owner in owners}


def rules_of(flavour: Flavour, version: str) -> Rules:
    """Return what a version wants; a version newer than any known is taken for the newest.

    Raises:
        DeviceError: it is older than 8.6, or no version at all.
    """
    match = _VERSION.match(version)
    if match is None:
        raise DeviceError(f"{flavour} says its version is {version!r}")
    major, minor = int(match[1]), int(match[2])
    if flavour is Flavour.RTX:
        return Rules(
            flavour, version,
            explicit_batch=False, precision_flags=False, calibrator=False, calibrates_gpu=False,
            shares_profiles=True, dla=False, built_for_chips=True,
        )  # fmt: skip
    if (major, minor) < _OLDEST:
        raise DeviceError(f"TensorRT {version} is too old; 8.6 or newer is needed")
    by_flags = major < _FIRST_STRONGLY_TYPED
    return Rules(
        flavour,
        version,
        explicit_batch=major < _FIRST_WITHOUT_EXPLICIT_FLAG,
        precision_flags=by_flags,
        calibrator=by_flags,
        calibrates_gpu=major < _FIRST_WITHOUT_EXPLICIT_FLAG,
        shares_profiles=major >= _FIRST_WITHOUT_EXPLICIT_FLAG,
        dla=True,
        built_for_chips=False,
    )


def missing_names(tensorrt: Any, names: dict[str, tuple[str, ...]]) -> list[str]:
    """Return which names a binding lacks, as ``Class.name``; makes no object of it."""
    wanted = [(owner, name) for owner, members in names.items() for name in members]
    return [
        f"{owner}.{name}"
        for owner, name in wanted
        if not hasattr(getattr(tensorrt, owner, None), name)
    ]


def int8_way(rules: Rules, *, on_dla: bool) -> Int8:
    """Return how INT8 is learned; DLA takes no Q/DQ where calibrators still exist."""
    calibrated = rules.calibrates_gpu or (rules.calibrator and on_dla)
    return Int8.CALIBRATOR if calibrated else Int8.QDQ


def profile_batches(rules: Rules, buckets: tuple[int, ...], slots: int) -> tuple[int, ...]:
    """Return the batch size of each optimisation profile that an engine needs."""
    return buckets if rules.shares_profiles else buckets * slots


def profile_index(batches: Sequence[int], bucket: int, slot: int) -> int:
    """Return which profile a bucket's slot uses; -1 if there is none for the bucket."""
    found = [index for index, batch in enumerate(batches) if batch == bucket]
    return found[slot % len(found)] if found else -1


def create_network(tensorrt: Any, rules: Rules, builder: Any) -> Any:
    """Make an empty network with the flags that this version wants."""
    flags = 0
    if rules.explicit_batch:
        flags |= 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return builder.create_network(flags)


def set_precision(tensorrt: Any, rules: Rules, config: Any, precision: Precision) -> None:
    """Allow the builder what the precision needs; never TF32, which is no fp32."""
    flag = tensorrt.BuilderFlag
    config.clear_flag(flag.TF32)
    if not rules.precision_flags:
        return
    if precision is not Precision.FP32:
        config.set_flag(flag.FP16)
    if precision is Precision.INT8:
        config.set_flag(flag.INT8)


def set_dla(tensorrt: Any, config: Any, core: int) -> None:
    """Put every layer that can on a DLA core, the others on the GPU."""
    config.default_device_type = tensorrt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(tensorrt.BuilderFlag.GPU_FALLBACK)


def set_chips(tensorrt: Any, config: Any, sms: Sequence[int]) -> None:
    """Choose which chips TensorRT for RTX builds for.

    Args:
        tensorrt: The module.
        config: The builder's configuration.
        sms: Compute capabilities times ten.

    Raises:
        DeviceError: it cannot build for one of them.
    """
    known = tensorrt.ComputeCapability
    config.num_compute_capabilities = len(sms)
    for index, sm in enumerate(sms):
        chip = getattr(known, f"SM{sm}", None)
        if chip is None:
            able = ", ".join(chips_of(tensorrt))
            raise DeviceError(f"TensorRT for RTX cannot build for SM{sm}, only for {able}")
        config.set_compute_capability(chip, index)


def chips_of(tensorrt: Any) -> list[str]:
    """Return the chips that TensorRT for RTX can build for, ``SM86`` and so on."""
    members: Iterable[str] = getattr(tensorrt.ComputeCapability, "__members__", ())
    return sorted(name for name in members if name.startswith("SM"))


def scratch_bytes(engine: Any) -> int:
    """Return what one execution context of an engine takes of the device's memory."""
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def make_calibrator(tensorrt: Any, batches: Any) -> Any:
    """Make the calibrator of 8.6 and 10 (on DLA the only kind there is: entropy, the second).

    Args:
        tensorrt: The module.
        batches: A ``CalibrationBatches``; one batch at a time is in the device's memory.
    """

    class Calibrator(tensorrt.IInt8EntropyCalibrator2):  # type: ignore[misc] # made at run time
        def __init__(self) -> None:
            super().__init__()

        def get_batch_size(self) -> int:
            return int(batches.size)

        def get_batch(self, _names: list[str]) -> list[int] | None:
            address = batches.next_address()
            return None if address is None else [address]

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, _cache: object) -> None:
            return None

    return Calibrator()
