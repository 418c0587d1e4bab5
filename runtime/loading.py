"""Forms onto devices: loaded, compared with the reference and timed before any request sees them.

A device's library is called by the thread that owns the device; on the processor any thread will
do, so there a helper's loads while the device's goes on serving.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, LoadedModel, LoadOptions, ModelFile
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.catalog import find, why_none
from runtime.config import InferenceConfig
from runtime.executors import learn_latency, run_apart
from runtime.faults import FaultSwitch, FaultyModel
from runtime.lane import Lane
from runtime.memory import MemoryMark
from runtime.model_cache import ModelCache
from runtime.parity import check_loaded
from runtime.served import Form, Learnt, Place
from runtime.siblings import load_with_siblings

HOST: Final = "cpu"
_HOST_BACKEND: Final = "onnxruntime"
LOAD_LIMIT_S: Final = 600.0
"""A device may have to compile a model first."""
LIBRARY_BYTES: Final = 512 << 20
"""What a library may take beside its first model."""


def lane_name(backend: str, device: str) -> str:
    """Return which lane serves a device to a backend.

    A device belongs to one thread, whichever libraries use it. The processor belongs to nobody:
    there each library has a thread of its own, so that one that hangs takes no other with it.
    """
    return device if device != HOST or backend == _HOST_BACKEND else f"{backend}@{HOST}"


def is_host(lane: str) -> bool:
    """Return whether a lane is one of the processor's, where any thread may call a library."""
    return lane.rpartition("@")[2] == HOST


class Loaded(NamedTuple):
    """A model and what was learnt of it."""

    model: LoadedModel
    learnt: Learnt


def buckets_of(max_batch: int) -> tuple[int, ...]:
    """Return the batch sizes a model is run with: powers of two, and the greatest."""
    sizes = [1 << exponent for exponent in range(max_batch.bit_length())]
    return tuple(sorted({*sizes, max_batch}))


def load_form(
    bundle: Bundle,
    backend: Backend,
    file: ModelFile,
    device: str,
    options: LoadOptions,
    switch: FaultSwitch | None,
    allowed_bytes: int = 0,
) -> Loaded:
    """Load one form, run the parity vectors through it, and time it; by the device's owner.

    Forms that differ from it only in their fixed batch are loaded with it, as one model.

    Args:
        bundle: Where the form comes from.
        backend: What loads it.
        file: The form.
        device: Where to.
        options: How.
        switch: The turned fault switch of the device, None if it is not broken.
        allowed_bytes: By how much the process's memory may grow meanwhile; 0: by any amount.

    Raises:
        BundleError: the file is not what it says it is, or was changed since it was opened.
        DeviceError: the device failed, its answers are not the reference's, or it took too much
            memory.
    """
    bundle.verify()
    mark = MemoryMark()
    loaded = load_with_siblings(bundle, backend, file, device, options)
    behind = FaultyModel(loaded, switch) if switch is not None and switch.fault else loaded
    try:
        learnt = _learn(bundle, behind)
        if allowed_bytes:
            _check_memory(mark.grown_bytes(), allowed_bytes)
        return Loaded(loaded, learnt)
    except (BundleError, DeviceError):
        loaded.close()
        raise


def _learn(bundle: Bundle, loaded: LoadedModel) -> Learnt:
    report = check_loaded(bundle, loaded)
    if not report.passed:
        raise DeviceError(f"{loaded.backend} on {loaded.device}: parity {report}")
    return Learnt(learn_latency(loaded), report, bundle.parity())


def _check_memory(grown_bytes: int, allowed_bytes: int) -> None:
    if grown_bytes > allowed_bytes:
        raise DeviceError(
            f"loading and running it took {grown_bytes >> 20} MiB of the process's memory, "
            f"{allowed_bytes >> 20} are allowed: raise inference.memory_budget_bytes"
        )


class _Loading:
    """One loading; where nobody waits for it any more, its own thread gives the model back."""

    def __init__(self, work: Callable[[], Loaded]) -> None:
        self._work = work
        self.nobody_waits = False

    def __call__(self) -> Loaded:
        loaded = self._work()
        if self.nobody_waits:
            loaded.model.close()
            raise DeviceError("loaded too late")
        return loaded


