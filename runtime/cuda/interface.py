"""What a backend needs of CUDA, and no more.

A session belongs to one loaded model: one stream, one event, and everything allocated for it. The
models of a device are run by its one owner thread, which waits for every batch, so their streams
never overlap; but a model that is being loaded beside them can capture its graphs without catching
their work.
"""

from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

ALIGNMENT: Final = 256
"""Bytes; what ``cuMemAlloc`` gives, and TensorRT and DLA expect."""


class HostBuffer(NamedTuple):
    """Page-locked memory of the host; freed when the last view of its array is gone."""

    array: Bytes
    """Shape (bytes,)."""
    device_address: int
    """Where the device sees the same memory; 0 if it cannot and a copy is needed."""


class CudaSession(Protocol):
    """One stream on one device's primary context, and what was allocated for it.

    Used by one thread at a time, and not always the same: whoever works with it does so inside
    ``active()``. A call that the driver refuses raises ``DeviceError`` with the driver's own name
    for it.
    """

    driver: str
    ordinal: int
    integrated: bool
    """The device shares the host's memory: buffers are mapped and nothing is copied."""
    stream: int
    """The driver's handle of the stream, as libraries want it."""

    def active(self) -> AbstractContextManager[None]:
        """Make the primary context current in this thread, and what was current again after."""
        ...

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Allocate page-locked memory, mapped into the device's addresses if integrated."""
        ...

    def device_buffer(self, size_bytes: int) -> int:
        """Allocate the device's memory and return its address."""
        ...

    def upload(self, address: int, source: HostBuffer) -> None:
        """Enqueue a copy of a whole host buffer to the device."""
        ...

    def download(self, target: HostBuffer, address: int) -> None:
        """Enqueue a copy from the device that fills a host buffer."""
        ...

    def finish(self) -> None:
        """Wait until the stream has done all, in a blocking-sync event: no spinning, no GIL."""
        ...

    def begin_capture(self) -> None:
        """Record what this thread enqueues from here on instead of doing it."""
        ...

    def end_capture(self) -> int:
        """Stop recording and return the graph's number."""
        ...

    def launch(self, graph: int) -> None:
        """Enqueue a graph."""
        ...

    def free_bytes(self) -> int:
        """Return the device's free memory."""
        ...

    def close(self) -> None:
        """Free all but the host buffers; closing twice does nothing, a dead device is logged."""
        ...


class CudaDriver(Protocol):
    """A Python binding of the CUDA driver."""

    name: str

    def missing(self) -> str:
        """Return what is missing for it, "" if nothing; imports nothing."""
        ...

    def open(self, ordinal: int = 0) -> CudaSession:
        """Retain a device's primary context and make a stream on it.

        Call this only after the probe found a device.

        Raises:
            DeviceError: no such device, or the driver refused.
        """
        ...
