"""CUDA through ``pycuda``, where it is what a machine has.

Never ``pycuda.autoinit``: it makes a context of its own, and handles of one context are invalid in
another. The primary context is retained, and pushed in whichever thread works.
"""

import ctypes
import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from engine.core.errors import DeviceError
from runtime.cuda.interface import HostBuffer

_log: Final = logging.getLogger(__name__)
_NON_BLOCKING: Final = 1
_THREAD_LOCAL: Final = 1


class PycudaDriver:
    """Opens sessions through ``pycuda.driver``."""

    name = "pycuda"

    def missing(self) -> str:
        """Return what is missing for it, "" if nothing."""
        return "" if find_spec("pycuda") else "pycuda is not installed: pip install pycuda"

    def open(self, ordinal: int = 0) -> "PycudaSession":
        """Retain a device's primary context and make a stream on it."""
        cuda = importlib.import_module("pycuda.driver")

        with _device_errors(cuda):
            cuda.init()
            device = cuda.Device(ordinal)
            context = device.retain_primary_context()
            context.push()
            try:
                return PycudaSession(cuda, device, context, ordinal)
            finally:
                cuda.Context.pop()


class PycudaSession:
    """One stream, one event and the memory and graphs of one loaded model.

    pycuda frees what it allocated when its objects go, which hold on to their context.
    """

    driver = PycudaDriver.name

    def __init__(self, cuda: Any, device: Any, context: Any, ordinal: int) -> None:
        self.ordinal = ordinal
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        self._cuda = cuda
        self._context = context
        flags = cuda.event_flags
        self._stream = cuda.Stream(_NON_BLOCKING)
        self._event = cuda.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING)
        self._memory: dict[int, Any] = {}
        self._graphs = _Graphs(self._stream.handle)
        self.stream = int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the primary context current in this thread, and what was current again after."""
        with _device_errors(self._cuda):
            self._context.push()
            try:
                yield
            finally:
                self._cuda.Context.pop()

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Allocate page-locked memory, mapped into the device's addresses if integrated."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.integrated else 0
        array = self._cuda.pagelocked_zeros(size_bytes, np.uint8, mem_flags=flags)
        seen_at = int(array.base.get_device_pointer()) if self.integrated else 0
        return HostBuffer(array, seen_at)

    def device_buffer(self, size_bytes: int) -> int:
        """Allocate the device's memory and return its address."""
        memory = self._cuda.mem_alloc(size_bytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def upload(self, address: int, source: HostBuffer) -> None:
        """Enqueue a copy of a whole host buffer to the device."""
        self._cuda.memcpy_htod_async(address, source.array, self._stream)

    def download(self, target: HostBuffer, address: int) -> None:
        """Enqueue a copy from the device that fills a host buffer."""
        self._cuda.memcpy_dtoh_async(target.array, address, self._stream)

    def finish(self) -> None:
        """Wait in a blocking-sync event until the stream has done all."""
        self._event.record(self._stream)
        self._event.synchronize()

    def begin_capture(self) -> None:
        """Record what this thread enqueues from here on instead of doing it."""
        self._graphs.begin()

    def end_capture(self) -> int:
        """Stop recording and return the graph's number."""
        return self._graphs.end()

    def launch(self, graph: int) -> None:
        """Enqueue a graph."""
        self._graphs.launch(graph)

    def free_bytes(self) -> int:
        """Return the device's free memory."""
        free, _total = self._cuda.mem_get_info()
        return int(free)

    def close(self) -> None:
        """Free all but the host buffers; closing twice does nothing, a dead device is logged."""
        if self._context is None:
            return
        try:
            with self.active():
                self._graphs.close()
                self._memory.clear()
                del self._event, self._stream
        except DeviceError as error:
            _log.warning("closing a CUDA session: %s", error)
        self._context = None


class _Graphs:
    """Stream capture and graphs, which pycuda does not wrap, asked of the driver directly."""

    def __init__(self, stream: int) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream = ctypes.c_void_p(stream)
        self._executables: list[ctypes.c_void_p] = []

    def begin(self) -> None:
        self._call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)

    def end(self) -> int:
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call(
                "cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_uint64(0)
            )
        finally:
            self._call("cuGraphDestroy", graph)
        self._executables.append(executable)
        return len(self._executables) - 1

    def launch(self, graph: int) -> None:
        self._call("cuGraphLaunch", self._executables[graph], self._stream)

    def close(self) -> None:
        executables, self._executables = self._executables, []
        for executable in executables:
            self._call("cuGraphExecDestroy", executable)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(status, ctypes.byref(text))
            label = text.value.decode() if text.value else "unknown error"
            raise DeviceError(f"{name} answered {status} ({label})")


@contextmanager
def _device_errors(cuda: Any) -> Iterator[None]:
    try:
        yield
    except cuda.Error as error:
        raise DeviceError(str(error)) from error
