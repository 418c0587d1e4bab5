"""TensorRT on a GPU and its DLA cores, and TensorRT for RTX on a desktop's card.

Forms are ONNX files: engines are built from them on the device that runs them and kept in the
cache; ready-made engines are read too. Every bucket and slot has page-locked buffers, an execution
context and, after a warm-up that proved it right, a CUDA graph. On a board whose GPU shares the
host's memory the buffers are mapped and nothing is copied.
"""

import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import DeviceFact, LoadOptions, ModelFile, ModelShape
from runtime.cuda.interface import CudaSession
from runtime.cuda.select import choose_driver, missing_drivers
from runtime.engine_cache import EngineCache, EngineKey
from runtime.forms import check_form, serving_buckets
from runtime.probe import probe_cuda, probe_jetson, probe_tensorrt
from runtime.tensorrt_build import logger_of
from runtime.tensorrt_cache import EngineMaker, EngineOrder, Machine, dla_core, precision_on
from runtime.tensorrt_engine import (
    Engine,
    Placement,
    TensorRtModel,
    layer_places,
    open_engine,
    prepare_model,
)
from runtime.tensorrt_versions import Flavour, Rules, profile_batches, rules_of

_log: Final = logging.getLogger(__name__)
_NAMES: Final = {Flavour.TENSORRT: "tensorrt", Flavour.RTX: "rtx"}
_EXTRAS: Final = {Flavour.TENSORRT: "nvidia", Flavour.RTX: "rtx"}


