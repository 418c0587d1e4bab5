"""CUDA through NVIDIA's ``cuda-bindings``; the default.

Its wheels exist for x86 and Arm, its calls release the GIL, and it covers graphs.
"""

import ctypes
import importlib
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from engine.core.errors import DeviceError
from runtime.cuda.interface import HostBuffer

_log: Final = logging.getLogger(__name__)


class CudaBindingsDriver:
    """Opens sessions through ``cuda.bindings.driver``."""

    name = "cuda-bindings"

    def missing(self) -> str:
        """Return what is missing for it, "" if nothing."""
        try:
            found = find_spec("cuda.bindings.driver") is not None
        except ModuleNotFoundError:
            found = False
        return "" if found else "cuda-bindings is not installed: pip install cuda-bindings"

    def open(self, ordinal: int = 0) -> "CudaBindingsSession":
        """Retain a device's primary context and make a stream on it."""
        primary = _Primary(importlib.import_module("cuda.bindings.driver"), ordinal)
        with primary.active():
            return CudaBindingsSession(primary)


class CudaBindingsSession:
    """One stream, one event and the memory and graphs of one loaded model."""

    driver = CudaBindingsDriver.name

    def __init__(self, primary: "_Primary") -> None:
        cuda = primary.cuda
        self.ordinal = primary.ordinal
        self.integrated = bool(
            primary.call(
                cuda.cuDeviceGetAttribute,
                cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED,
                primary.device,
            )
        )
        self._primary = primary
        self._cuda = cuda
        self._undo: list[tuple[Callable[..., Any], Any]] = []
        self._graphs: list[Any] = []
        flags = cuda.CUevent_flags
        self._stream = self._keep(
            primary.call(cuda.cuStreamCreate, int(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)),
            cuda.cuStreamDestroy,
        )
        self._event = self._keep(
            primary.call(
                cuda.cuEventCreate,
                int(flags.CU_EVENT_BLOCKING_SYNC) | int(flags.CU_EVENT_DISABLE_TIMING),
            ),
            cuda.cuEventDestroy,
        )
        self.stream = int(self._stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the primary context current in this thread, and what was current again after."""
        with self._primary.active():
            yield

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Allocate page-locked memory, mapped into the device's addresses if integrated."""
        mapped = self._cuda.CU_MEMHOSTALLOC_DEVICEMAP if self.integrated else 0
        address = int(self._call(self._cuda.cuMemHostAlloc, size_bytes, mapped))
        block = _Block(self._primary, address, size_bytes)
        seen_at = self._call(self._cuda.cuMemHostGetDevicePointer, address, 0) if mapped else 0
        return HostBuffer(np.asarray(block), int(seen_at))

    def device_buffer(self, size_bytes: int) -> int:
        """Allocate the device's memory and return its address."""
        pointer = self._call(self._cuda.cuMemAlloc, size_bytes)
        return int(self._keep(pointer, self._cuda.cuMemFree))

    def upload(self, address: int, source: HostBuffer) -> None:
        """Enqueue a copy of a whole host buffer to the device."""
        array = source.array
        self._call(
            self._cuda.cuMemcpyHtoDAsync, address, array.ctypes.data, array.nbytes, self._stream
        )

    def download(self, target: HostBuffer, address: int) -> None:
        """Enqueue a copy from the device that fills a host buffer."""
        array = target.array
        self._call(
            self._cuda.cuMemcpyDtoHAsync, array.ctypes.data, address, array.nbytes, self._stream
        )

    def finish(self) -> None:
        """Wait in a blocking-sync event until the stream has done all."""
        self._call(self._cuda.cuEventRecord, self._event, self._stream)
        self._call(self._cuda.cuEventSynchronize, self._event)

    def begin_capture(self) -> None:
        """Record what this thread enqueues from here on instead of doing it."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(self._cuda.cuStreamBeginCapture, self._stream, mode)

    def end_capture(self) -> int:
        """Stop recording and return the graph's number."""
        graph = self._call(self._cuda.cuStreamEndCapture, self._stream)
        try:
            executable = self._call(self._cuda.cuGraphInstantiate, graph, 0)
        finally:
            self._call(self._cuda.cuGraphDestroy, graph)
        self._graphs.append(self._keep(executable, self._cuda.cuGraphExecDestroy))
        return len(self._graphs) - 1

    def launch(self, graph: int) -> None:
        """Enqueue a graph."""
        self._call(self._cuda.cuGraphLaunch, self._graphs[graph], self._stream)

    def free_bytes(self) -> int:
        """Return the device's free memory."""
        free, _total = self._call(self._cuda.cuMemGetInfo)
        return int(free)

    def close(self) -> None:
        """Free all but the host buffers; closing twice does nothing, a dead device is logged."""
        undo, self._undo = self._undo, []
        if not undo:
            return
        try:
            with self._primary.active():
                for free, handle in reversed(undo):
                    self._call(free, handle)
        except DeviceError as error:
            _log.warning("closing a CUDA session: %s", error)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._primary.call(function, *arguments)

    def _keep(self, handle: Any, free: Callable[..., Any]) -> Any:
        self._undo.append((free, handle))
        return handle


class _Primary:
    """A device's retained primary context; released when nothing refers to it any more."""

    def __init__(self, cuda: Any, ordinal: int) -> None:
        self.cuda = cuda
        self.ordinal = ordinal
        self.call(cuda.cuInit, 0)
        self.device = self.call(cuda.cuDeviceGet, ordinal)
        self._context = self.call(cuda.cuDevicePrimaryCtxRetain, self.device)
        weakref.finalize(self, cuda.cuDevicePrimaryCtxRelease, self.device).atexit = False

    @contextmanager
    def active(self) -> Iterator[None]:
        self.call(self.cuda.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            self.call(self.cuda.cuCtxPopCurrent)

    @staticmethod
    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if status:
            raise DeviceError(f"{function.__name__} answered {int(status)} ({status.name})")
        return results[0] if len(results) == 1 else results


class _Block:
    """Page-locked memory that numpy views; freed with the last view, never before."""

    def __init__(self, primary: _Primary, address: int, size_bytes: int) -> None:
        ctypes.memset(address, 0, size_bytes)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size_bytes,),
            "data": (address, False),
        }
        weakref.finalize(self, _free_host, primary, address).atexit = False


def _free_host(primary: _Primary, address: int) -> None:
    try:
        with primary.active():
            primary.call(primary.cuda.cuMemFreeHost, address)
    except DeviceError as error:
        _log.warning("freeing page-locked memory: %s", error)
