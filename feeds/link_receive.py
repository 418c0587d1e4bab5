"""Takes what waits in a ZeroMQ socket into a preallocated buffer, in one call a burst.

``NativeReceive`` calls libzmq's own ``zmq_recv`` from compiled code: no Python runs between two
messages, and an empty socket costs no exception. ``PortableReceive`` does the same through pyzmq,
where its library cannot be found or compilation is switched off.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import zmq
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

_MAPS: Final = Path("/proc/self/maps")
_NOBLOCK: Final = int(zmq.NOBLOCK)


class Receive(Protocol):
    """Fills slots with messages, whole, in order of arrival."""

    def __call__(self) -> int:
        """Receive until nothing waits or every slot is full; return how many.

        Raises:
            zmq.ZMQError: the socket is closed or broken; what came before was returned.
        """
        ...


class _Library(NamedTuple):
    """Addresses of the functions of the libzmq that pyzmq uses."""

    zmq_recv: int
    zmq_errno: int


def make_receive(
    socket: zmq.Socket[bytes], buffer: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
) -> Receive:
    """Return the fastest way to receive that this machine has.

    Args:
        socket: A PULL that drops messages longer than a slot (``MAXMSGSIZE``). Only its thread
            calls what is returned.
        buffer: u1, contiguous; slot i is its i-th equal part.
        lengths: i8, contiguous, shape (slots,); gets the messages' lengths in bytes.
    """
    library = find_library()
    if library is None:
        return PortableReceive(socket, buffer, lengths)
    return NativeReceive(socket, buffer, lengths, library)


class PortableReceive:
    """Receives through pyzmq; a ``Receive``, arguments as of ``make_receive``."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        buffer: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        size = len(buffer) // len(lengths)
        whole = memoryview(buffer)  # type: ignore[arg-type] # an ndarray is a buffer
        self._slots = [whole[at * size : (at + 1) * size] for at in range(len(lengths))]
        self._lengths = lengths
        self._recv_into = socket.recv_into

    def __call__(self) -> int:
        """Receive until nothing waits or every slot is full; return how many."""
        receive = self._recv_into
        sizes: list[int] = []
        append = sizes.append
        try:
            for slot in self._slots:
                append(receive(slot, flags=_NOBLOCK))
        except zmq.Again:
            pass
        except zmq.ZMQError:
            if not sizes:
                raise
        self._lengths[: len(sizes)] = sizes
        return len(sizes)


class NativeReceive:
    """Receives through libzmq itself; a ``Receive``, arguments as of ``make_receive``."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        buffer: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int64],
        library: _Library,
    ) -> None:
        self._socket = socket
        self._kept = buffer
        self._lengths = lengths
        self._drain = _drain_entry()
        size = len(buffer) // len(lengths)
        self._fixed = (library.zmq_recv, library.zmq_errno, buffer.ctypes.data, size)

    def __call__(self) -> int:
        """Receive until nothing waits or every slot is full; return how many."""
        socket = self._socket
        if socket.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        count = self._drain(socket.underlying, self._lengths, *self._fixed)
        if count < 0:
            raise zmq.ZMQError(-count)
        return count


@cache
def find_library() -> _Library | None:
    """Return the libzmq in this process; None where there is not exactly one to be found."""
    if getattr(config, "DISABLE_JIT", 0) or not _MAPS.exists():
        return None
    found = {_functions_of(path) for path in _mapped()} - {None}
    return found.pop() if len(found) == 1 else None


def _mapped() -> list[str]:
    """Return the files with zmq in their names that this process has loaded."""
    fields = [line.split(maxsplit=5) for line in _MAPS.read_text(errors="replace").splitlines()]
    paths = {field[5] for field in fields if len(field) == 6}
    return sorted(path for path in paths if "zmq" in os.path.basename(path))


def _functions_of(path: str) -> _Library | None:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        version = [ctypes.c_int() for _ in range(3)]
        library.zmq_version(*map(ctypes.byref, version))
        addresses = [
            ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            for name in ("zmq_recv", "zmq_errno")
        ]
    except (OSError, AttributeError):
        return None
    if tuple(part.value for part in version) != zmq.zmq_version_info() or None in addresses:
        return None
    return _Library(*(address for address in addresses if address))


@intrinsic
def _zmq_recv(_context, address, socket, target, size, flags):  # type: ignore[no-untyped-def] # compiled
    """Call ``int zmq_recv(void *socket, void *buf, size_t len, int flags)`` at an address."""
    signature = types.int32(types.int64, types.int64, types.int64, types.int64, types.int32)

    def lower(_context, builder, _signature, args):  # type: ignore[no-untyped-def]
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer, pointer, ir.IntType(64), ir.IntType(32)])
        function = builder.inttoptr(args[0], kind.as_pointer())
        given = [builder.inttoptr(args[place], pointer) for place in (1, 2)]
        return builder.call(function, [*given, args[3], args[4]])

    return signature, lower


@intrinsic
def _zmq_errno(_context, address):  # type: ignore[no-untyped-def] # compiled
    """Call ``int zmq_errno(void)`` at an address."""

    def lower(_context, builder, _signature, args):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])

    return types.int32(types.int64), lower


_EAGAIN: Final = int(zmq.EAGAIN)
_EINTR: Final = int(errno.EINTR)


@njit(error_model="numpy", cache=True)
def _drain_nb(socket, lengths, zmq_recv, zmq_errno, base, size):  # type: ignore[no-untyped-def] # compiled
    """Return how many messages were received; the negative error number if none and it failed."""
    at = 0
    while at < len(lengths):
        received = _zmq_recv(zmq_recv, socket, base + at * size, size, np.int32(_NOBLOCK))  # type: ignore[call-arg,var-annotated] # numba gives the context
        if received >= 0:
            lengths[at] = received
            at += 1
            continue
        error = _zmq_errno(zmq_errno)
        if error == _EAGAIN:
            break
        if error != _EINTR:
            return at if at else -np.int64(error)
    return at


@cache
def _drain_entry() -> Callable[..., int]:
    """Return the machine code past numba's dispatch, which checks no type again."""
    i8 = types.int64
    kernel: Any = _drain_nb
    kernel.compile((i8, types.Array(i8, 1, "C"), i8, i8, i8, i8))
    entry: Callable[..., int] = next(iter(kernel.overloads.values())).entry_point
    return entry
