"""CUDA through ``pycuda``, where it is what a machine has.

Never ``pycuda.autoinit``: it makes a context of its own, and handles of one context are invalid in
another. The primary context is retained, and pushed in whichever thread works.
"""

import atexit
import ctypes
import importlib
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from engine.core.errors import DeviceError
from runtime.cuda.interface import HostBuffer

_log: Final = logging.getLogger(__name__)
_NON_BLOCKING: Final = 1
_THREAD_LOCAL: Final = 1
_MAPPED: Final = 2


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
            device, context = _primary(ordinal)
            context.push()
            try:
                return PycudaSession(cuda, device, context, ordinal)
            finally:
                cuda.Context.pop()


@cache
def _primary(ordinal: int) -> tuple[Any, Any]:
    """Retain a device's primary context until the process ends; return the device and it.

    pycuda's context cannot be let go of before: its destructor pushes a primary context and then
    takes it for one that it made itself, so that it stays current in whichever thread that was.
    """
    device = importlib.import_module("pycuda.driver").Device(ordinal)
    context = device.retain_primary_context()
    atexit.register(context.detach)
    return device, context


class PycudaSession:
    """One stream, one event and the memory and graphs of one loaded model.

    pycuda frees what it allocated when its objects go, if their context is current there or the
    thread is the one that made it. So that cannot be said of host buffers, which go when the last
    view does, in any thread: they are asked of the driver directly, as graphs are.
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
        block = _Block(self._context.handle, size_bytes, _MAPPED if self.integrated else 0)
        seen_at = ctypes.c_uint64()
        if self.integrated:
            _ask("cuMemHostGetDevicePointer_v2", ctypes.byref(seen_at), block.address, 0)
        return HostBuffer(np.asarray(block), seen_at.value)

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
        self._stream = ctypes.c_void_p(stream)
        self._executables: list[ctypes.c_void_p] = []

    def begin(self) -> None:
        _ask("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)

    def end(self) -> int:
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        _ask("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            _ask("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_uint64(0))
        finally:
            _ask("cuGraphDestroy", graph)
        self._executables.append(executable)
        return len(self._executables) - 1

    def launch(self, graph: int) -> None:
        _ask("cuGraphLaunch", self._executables[graph], self._stream)

    def close(self) -> None:
        executables, self._executables = self._executables, []
        for executable in executables:
            _ask("cuGraphExecDestroy", executable)


class _Block:
    """Page-locked memory that numpy views; freed with the last view, never before."""

    def __init__(self, context: int, size_bytes: int, flags: int) -> None:
        self.address = ctypes.c_void_p()
        size = ctypes.c_size_t(size_bytes)
        _ask("cuMemHostAlloc", ctypes.byref(self.address), size, ctypes.c_uint(flags))
        place = self.address.value or 0
        ctypes.memset(place, 0, size_bytes)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (size_bytes,),
            "data": (place, False),
        }
        weakref.finalize(self, _free_host, context, place).atexit = False


def _free_host(context: int, address: int) -> None:
    try:
        _ask("cuCtxPushCurrent_v2", ctypes.c_void_p(context))
        try:
            _ask("cuMemFreeHost", ctypes.c_void_p(address))
        finally:
            _ask("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
    except DeviceError as error:
        _log.warning("freeing page-locked memory: %s", error)


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _ask(name: str, *arguments: Any) -> None:
    """Call the driver itself, for what pycuda does not wrap or not so that it serves here."""
    status = getattr(_driver(), name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorName(status, ctypes.byref(text))
        label = text.value.decode() if text.value else "unknown error"
        raise DeviceError(f"{name} answered {status} ({label})")


@contextmanager
def _device_errors(cuda: Any) -> Iterator[None]:
    try:
        yield
    except cuda.Error as error:
        raise DeviceError(str(error)) from error