class Loader:
    """Brings forms onto lanes within the memory budget.

    Args:
        config: What all models share.
        lane_of: Returns a device's lane, started.
        switch_of: Returns the turned fault switch of a backend and device, None if neither is
            broken; a form on a broken device is loaded broken.
        on_evicted: Hears which forms had to go, by cache key; they are closed here.

    Attributes:
        cache: Keeps the books.
        unclosed: Forms whose library failed to close them.
    """

    def __init__(
        self,
        config: InferenceConfig,
        lane_of: Callable[[str], Lane],
        switch_of: Callable[[str, str], FaultSwitch | None],
        on_evicted: Callable[[object], None],
    ) -> None:
        self.cache = ModelCache(config.memory_budget_bytes)
        self._config = config
        self._lane_of = lane_of
        self._switch_of = switch_of
        self._on_evicted = on_evicted
        self.unclosed = 0
        self._closing: set[asyncio.Future[Any]] = set()
        self._loads = 0
        self._libraries: set[str] = set()

    async def load(self, place: Place, bundle: Bundle, *, evict: bool = True) -> Form:
        """Load the first of a bundle's forms that works on a rung of a placement.

        Args:
            place: What it is loaded for.
            bundle: Where the forms come from.
            evict: Whether others may have to go for it.

        Raises:
            BundleError: no form of the bundle can be used there, now or later.
            DeviceError: the device failed, or there is no room.
        """
        formats = [file.format for file in bundle.forms()]
        candidates = await asyncio.to_thread(find, place.rung, formats)
        problems: list[BundleError | DeviceError] = []
        for backend, device in candidates:
            for file in files_for(bundle, backend):
                try:
                    return await self._load(place, bundle, backend, file, device, evict=evict)
                except (BundleError, DeviceError) as error:
                    problems.append(error)
        if not problems:
            reason = await asyncio.to_thread(why_none, place.rung, formats)
            raise BundleError(bundle.path, f"cannot be run on {place.rung!r} here: {reason}")
        raise next((one for one in problems if isinstance(one, DeviceError)), problems[0])

    async def load_reference(self, place: Place, bundle: Bundle) -> Form:
        """Load the reference form on the processor.

        Raises:
            BundleError: it cannot be used.
            DeviceError: the library failed, or there is no room.
        """
        backend = OnnxRuntimeBackend()
        return await self._load(place, bundle, backend, bundle.reference, HOST, evict=False)

    def unload(self, form: Form) -> None:
        """Give a form up; its device's thread closes it after what it is at."""
        if self.cache.discard(form.cache_key) is not None:
            self._close(form.lane, form.loaded)

    async def finish(self, limit_s: float) -> None:
        """Wait until everything given up is closed, unless a device hangs."""
        if self._closing:
            _, hanging = await asyncio.wait(self._closing, timeout=limit_s)
            for closing in hanging:
                closing.cancel()

    async def _load(
        self,
        place: Place,
        bundle: Bundle,
        backend: Backend,
        file: ModelFile,
        device: str,
        *,
        evict: bool,
    ) -> Form:
        lane = self._lane_of(lane_name(backend.name, device))
        options = LoadOptions(buckets_of(place.config.max_batch), cache=self._config.cache)
        switch = self._switch_of(backend.name, device)
        self._check_file(file)
        allowed_bytes = self._allowed_bytes(backend, lane)
        work = partial(load_form, bundle, backend, file, device, options, switch, allowed_bytes)
        loaded, learnt = await self._owned(lane, work)
        self._libraries.add(backend.name)
        is_reference = _is_reference(bundle, backend, file, device)
        form = Form(place, bundle, lane, loaded, learnt, is_reference=is_reference)
        self._loads += 1
        form.cache_key = (bundle.identity, device, self._loads)
        self._admit(form, evict=evict)
        return form

    def _check_file(self, file: ModelFile) -> None:
        """Refuse what is too large before it is read."""
        try:
            size_bytes = file.path.stat().st_size
        except OSError as error:
            raise BundleError(file.path, f"it cannot be read: {error.strerror}") from None
        budget_bytes = self.cache.budget_bytes
        if size_bytes > budget_bytes:
            raise DeviceError(
                f"{file.path.name} has {size_bytes} bytes, {budget_bytes} are allowed: raise "
                "inference.memory_budget_bytes"
            )

    def _allowed_bytes(self, backend: Backend, lane: Lane) -> int:
        """Return by how much loading may grow the process; elsewhere memory is the device's."""
        if not is_host(lane.device):
            return 0
        first = backend.name not in self._libraries
        return self.cache.budget_bytes + (LIBRARY_BYTES if first else 0)

    async def _owned(self, lane: Lane, work: Callable[[], Loaded]) -> Loaded:
        if lane.lost:
            raise DeviceError(f"{lane.device} does not answer")
        loading = _Loading(work)
        call: Awaitable[Loaded]
        call = run_apart(loading) if is_host(lane.device) else lane.call(loading)
        try:
            async with asyncio.timeout(LOAD_LIMIT_S):
                return await call
        except TimeoutError:
            raise DeviceError(f"{lane.device}: loading took over {LOAD_LIMIT_S:g} s") from None
        finally:
            loading.nobody_waits = True

    def _admit(self, form: Form, *, evict: bool) -> None:
        cache, loaded = self.cache, form.loaded
        if not evict and cache.used_bytes + loaded.memory_bytes > cache.budget_bytes:
            self._close(form.lane, loaded)
            raise DeviceError(f"{form.lane.device}: no room while others serve")
        admission = cache.admit(form.cache_key, loaded)
        for key, old in admission.evicted:
            self._on_evicted(key)
            self._close(self._lane_of(lane_name(old.backend, old.device)), old)
        if not admission.admitted:
            self._close(form.lane, loaded)
            raise DeviceError(f"{form.lane.device}: {admission.problem}")

    def _close(self, lane: Lane, loaded: LoadedModel) -> None:
        closing = asyncio.ensure_future(lane.call(loaded.close))
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and closing.exception() is not None:
            self.unclosed += 1


def files_for(bundle: Bundle, backend: Backend) -> list[ModelFile]:
    """Return the forms a backend reads, its preferred format first, then as in the manifest."""
    return [file for format_ in backend.formats for file in bundle.forms(format_)]


def _is_reference(bundle: Bundle, backend: Backend, file: ModelFile, device: str) -> bool:
    return (backend.name, device, file.path) == ("onnxruntime", HOST, bundle.reference.path)
