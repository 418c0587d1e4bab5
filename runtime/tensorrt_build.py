"""From an ONNX file to a TensorRT engine: parse, check, choose, build.

An engine for several batch sizes has an optimisation profile for each; one for a single size has
that fixed shape, which is all a DLA knows. The module is handed in: this file imports no TensorRT.
"""

from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Floats, ModelShape, Precision
from runtime.cuda.interface import CudaSession, HostBuffer
from runtime.tensorrt_versions import (
    Rules,
    create_network,
    make_calibrator,
    set_chips,
    set_dla,
    set_precision,
)

WORKSPACE_BYTES: Final = 256 << 20
CALIBRATION_ROWS: Final = 8
"""Rows of one calibration batch."""
_KEPT_MESSAGES: Final = 16


class EngineRequest(NamedTuple):
    """What is to be built."""

    onnx: Path
    shape: ModelShape
    buckets: tuple[int, ...]
    """Batch sizes; exactly one for a DLA."""
    precision: Precision
    dla_core: int | None = None
    chips: tuple[int, ...] = ()
    """For TensorRT for RTX: compute capabilities times ten, none for the GPU that is here."""
    calibration: Floats | None = None
    """Shape (N, W, F), for an INT8 that is calibrated; none where the file has Q/DQ nodes."""


class Messages:
    """What TensorRT said of late; its errors tell more than the calls that failed."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=_KEPT_MESSAGES)

    def add(self, text: str) -> None:
        """Keep a message; called from TensorRT's own threads too."""
        self._kept.append(text.strip())

    def take(self) -> str:
        """Return what was said since the last call, as one line."""
        said = "; ".join(dict.fromkeys(self._kept))
        self._kept.clear()
        return said or "TensorRT does not say why"


class Logger(NamedTuple):
    """What TensorRT logs to, and what it said."""

    handle: Any
    messages: Messages


@cache
def logger_of(tensorrt: Any) -> Logger:
    """Return the one logger of a library: it keeps the first it is given and ignores all others."""
    messages = Messages()
    kept = (
        tensorrt.ILogger.INTERNAL_ERROR,
        tensorrt.ILogger.ERROR,
        tensorrt.ILogger.WARNING,
    )

    class Keeper(tensorrt.ILogger):  # type: ignore[misc] # its base is known at run time only
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: object, text: str) -> None:
            if severity in kept:
                messages.add(text)

    return Logger(Keeper(), messages)


def build_engine(
    tensorrt: Any,
    rules: Rules,
    request: EngineRequest,
    *,
    session: CudaSession | None = None,
) -> bytes:
    """Build an engine; takes from a tenth of a second to minutes.

    Args:
        tensorrt: The module.
        rules: Its version's.
        request: What to build.
        session: Where calibration batches are copied; needed only for an INT8 that is calibrated.

    Raises:
        BundleError: the file does not parse, or has other inputs or outputs.
        DeviceError: TensorRT could not build it.
    """
    logger, messages = logger_of(tensorrt)
    builder = tensorrt.Builder(logger)
    if not builder:
        raise DeviceError(f"TensorRT gave no builder: {messages.take()}")
    network = create_network(tensorrt, rules, builder)
    parser = tensorrt.OnnxParser(network, logger)
    _parse(parser, request.onnx)
    dynamic = _check_network(network, request)
    config = _configure(tensorrt, rules, builder.create_builder_config(), request)
    if dynamic and len(set(request.buckets)) == 1:
        window, features, _outputs = request.shape
        network.get_input(0).shape = (request.buckets[0], window, features)
    elif dynamic:
        _add_profiles(builder, config, network.get_input(0).name, request)
    calibrator = _calibrate(tensorrt, rules, builder, config, network, request, session)
    plan = builder.build_serialized_network(network, config)
    del calibrator
    if plan is None:
        raise DeviceError(f"TensorRT could not build {request.onnx.name}: {messages.take()}")
    return bytes(plan)


def _parse(parser: Any, onnx: Path) -> None:
    try:
        content = onnx.read_bytes()
    except OSError as error:
        raise BundleError(onnx, f"it cannot be read: {error.strerror}") from error
    if parser.parse(content):
        return
    found = [str(parser.get_error(index)).strip() for index in range(parser.num_errors)]
    problem = "; ".join(found) or "it is no ONNX model"
    raise BundleError(onnx, f"TensorRT cannot parse it: {problem}")


