"""Examines the software HEQIS stands on: Python, libraries, the kernel cache."""

import asyncio
import importlib
import os
import platform
import sqlite3
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

from engine.finding import Finding, Status
from runtime.probe import probe_module

OLDEST_PYTHON: Final = (3, 11)
NEWEST_PYTHON: Final = (3, 13)
_OLDEST_PYZMQ: Final = (26, 4)
_FIXED_SQLITE: Final = (3, 51, 3)
_THREADING: Final = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
_REINSTALL: Final = "install HEQIS again in a fresh virtual environment"


def stack_findings() -> list[Finding]:
    """Examine the interpreter and the libraries this process would use."""
    checks: tuple[Callable[[], Finding], ...] = (
        lambda: judge_python(sys.version_info[:2], platform.python_version()),
        check_uvloop,
        check_zeromq,
        check_aiozmq,
        check_numba,
        check_kernel_cache,
        lambda: check_library("numpy", "structured arrays: bursts, state, logs"),
        lambda: judge_sqlite(sqlite3.sqlite_version_info, sqlite3.sqlite_version),
        lambda: check_library("websockets", "the signal stream"),
        lambda: check_library("exchange_calendars", "trading sessions", "exchange-calendars"),
    )
    return [check() for check in checks]


def judge_python(release: tuple[int, ...], version: str) -> Finding:
    """Judge the interpreter's version."""
    supported = OLDEST_PYTHON <= release <= NEWEST_PYTHON
    return Finding(
        "Python",
        Status.OK if supported else Status.MISSING,
        f"{platform.python_implementation()} {version}",
        "everything",
        "" if supported else "use CPython 3.11, 3.12 or 3.13 (aiozmq does not import on 3.14)",
        required=True,
    )


def check_uvloop() -> Finding:
    """Import uvloop and run a coroutine on it."""
    module = _import("uvloop")
    if isinstance(module, str):
        return _absent("uvloop", module, "the event loop")
    module.run(asyncio.sleep(0))
    return Finding("uvloop", Status.OK, module.__version__, "the event loop", required=True)


def check_zeromq() -> Finding:
    """Import pyzmq and ask libzmq what it can do."""
    needed_for = "the link between gateway and engine"
    module = _import("zmq")
    if isinstance(module, str):
        return _absent("ZeroMQ", module, needed_for)
    recent = module.pyzmq_version_info()[:2] >= _OLDEST_PYZMQ
    curve = bool(module.has("curve"))
    found = f"libzmq {module.zmq_version()}, pyzmq {module.__version__}"
    advice = "" if curve else "no encryption between machines: install pyzmq's own wheel"
    return Finding(
        "ZeroMQ",
        Status.MISSING if not recent else Status.OK if curve else Status.WARN,
        f"{found}, CURVE {'yes' if curve else 'no'}",
        needed_for,
        advice if recent else "pyzmq 26.4 or newer: older ones cannot receive into a buffer",
        required=True,
    )


def check_aiozmq() -> Finding:
    """Import aiozmq, which no longer imports on Python 3.14."""
    module = _import("aiozmq")
    if isinstance(module, str):
        return _absent("aiozmq", module, "the control channel")
    version = str(module.__version__).strip()
    return Finding("aiozmq", Status.OK, version, "the control channel", required=True)


def check_numba() -> Finding:
    """Import numba; say what it can run on and whether compilation is switched off."""
    module = _import("numba")
    if isinstance(module, str):
        return _absent("numba", module, "compiled kernels")
    layers = [
        name for name, part in _THREADING.items() if find_spec(f"numba.np.ufunc.{part}") is not None
    ]
    off = bool(module.config.DISABLE_JIT)
    return Finding(
        "numba",
        Status.WARN if off else Status.OK,
        f"{module.__version__}, {module.config.NUMBA_NUM_THREADS} threads ({', '.join(layers)})",
        "compiled kernels",
        "NUMBA_DISABLE_JIT is set: kernels run as Python, 100 times slower" if off else "",
        required=True,
    )


def check_kernel_cache() -> Finding:
    """Look where generated kernels are kept, and whether they may be written there."""
    try:
        from strategies.kernel_cache import cache_directory
    except ImportError as error:
        return _absent("kernel cache", str(error), "quick starts")
    return judge_kernel_cache(cache_directory())


def judge_kernel_cache(place: Path) -> Finding:
    """Judge the cache directory: without one, every start compiles anew."""
    nearest = next(path for path in (place, *place.resolve().parents) if path.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return Finding(
        "kernel cache",
        Status.OK if writable else Status.WARN,
        f"{place}{'' if writable else ', not writable'}",
        "quick starts",
        "" if writable else "set HEQIS_CACHE_DIR to a directory that can be written",
    )


def judge_sqlite(release: tuple[int, ...], version: str) -> Finding:
    """Judge SQLite; versions 3.7.0 to 3.51.2 can lose a WAL reset when two connections write."""
    note = (
        "" if release >= _FIXED_SQLITE else "; its WAL bug with two writers is avoided: one writer"
    )
    return Finding("SQLite", Status.OK, f"{version}{note}", "the journal", required=True)


def check_library(module: str, needed_for: str, package: str | None = None) -> Finding:
    """Look for a required library without importing it."""
    found = probe_module(module, package)
    if not found.present:
        return _absent(module, "not installed", needed_for)
    return Finding(module, Status.OK, found.version or "installed", needed_for, required=True)


def _import(name: str) -> ModuleType | str:
    """Import a module, or say why that fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, AttributeError) as error:
            return str(error)


def _absent(subject: str, why: str, needed_for: str) -> Finding:
    return Finding(subject, Status.MISSING, why, needed_for, _REINSTALL, required=True)
