"""All backends, and which of them serve a device of a placement."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Final, NamedTuple

from engine.core.errors import ConfigError
from engine.core.models import Backend, DeviceFact
from engine.core.suggest import did_you_mean, known_names

BACKENDS: Final = {
    "tensorrt": ("tensorrt_backend", "TensorRtBackend", ()),
    "rtx": ("tensorrt_backend", "TensorRtBackend", ("tensorrt_rtx",)),
    "rknn": ("rknn_backend", "RknnBackend", ()),
    "onnxruntime": ("onnxruntime_backend", "OnnxRuntimeBackend", ()),
    "onnxruntime-tensorrt": ("onnxruntime_backend", "OnnxRuntimeBackend", ("tensorrt",)),
    "torch": ("torch_backend", "TorchBackend", ()),
    "openvino": ("openvino_backend", "OpenVinoBackend", ()),
    "litert": ("litert_backend", "LiteRtBackend", ()),
    "ncnn": ("ncnn_backend", "NcnnBackend", ()),
}
"""Module of ``runtime.backends``, class and arguments by name; the preferred of a device first."""


SPARE_HOST: Final = "cpu:1"
"""The processor once more, on another thread; ONNX Runtime serves it wherever it serves "cpu"."""

DEVICES: Final = ("cpu", SPARE_HOST, "gpu", "dla:0", "dla:1", "npu")
"""Devices that a placement may name anywhere, whether this machine has them or not."""
_DLA: Final = re.compile(r"dla:[0-9]{1,2}")


class Candidate(NamedTuple):
    """A backend that may serve one entry of a placement, and its device."""

    backend: Backend
    device: str


class FoundDevice(NamedTuple):
    """A device that a backend found here, or a backend that found none and why."""

    backend: Backend
    fact: DeviceFact | None
    missing: str


@cache
def every_backend() -> tuple[Backend, ...]:
    """Return all backends, the preferred of a device first; imports no library."""
    return tuple(_make(*where) for where in BACKENDS.values())


def backend_named(name: str) -> Backend:
    """Return one backend.

    Raises:
        ConfigError: there is none of this name; names all.
    """
    for backend in every_backend():
        if backend.name == name:
            return backend
    expected = known_names("backends", BACKENDS, name)
    raise ConfigError("the configuration", "placement", name, expected)


def check_entry(entry: str) -> str:
    """Return an entry of a placement that names a device there is somewhere, this machine or not.

    Raises:
        ValueError: it names another device, or a backend that there is not; names all.
    """
    name, at, device = entry.rpartition("@")
    if at and name not in BACKENDS:
        swapped = f"did you mean '{device}@{name}'? " if device in BACKENDS else ""
        backends = known_names("backends", BACKENDS, name)
        raise ValueError(f"{entry!r}: {swapped}write device or backend@device; {backends}")
    if not at and device in BACKENDS:
        raise ValueError(f"{entry!r} is a backend: write a device behind it, as in openvino@cpu")
    if not _is_device(device):
        kind = did_you_mean(device.partition(":")[0], DEVICES)
        raise ValueError(f"{entry!r}: {kind}devices are: {', '.join(DEVICES)}")
    return entry


def _is_device(name: str) -> bool:
    """Return whether there is such a device; only names never heard of are asked of backends."""
    if name in DEVICES or _DLA.fullmatch(name):
        return True
    return any(name == fact.device for each in every_backend() for fact in each.devices())


def find(entry: str, formats: Collection[str]) -> list[Candidate]:
    """Return what may serve an entry of a placement here, the preferred first.

    Args:
        entry: ``device``, as in "gpu", or ``backend@device``, as in "openvino@cpu".
        formats: Formats the bundle has; a backend that reads none of them is left out.

    Raises:
        ConfigError: the entry names a backend that there is not.
    """
    name, at, device = entry.rpartition("@")
    backends = (backend_named(name),) if at else every_backend()
    return [
        Candidate(backend, device)
        for backend in backends
        if not set(formats).isdisjoint(backend.formats) and _serves(backend, device)
    ]


def _serves(backend: Backend, device: str) -> bool:
    has = {fact.device for fact in backend.devices()}
    is_spare = device == SPARE_HOST and backend.name == "onnxruntime"
    return ("cpu" if is_spare else device) in has


def why_none(entry: str, formats: Collection[str]) -> str:
    """Return why ``find`` returns nothing for an entry, for people; "" if it returns something.

    Raises:
        ConfigError: the entry names a backend that there is not.
    """
    return "; ".join(reasons_for_none(entry, formats))


def reasons_for_none(entry: str, formats: Collection[str]) -> list[str]:
    """Return why ``find`` returns nothing for an entry, a short line for each reason; or nothing.

    Raises:
        ConfigError: the entry names a backend that there is not.
    """
    if find(entry, formats):
        return []
    name, at, device = entry.rpartition("@")
    backends = (backend_named(name),) if at else every_backend()
    readers = [each for each in backends if not set(formats).isdisjoint(each.formats)]
    if not readers:
        wanted = ", ".join(sorted(set(formats)))
        return [f"{name} does not read {wanted}" if name else f"no backend reads {wanted}"]
    return [f"{each.name}: {each.missing() or f'it has no {device}'}" for each in readers]


def nothing_runs(model: str, whys: Mapping[str, Sequence[str]]) -> str:
    """Return what is told of a model that no entry of its placement can run, in several lines.

    Args:
        model: Its name.
        whys: The reasons by entry.
    """
    key = f"models.{model}.placement"
    lines = [f"nothing here can run it; {key} asks for"]
    for entry, reasons in whys.items():
        lines += [f"  {entry}", *(f"    {reason}" for reason in reasons)]
    mend = "`heqis model check` tells what is wrong with the bundle"
    if "cpu" not in whys:
        mend = f'put "cpu" last in {key}, or install what is missing (`heqis doctor` tells)'
    return "\n".join([*lines, mend])


def found_devices() -> list[FoundDevice]:
    """Return every device of every backend, and every backend without one; may take seconds."""
    found = []
    for backend in every_backend():
        facts = backend.devices()
        found += [FoundDevice(backend, fact, "") for fact in facts]
        if not facts:
            found.append(FoundDevice(backend, None, backend.missing() or "it found no device"))
    return found


def _make(module: str, name: str, arguments: tuple[str, ...]) -> Backend:
    made: Backend = getattr(import_module(f"runtime.backends.{module}"), name)(*arguments)
    return made