def _check_network(network: Any, request: EngineRequest) -> bool:
    window, features, outputs = request.shape
    counts = (network.num_inputs, network.num_outputs)
    if counts != (1, 1):
        raise BundleError(request.onnx, f"found {counts} inputs and outputs, expected one of each")
    given, made = tuple(network.get_input(0).shape), tuple(network.get_output(0).shape)
    if given[1:] != (window, features):
        raise BundleError(request.onnx, f"its input has shape {given}, expected (batch, "
                          f"{window}, {features})")  # fmt: skip
    if len(made) != 2 or made[1] not in {outputs, -1}:
        raise BundleError(request.onnx, f"its output has shape {made}, expected (batch, {outputs})")
    batch = int(given[0])
    if batch != -1 and request.buckets != (batch,):
        raise BundleError(request.onnx, f"its batch is fixed to {batch}, wanted {request.buckets}")
    if request.dla_core is not None and len(request.buckets) != 1:
        raise DeviceError(f"a DLA engine has one batch size, wanted {request.buckets}")
    return batch == -1


def _configure(tensorrt: Any, rules: Rules, config: Any, request: EngineRequest) -> Any:
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    set_precision(tensorrt, rules, config, request.precision)
    if request.dla_core is not None:
        set_dla(tensorrt, config, request.dla_core)
    if request.chips:
        set_chips(tensorrt, config, request.chips)
    return config


def _add_profiles(builder: Any, config: Any, name: str, request: EngineRequest) -> None:
    for bucket in request.buckets:
        dims = (bucket, request.shape.window, request.shape.features)
        profile = builder.create_optimization_profile()
        profile.set_shape(name, dims, dims, dims)
        if config.add_optimization_profile(profile) < 0:
            raise DeviceError(f"TensorRT refused a profile of batch {bucket}")


def _calibrate(
    tensorrt: Any,
    rules: Rules,
    builder: Any,
    config: Any,
    network: Any,
    request: EngineRequest,
    session: CudaSession | None,
) -> Any:
    if request.calibration is None:
        return None
    if not rules.calibrator or session is None:
        raise DeviceError(f"TensorRT {rules.version} calibrates nothing; give it a Q/DQ model")
    source = network.get_input(0)
    batches = CalibrationBatches(request.calibration, session, _calibration_rows(source, request))
    calibrator = make_calibrator(tensorrt, batches)
    config.int8_calibrator = calibrator
    if -1 in tuple(source.shape):
        profile = builder.create_optimization_profile()
        dims = (batches.size, request.shape.window, request.shape.features)
        profile.set_shape(source.name, dims, dims, dims)
        config.set_calibration_profile(profile)
    return calibrator


def _calibration_rows(source: Any, request: EngineRequest) -> int:
    fixed = int(next(iter(source.shape)))
    return fixed if fixed > 0 else min(CALIBRATION_ROWS, request.buckets[-1])


class CalibrationBatches:
    """Gives a calibrator its batches, one at a time in one buffer of the device.

    Args:
        rows: Shape (N, W, F); rows beyond the last full batch are left out.
        session: Where they are copied; its context is current while TensorRT calibrates.
        size: Rows of a batch.
    """

    def __init__(self, rows: Floats, session: CudaSession, size: int) -> None:
        count = len(rows) // size
        if not count:
            raise DeviceError(f"a calibration set of {len(rows)} rows, at least {size} are needed")
        self.size = size
        self._batches = iter(rows[: count * size].reshape(count, size, *rows.shape[1:]))
        nbytes = rows[:size].nbytes
        self._staging: HostBuffer = session.host_buffer(nbytes)
        self._address = self._staging.device_address or session.device_buffer(nbytes)
        self._upload: Callable[[], None] = lambda: self._copy(session)

    def next_address(self) -> int | None:
        """Put the next batch into the device's memory; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._staging.array[:] = batch.reshape(-1).view("u1")
        self._upload()
        return self._address

    def _copy(self, session: CudaSession) -> None:
        if not self._staging.device_address:
            session.upload(self._address, self._staging)
        session.finish()
