"""A deserialised TensorRT engine, with a prepared run for every bucket and slot."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Floats, ModelFile, ModelShape, Precision
from runtime.cuda.interface import CudaSession, HostBuffer
from runtime.prepared import Call, PreparedModel
from runtime.tensorrt_build import Messages
from runtime.tensorrt_inspect import LayerPlaces, read_layers
from runtime.tensorrt_versions import profile_index, scratch_bytes

_log: Final = logging.getLogger(__name__)
_SAME: Final = 1e-6


class Engine(NamedTuple):
    """An engine and what its tensors are called."""

    handle: Any
    input_name: str
    output_name: str
    profiles: tuple[int, ...]
    """Batch size of each optimisation profile; one number if the shape is fixed."""
    dynamic: bool


class Placement(NamedTuple):
    """Where the engines of one model run, and as what."""

    backend: str
    device: str
    precision: Precision
    shape: ModelShape
    slots: int


class TensorRtModel(PreparedModel):
    """A ``LoadedModel`` on a GPU or a DLA core."""


def open_engine(
    tensorrt: Any, runtime: Any, plan: bytes, file: ModelFile, shape: ModelShape
) -> Engine | None:
    """Deserialise an engine and check its tensors; None if TensorRT does not take it.

    Raises:
        BundleError: it takes or gives something else than the model does.
    """
    handle = runtime.deserialize_cuda_engine(plan)
    if not handle:
        return None
    names = [handle.get_tensor_name(index) for index in range(handle.num_io_tensors)]
    given = [name for name in names if _is_input(tensorrt, handle, name)]
    made = [name for name in names if name not in given]
    if (len(given), len(made)) != (1, 1):
        raise BundleError(file.path, f"found tensors {names}, expected one input and one output")
    for name in names:
        if handle.get_tensor_dtype(name) != tensorrt.DataType.FLOAT:
            raise BundleError(file.path, f"tensor {name} is not float32")
    dims = tuple(handle.get_tensor_shape(given[0]))
    _check_dims(file, "input", dims, (shape.window, shape.features))
    _check_dims(file, "output", tuple(handle.get_tensor_shape(made[0])), (shape.outputs,))
    dynamic = dims[0] == -1
    return Engine(handle, given[0], made[0], _profiles(handle, given[0], dims), dynamic)


def prepare_model(
    engines: Mapping[int, Engine], placement: Placement, session: CudaSession, messages: Messages
) -> TensorRtModel:
    """Make buffers, contexts and graphs for every bucket and slot, and warm them up.

    Args:
        engines: By bucket; a GPU's is the same for all of them.
        placement: What the model will say of itself.
        session: Its own; closed with the model.
        messages: What TensorRT says when a call fails.

    Raises:
        DeviceError: TensorRT or the driver refused.
    """
    runs: dict[tuple[int, int], _Run] = {}
    with session.active():
        for bucket, engine in engines.items():
            for slot in range(placement.slots):
                runs[bucket, slot] = _Run(engine, placement.shape, bucket, slot, session, messages)
        captured = sum(run.capture() for run in runs.values())
    model = TensorRtModel(
        backend=placement.backend,
        device=placement.device,
        precision=placement.precision,
        shape=placement.shape,
        calls={key: run.call for key, run in runs.items()},
        memory_bytes=sum(run.memory_bytes for run in runs.values()),
        errors=(),
        release=_release(runs, session),
    )
    model.graphs = captured
    return model


def layer_places(tensorrt: Any, engine: Engine) -> LayerPlaces:
    """Ask the inspector where an engine's layers run."""
    inspector = engine.handle.create_engine_inspector()
    information = inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON)
    return read_layers(str(information))


