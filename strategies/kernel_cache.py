"""Compiled kernels on disk, under a key made of every source that went in.

numba's own cache looks only at the file a function stands in and would run a stale kernel after an
edit to a helper in another file. Here the file's directory is named by a hash over the generated
text, the whole source file of every compiled function reachable from it, the constants those
functions read, and the versions of Python, numba, llvmlite and numpy: any change makes a new
directory, so what is found is never stale.
"""

import hashlib
import inspect
import os
import platform
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
import numpy as np
from numba.core.registry import CPUDispatcher

KEPT_KERNELS: Final = 64
"""Most kernel directories kept on disk; the least recently used go first."""


def cache_directory() -> Path:
    """Return where kernels are kept: HEQIS_CACHE_DIR, else the user's cache directory."""
    given = os.environ.get("HEQIS_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base else Path.home() / ".cache"
    return (Path(given) if given else root / "heqis") / "kernels"


def kernel_key(source: str, bindings: Mapping[str, Any]) -> str:
    """Return the key of a generated source with what its names stand for, 32 hex characters."""
    digest = hashlib.sha256()
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    for part in (*versions, platform.machine(), source):
        _add(digest, part.encode())
    for name in sorted(bindings):
        _add(digest, name.encode())
        for part in _ingredients(bindings[name], set()):
            _add(digest, part)
    return digest.hexdigest()[:32]


def load_module(source: str, bindings: Mapping[str, Any]) -> types.ModuleType:
    """Execute generated source from its place in the cache, with its names bound.

    Functions marked ``cache=CACHE`` are cached by numba beside it. Where the directory cannot be
    written, the module works all the same, compiled anew each time.
    """
    key = kernel_key(source, bindings)
    path = _place(cache_directory() / key, source)
    module = types.ModuleType(f"heqis_kernel_{key}")
    module.__dict__.update(bindings)
    module.__dict__["CACHE"] = path is not None
    module.__file__ = str(path) if path else "<kernel>"
    code = compile(source, module.__file__, "exec")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    return module


def _place(directory: Path, source: str) -> Path | None:
    path = directory / "kernel.py"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists():
            os.utime(directory)
        else:
            draft = directory / f".kernel.{os.getpid()}"
            draft.write_text(source)
            draft.replace(path)
            _prune(directory.parent)
    except OSError:
        return None
    return path


def _prune(root: Path) -> None:
    kept = sorted(root.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in kept[KEPT_KERNELS:]:
        shutil.rmtree(entry, ignore_errors=True)


def _add(digest: Any, part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


def _ingredients(value: object, seen: set[int]) -> Iterator[bytes]:
    """Yield everything that compiled code made from ``value`` depends on."""
    if id(value) in seen:
        return
    seen.add(id(value))
    function = value.py_func if isinstance(value, CPUDispatcher) else value
    if isinstance(function, types.FunctionType):
        yield Path(inspect.getsourcefile(function) or "").read_bytes()
        yield function.__qualname__.encode()
        for name, used in _names_used(function):
            yield name.encode()
            yield from _ingredients(used, seen)
    elif isinstance(value, np.ndarray):
        yield str(value.dtype).encode() + value.tobytes()
    elif not isinstance(value, types.ModuleType):
        yield repr(value).encode()


def _names_used(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    for name in code.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents
