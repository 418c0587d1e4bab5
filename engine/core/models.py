"""What is said about models across rooms: their shape, the port a backend fills, and scores.

Feature windows come from ``strategies``, devices from ``runtime``, and ``engine`` brings them
together; these are the words they share.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Precision(StrEnum):
    """The arithmetic a form of a model computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class ModelShape(NamedTuple):
    """The shape of one request: input float32 (window, features), output float32 (outputs,)."""

    window: int
    features: int
    outputs: int


class ModelFile(NamedTuple):
    """One form of a model, a file or directory that one backend reads.

    ``batch`` is the fixed batch size of the form, 0 if it takes any.
    """

    path: Path
    format: str
    precision: Precision
    batch: int = 0


class DeviceFact(NamedTuple):
    """One device that a backend found on this machine, by the probe."""

    device: str
    """Its name in ``placement``: cpu, gpu, dla:0, npu, …"""
    title: str
    """What it is, for people."""


class LoadOptions(NamedTuple):
    """How a model is to be loaded.

    ``buckets``: the batch sizes it will be run with, ascending; ``slots``: staging buffers a
    bucket, so that one is filled while another is run; ``cache``: a directory for what a device
    compiles, None for none.
    """

    buckets: tuple[int, ...] = (1,)
    slots: int = 2
    cache: Path | None = None


class LoadedModel(Protocol):
    """One model on one device, ready to run. Called by one thread at a time, its owner.

    ``staging`` may be filled by the loop thread while another slot is run. A run computes a whole
    bucket: rows that nobody filled hold what was there before, and their outputs mean nothing.
    """

    backend: str
    device: str
    precision: Precision
    shape: ModelShape
    buckets: tuple[int, ...]
    memory_bytes: int
    """About what it takes of the device's memory, or of the process's."""

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        """Return the buffer a batch is gathered into: C-contiguous (bucket, window, features)."""
        ...

    def run(self, bucket: int, slot: int = 0) -> Floats:
        """Compute a slot's rows; return (bucket, outputs), valid until the slot's next run.

        Raises:
            DeviceError: the device or its library failed.
        """
        ...

    def close(self) -> None:
        """Give everything back; closing twice does nothing."""
        ...


class Backend(Protocol):
    """A library that runs models; its own file in ``runtime/backends``.

    Making one imports nothing of the library. ``devices`` asks a probe that cannot crash this
    process.
    """

    name: str
    formats: tuple[str, ...]
    """Formats of ModelFile that it reads, the preferred first."""
    extra: str
    """The optional extra that installs it, "" if it always is."""

    def devices(self) -> Sequence[DeviceFact]:
        """Return what it can run on here; empty if nothing."""
        ...

    def missing(self) -> str:
        """Return what is missing for it to run here and how to get it, "" if nothing."""
        ...

    def load(
        self, file: ModelFile, shape: ModelShape, device: str, options: LoadOptions
    ) -> LoadedModel:
        """Load a form onto a device, and warm it up.

        Raises:
            BundleError: the file is not what it says it is.
            DeviceError: the device or its library failed, or is not here.
        """
        ...


class Score(msgspec.Struct, frozen=True, gc=False):
    """A model's answer to one request, and who gave it."""

    values: tuple[float, ...]
    model: str
    bundle: str
    """Name, version and the first 12 digits of the bundle's hash: ``tcn@1-0123456789ab``."""
    backend: str
    device: str
    precision: str
    batch: int
    """Requests in the batch it was computed in."""
    queue_ns: int
    """From the request to the start of its batch."""
    service_ns: int
    """From the start of the batch to its answer."""


class Failure(StrEnum):
    """Why a request got no score. Codes as those of the risk gate: add, never rename."""

    NOT_READY = "MODEL_NOT_READY"
    """The window is not full yet."""
    SUPERSEDED = "MODEL_SUPERSEDED"
    """The window moved on before its turn came."""
    REFUSED = "MODEL_REFUSED"
    """Asked when its deadline could not be met any more, or the queue was full."""
    LATE = "MODEL_LATE"
    """Its deadline passed while it waited or was computed."""
    FAILED = "MODEL_FAILED"
    """The device or its library failed, or did not answer in time."""
    INVALID = "MODEL_INVALID"
    """The answer is not a number, or outside the range the manifest states."""
    UNAVAILABLE = "MODEL_UNAVAILABLE"
    """No device of its placement is left."""
    DISAGREES = "MODEL_DISAGREES"
    """The model does not confirm what the rule proposed."""
