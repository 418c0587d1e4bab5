"""Asks the CUDA driver and TensorRT what they have; run as a script, in a process that may die.

Usage: ``python -P probe_child.py cuda|tensorrt``. Writes one JSON object on stdout. Imports
nothing but the standard library and, for ``tensorrt``, the module named by the second argument.
"""

import ctypes
import importlib
import json
import sys
from typing import Any, Final

_MAJOR: Final = 75
_MINOR: Final = 76
_INTEGRATED: Final = 18
_NAME_BYTES: Final = 128


class DriverError(Exception):
    """The CUDA driver answered a call with an error code."""


def ask_cuda() -> dict[str, Any]:
    """Initialise the driver and list its devices."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"problem": "no driver: libcuda.so.1 is not here"}
    try:
        _call(driver, "cuInit", 0)
        version, count = ctypes.c_int(), ctypes.c_int()
        _call(driver, "cuDriverGetVersion", ctypes.byref(version))
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        devices = [_device(driver, ordinal) for ordinal in range(count.value)]
    except DriverError as error:
        return {"problem": str(error)}
    return {"version": version.value, "devices": devices}


def ask_tensorrt(module: str) -> dict[str, Any]:
    """Make a TensorRT runtime and count its DLA cores."""
    tensorrt = importlib.import_module(module)
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
    if not runtime:
        return {"version": tensorrt.__version__, "problem": "it gave no runtime"}
    return {
        "version": tensorrt.__version__,
        "dla_cores": int(getattr(runtime, "num_DLA_cores", 0)),
    }


def _device(driver: ctypes.CDLL, ordinal: int) -> dict[str, Any]:
    handle = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(handle), ordinal)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, handle)
    memory = ctypes.c_size_t()
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    return {
        "name": name.value.decode(errors="replace"),
        "sm": 10 * _attribute(driver, _MAJOR, handle) + _attribute(driver, _MINOR, handle),
        "memory_bytes": memory.value,
        "integrated": bool(_attribute(driver, _INTEGRATED, handle)),
    }


def _attribute(driver: ctypes.CDLL, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(driver, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorName(status, ctypes.byref(text))
        label = text.value.decode() if text.value else "unknown error"
        raise DriverError(f"{name} answered {status} ({label})")


if __name__ == "__main__":
    answer = ask_cuda() if sys.argv[1] == "cuda" else ask_tensorrt(sys.argv[2])
    sys.stdout.write(json.dumps(answer) + "\n")