class _Run:
    """One bucket and slot: its buffers, its execution context, its graph once captured."""

    def __init__(
        self,
        engine: Engine,
        shape: ModelShape,
        bucket: int,
        slot: int,
        session: CudaSession,
        messages: Messages,
    ) -> None:
        self._session = session
        self._messages = messages
        self._graph: int | None = None
        self._given, staging = _floats(session, bucket, shape.window, shape.features)
        self._made, output = _floats(session, bucket, shape.outputs)
        self._from = self._given.device_address or session.device_buffer(staging.nbytes)
        self._to = self._made.device_address or session.device_buffer(output.nbytes)
        self._context: Any = self._make_context(engine, staging.shape, bucket, slot)
        buffers = staging.nbytes + output.nbytes
        self.memory_bytes = buffers * (1 if session.integrated else 2)
        self.memory_bytes += scratch_bytes(engine.handle)
        self.call = Call(staging, output, self.compute)

    def compute(self) -> None:
        """Run the slot and wait for it."""
        with self._session.active():
            if self._graph is None:
                self._enqueue()
            else:
                self._session.launch(self._graph)
            self._session.finish()

    def capture(self) -> bool:
        """Warm up, record a graph and keep it if it gives what the plain run gave."""
        staging, output = self.call.staging, self.call.output
        staging[:] = np.linspace(-1.0, 1.0, staging.size, dtype=np.float32).reshape(staging.shape)
        self._enqueue()
        self._session.finish()
        self._enqueue()
        self._session.finish()
        expected = output.copy()
        output[:] = np.nan
        try:
            self._session.begin_capture()
            try:
                self._enqueue()
            finally:
                graph = self._session.end_capture()
            self._session.launch(graph)
            self._session.finish()
        except DeviceError as error:
            _log.info("no CUDA graph: %s", error)
            return False
        if not np.allclose(output, expected, rtol=0, atol=_SAME, equal_nan=True):
            _log.warning("a CUDA graph gave other answers than the plain run; not used")
            return False
        self._graph = graph
        return True

    def drop(self) -> None:
        """Let go of TensorRT's objects; the context must be current."""
        self._context = None
        self._graph = None

    def _enqueue(self) -> None:
        if self._context is None:
            raise DeviceError("the model is closed")
        mapped = bool(self._given.device_address)
        if not mapped:
            self._session.upload(self._from, self._given)
        if not self._context.execute_async_v3(self._session.stream):
            raise DeviceError(f"TensorRT could not run: {self._messages.take()}")
        if not mapped:
            self._session.download(self._made, self._to)

    def _make_context(self, engine: Engine, dims: tuple[int, ...], bucket: int, slot: int) -> Any:
        context = engine.handle.create_execution_context()
        if not context:
            raise DeviceError(f"TensorRT gave no execution context: {self._messages.take()}")
        ready = True
        if engine.dynamic:
            profile = profile_index(engine.profiles, bucket, slot)
            ready = context.set_optimization_profile_async(profile, self._session.stream)
            self._session.finish()
            ready = ready and context.set_input_shape(engine.input_name, dims)
        ready = ready and context.set_tensor_address(engine.input_name, self._from)
        ready = ready and context.set_tensor_address(engine.output_name, self._to)
        if not ready:
            raise DeviceError(f"TensorRT refused batch {bucket}: {self._messages.take()}")
        return context


def _release(runs: Mapping[tuple[int, int], _Run], session: CudaSession) -> Callable[[], None]:
    def release() -> None:
        try:
            with session.active():
                for run in runs.values():
                    run.drop()
        except DeviceError as error:
            _log.warning("closing an engine: %s", error)
        session.close()

    return release


def _floats(session: CudaSession, *shape: int) -> tuple[HostBuffer, Floats]:
    buffer = session.host_buffer(4 * int(np.prod(shape)))
    return buffer, buffer.array.view(np.float32).reshape(shape)


def _is_input(tensorrt: Any, handle: Any, name: str) -> bool:
    return bool(handle.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT)


def _profiles(handle: Any, name: str, dims: tuple[int, ...]) -> tuple[int, ...]:
    if dims[0] != -1:
        return (int(dims[0]),)
    count = handle.num_optimization_profiles
    shapes = [handle.get_tensor_profile_shape(name, index) for index in range(count)]
    return tuple(int(next(iter(largest))) for _least, _best, largest in shapes)


def _check_dims(file: ModelFile, what: str, dims: tuple[int, ...], tail: tuple[int, ...]) -> None:
    if len(dims) != len(tail) + 1 or tuple(dims[1:]) != tail:
        raise BundleError(file.path, f"its {what} has shape {dims}, expected (batch, *{tail})")