class TensorRtBackend:
    """One of the two flavours. Making one imports and asks nothing."""

    formats: tuple[str, ...] = ("tensorrt", "onnx")

    def __init__(self, flavour: str = Flavour.TENSORRT) -> None:
        self.flavour = Flavour(flavour)
        self.name = _NAMES[self.flavour]
        self.extra = _EXTRAS[self.flavour]

    def devices(self) -> Sequence[DeviceFact]:
        """Return the GPU and as many DLA cores as TensorRT's runtime counts."""
        machine = self._machine
        if isinstance(machine, str):
            return ()
        title = f"{machine.gpu.name}, SM {machine.gpu.sm / 10:.1f}, {self.name} {machine.version}"
        cores = [DeviceFact(f"dla:{core}", title) for core in range(machine.dla_cores)]
        return (DeviceFact("gpu", title), *cores)

    def missing(self) -> str:
        """Return what is missing for it to run here and how to get it, "" if nothing."""
        machine = self._machine
        return machine if isinstance(machine, str) else ""

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> TensorRtModel:
        """Load a form onto ``gpu`` or ``dla:N``, and warm it up; builds what is not in the cache.

        Raises:
            BundleError: the form is not what it says it is, or an engine of another machine.
            DeviceError: TensorRT or the device failed, or is not here.
        """
        check_form(file, self.formats)
        machine = self.machine(device)
        session = choose_driver().open()
        try:
            with session.active():
                return self._load(file, shape, device, options, machine, session)
        except BaseException:
            session.close()
            raise

    def compile(self, order: EngineOrder) -> tuple[EngineKey, bytes]:
        """Build one engine for a device of this machine, and keep it nowhere.

        Raises:
            BundleError: the form does not parse.
            DeviceError: TensorRT or the device is missing, or refused.
        """
        machine = self.machine(order.device)
        session = choose_driver().open()
        try:
            with session.active():
                return EngineMaker(self.rules(machine), machine, session).built(order)
        finally:
            session.close()

    def machine(self, device: str) -> Machine:
        """Return what the probe found.

        Raises:
            DeviceError: nothing, or not this device.
        """
        machine = self._machine
        if isinstance(machine, str):
            raise DeviceError(machine)
        core = dla_core(device)
        if core is None and device != "gpu":
            raise DeviceError(f"{self.name} runs on gpu and dla:N, not on {device}")
        if core is not None and core >= machine.dla_cores:
            raise DeviceError(f"{device}: TensorRT counts {machine.dla_cores} DLA cores here")
        return machine

    def rules(self, machine: Machine) -> Rules:
        """Return what the version that is here wants."""
        return rules_of(self.flavour, machine.version)

    @cached_property
    def _machine(self) -> Machine | str:
        if find_spec(self.flavour) is None:
            how = f"pip install 'heqis[{self.extra}]'"
            jetson = "; on a Jetson JetPack's own" if self.flavour is Flavour.TENSORRT else ""
            return f"{self.flavour} is not installed: {how}{jetson}"
        cuda = probe_cuda()
        if not cuda.devices:
            return f"no CUDA device: {cuda.problem}"
        found = probe_tensorrt(cuda, modules=(self.flavour,))
        if found.problem or not found.version:
            return f"{self.flavour}: {found.problem}"
        without = missing_drivers()
        if without:
            return without
        cores = found.dla_cores or 0 if rules_of(self.flavour, found.version).dla else 0
        return Machine(cuda.devices[0], cores, found.version, probe_jetson().l4t or "")

    def _load(
        self,
        file: ModelFile,
        shape: ModelShape,
        device: str,
        options: LoadOptions,
        machine: Machine,
        session: CudaSession,
    ) -> TensorRtModel:
        tensorrt = importlib.import_module(self.flavour)
        runtime = self._runtime(tensorrt, device)
        rules = self.rules(machine)
        cache = None if options.cache is None else EngineCache(options.cache)
        maker = EngineMaker(rules, machine, session, cache)
        precision = precision_on(file.precision, device)
        engines: dict[int, Engine] = {}
        for profiles in _engine_profiles(rules, file, device, options):
            order = EngineOrder(file, shape, device, precision, profiles)
            engine = self._opened(tensorrt, runtime, maker, order)
            engines.update(dict.fromkeys(profiles, engine))
        fallback = _fallback(tensorrt, device, engines)
        placement = Placement(self.name, device, precision, shape, options.slots)
        model = prepare_model(engines, placement, session, logger_of(tensorrt).messages)
        model.fallback = fallback
        return model

    def _opened(
        self, tensorrt: Any, runtime: Any, maker: EngineMaker, order: EngineOrder
    ) -> Engine:
        file, shape, messages = order.file, order.shape, logger_of(tensorrt).messages
        if file.format == "tensorrt":
            engine = open_engine(tensorrt, runtime, maker.read(file, order.device), file, shape)
            if engine is None:
                raise BundleError(file.path, f"this TensorRT does not take it: {messages.take()}")
            return engine
        for _attempt in range(2):
            key, plan = maker.built(order)
            engine = open_engine(tensorrt, runtime, plan, file, shape)
            if engine is not None:
                return engine
            maker.discard(key)
        raise DeviceError(f"TensorRT does not take what it has built: {messages.take()}")

    def _runtime(self, tensorrt: Any, device: str) -> Any:
        logger, messages = logger_of(tensorrt)
        runtime = tensorrt.Runtime(logger)
        if not runtime:
            raise DeviceError(f"TensorRT gave no runtime: {messages.take()}")
        core = dla_core(device)
        if core is not None:
            runtime.DLA_core = core
        return runtime


def _engine_profiles(
    rules: Rules, file: ModelFile, device: str, options: LoadOptions
) -> list[tuple[int, ...]]:
    buckets = serving_buckets(file, options)
    if dla_core(device) is not None or file.batch:
        return [(bucket,) for bucket in buckets]
    return [profile_batches(rules, buckets, options.slots)]


def _fallback(tensorrt: Any, device: str, engines: Mapping[int, Engine]) -> str:
    if dla_core(device) is None:
        return ""
    reports: dict[str, None] = {}
    for engine in engines.values():
        places = layer_places(tensorrt, engine)
        if not places.dla:
            raise DeviceError(f"{device}: no layer of the model can run there; place it on gpu")
        if places.report:
            reports[places.report] = None
    told = "; ".join(reports)
    if told:
        _log.warning("%s: %s", device, told)
    return told
