"""Engines of a machine: taken from the cache, or built from an ONNX form and put there."""

import hashlib
import importlib
import logging
from pathlib import Path
from typing import Final, NamedTuple

from engine.core.errors import BundleError
from engine.core.models import Floats, ModelFile, ModelShape, Precision
from runtime.cuda.interface import CudaSession
from runtime.engine_cache import EngineCache, EngineKey, is_packed, read_packed
from runtime.probe import CudaDevice
from runtime.tensorrt_build import EngineRequest, build_engine
from runtime.tensorrt_source import engine_source
from runtime.tensorrt_versions import Rules

_log: Final = logging.getLogger(__name__)
_DLA: Final = "dla:"


class Machine(NamedTuple):
    """What the probe found: one GPU, its DLA cores, the library's and the system's version."""

    gpu: CudaDevice
    dla_cores: int
    version: str
    jetpack: str
    """The L4T release, "" if it is no Jetson."""


class EngineOrder(NamedTuple):
    """Which engine is wanted."""

    file: ModelFile
    """The ONNX form, and the precision that is in it."""
    shape: ModelShape
    device: str
    """``gpu`` or ``dla:N``."""
    precision: Precision
    profiles: tuple[int, ...]
    """Batch size of each optimisation profile; one for a DLA."""
    calibration: Floats | None = None
    """Shape (N, W, F), to make INT8 of an fp32 form."""


class EngineMaker:
    """Makes engines with one TensorRT, on one machine, for one loaded model.

    Args:
        rules: Of the TensorRT.
        machine: What it runs on.
        session: Current while engines are built; calibration batches go through it.
        cache: Where engines are kept, None for nowhere.
    """

    def __init__(
        self,
        rules: Rules,
        machine: Machine,
        session: CudaSession,
        cache: EngineCache | None = None,
    ) -> None:
        self._rules = rules
        self._machine = machine
        self._session = session
        self._cache = cache

    def built(self, order: EngineOrder) -> tuple[EngineKey, bytes]:
        """Return an engine, from the cache if it is there.

        Raises:
            BundleError: the form does not parse, or has other inputs or outputs.
            DeviceError: TensorRT could not build it.
        """
        key = self._key(order)
        plan = None if self._cache is None else self._cache.read(key)
        if plan is None:
            name = order.file.path.name
            _log.info("building %s for %s, batches %s", name, order.device, order.profiles)
            plan = self._build(order)
            if self._cache is not None:
                self._cache.write(key, plan)
        return key, plan

    def discard(self, key: EngineKey) -> None:
        """Forget an engine that the library did not take."""
        if self._cache is not None:
            self._cache.discard(key)

    def read(self, file: ModelFile, device: str) -> bytes:
        """Read a ready-made engine: one of ours, if it was made for this machine, or a bare plan.

        An engine for one DLA core runs on another, but not on the GPU, nor the other way round.

        Raises:
            BundleError: it is damaged, or was made for another library, version, chip, system or
                kind of device.
        """
        content = file.path.read_bytes()
        if not is_packed(content):
            return content
        found = read_packed(content)
        if found is None:
            raise BundleError(file.path, "the engine is damaged; build it again")
        key, plan = found
        gpu = self._machine.gpu
        here = (str(self._rules.flavour), self._machine.version, self._machine.jetpack)
        chips = key.chip.split("+") if self._rules.built_for_chips else [f"SM{key.sm}"]
        if (key.library, key.version, key.jetpack) != here or f"SM{gpu.sm}" not in chips:
            made = f"{key.library} {key.version} on {'+'.join(chips)} {key.jetpack}".strip()
            now = f"{here[0]} {here[1]} on SM{gpu.sm} {here[2]}".strip()
            raise BundleError(file.path, f"made by {made}, this is {now}; build it here")
        if (dla_core(key.device) is None) != (dla_core(device) is None):
            raise BundleError(file.path, f"made for {key.device}, not for {device}")
        return plan

    def _build(self, order: EngineOrder) -> bytes:
        core = dla_core(order.device)
        with engine_source(
            self._rules,
            order.file,
            order.precision,
            on_dla=core is not None,
            calibration=order.calibration,
        ) as source:
            request = EngineRequest(
                source.onnx,
                order.shape,
                order.profiles,
                order.precision,
                core,
                calibration=source.calibration,
            )
            tensorrt = importlib.import_module(self._rules.flavour)
            return build_engine(tensorrt, self._rules, request, session=self._session)

    def _key(self, order: EngineOrder) -> EngineKey:
        return EngineKey(
            library=self._rules.flavour,
            version=self._machine.version,
            sm=self._machine.gpu.sm,
            jetpack=self._machine.jetpack,
            chip=self._machine.gpu.name,
            device=order.device,
            form=hash_form(order.file.path, order.calibration),
            precision=order.precision,
            buckets=order.profiles,
            window=order.shape.window,
            features=order.shape.features,
        )


def dla_core(device: str) -> int | None:
    """Return the number in ``dla:N``, None if it is another device."""
    core = device.removeprefix(_DLA)
    return int(core) if device.startswith(_DLA) and core.isdecimal() else None


def precision_on(precision: Precision, device: str) -> Precision:
    """Return what a form of a precision is computed in: a DLA knows no fp32."""
    on_dla = dla_core(device) is not None
    return Precision.FP16 if on_dla and precision is Precision.FP32 else precision


def hash_form(path: Path, calibration: Floats | None = None) -> str:
    """Return the SHA-256 over a form and the set it was calibrated with.

    Raises:
        BundleError: the form cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes())
    except OSError as error:
        raise BundleError(path, f"it cannot be read: {error.strerror}") from error
    if calibration is not None:
        digest.update(calibration.tobytes())
    return digest.hexdigest()
