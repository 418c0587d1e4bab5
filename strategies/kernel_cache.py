"""Compiled kernels on disk, under a key made of every source that went in.

numba's own cache looks only at the file a function stands in and would run a stale kernel after an
edit to a helper in another file. Here the file's directory is named by a hash over the generated
text, the whole source file and the code of every compiled function reachable from it, the constants
those functions read, numba's settings, and the versions of Python, numba, llvmlite and numpy: any
change makes a new directory, so what is found is never stale.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import EnumType
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
import numpy as np
from numba.core.registry import CPUDispatcher

KEPT_KERNELS: Final = 64
"""Most kernel directories kept on disk; the least recently used go first."""

_SETTINGS: Final = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
"""Settings of numba that change compiled code but not the key of its own cache."""


@dataclass
class _Loaded:
    """Modules of this process by key, the oldest first, where it shares them."""

    shared: bool = False
    modules: dict[str, types.ModuleType] = field(default_factory=dict)


_loaded: Final = _Loaded()


def share_modules(*, shared: bool = True) -> None:
    """Let kernels of one key in this process be one module from now on, or no longer.

    For a process that builds the same kernels again and again with other parameters: the next one
    is neither compiled nor read from disk. At most ``KEPT_KERNELS`` are held.
    """
    _loaded.shared = shared
    _loaded.modules.clear()


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
    settings = (f"{name}={getattr(numba.config, name, None)}" for name in _SETTINGS)
    for part in (*versions, *settings, platform.machine(), source):
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
    if key in _loaded.modules:
        return _loaded.modules[key]
    path = _place(cache_directory() / key, source)
    module = types.ModuleType(f"heqis_kernel_{key}")
    module.__dict__.update(bindings)
    module.__dict__["CACHE"] = path is not None
    module.__file__ = str(path) if path else "<kernel>"
    code = compile(source, module.__file__, "exec")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    if _loaded.shared:
        while len(_loaded.modules) >= KEPT_KERNELS:
            del _loaded.modules[next(iter(_loaded.modules))]
        _loaded.modules[key] = module
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
            os.utime(draft, (0, 0))  # numba's stamp: the same from every process
            draft.replace(path)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # another process prunes too
        _prune(directory.parent)
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
        yield from _of_function(function, seen)
    elif isinstance(value, np.ndarray):
        yield str(value.dtype).encode() + value.tobytes()
    elif isinstance(value, tuple):
        for part in value:
            yield from _ingredients(part, seen)
    elif callable(value):
        yield _module_source(value)
        yield repr(list(value)).encode() if isinstance(value, EnumType) else _name_of(value)
    elif not isinstance(value, types.ModuleType):
        yield repr(value).encode()


def _of_function(function: types.FunctionType, seen: set[int]) -> Iterator[bytes]:
    """Yield the source as it is on disk and the code as it was imported: they may differ."""
    yield _read(function.__code__.co_filename)
    yield function.__qualname__.encode()
    yield repr(function.__defaults__).encode()
    codes = list(_codes_in(function.__code__))
    for code in codes:
        yield code.co_code
        yield from (_constant(one) for one in code.co_consts)
    names = sorted({name for code in codes for name in code.co_names})
    used = _found(names, function.__globals__, set())
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, value in (*used, *((name, cell.cell_contents) for name, cell in cells)):
        yield name.encode()
        yield from _ingredients(value, seen)


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


def _constant(value: object) -> bytes:
    if isinstance(value, types.CodeType):
        return value.co_name.encode()
    if isinstance(value, frozenset):
        return repr(sorted(map(repr, value))).encode()
    return repr(value).encode()


def _found(
    names: list[str], scope: Mapping[str, object], seen: set[str]
) -> Iterator[tuple[str, object]]:
    """Yield what the names stand for, and what they stand for in the modules among them."""
    for name in names:
        if name in scope:
            value = scope[name]
            yield name, value
            if not isinstance(value, types.ModuleType) or _versioned(value.__name__):
                continue
            if value.__name__ not in seen:
                seen.add(value.__name__)
                yield from _found(names, vars(value), seen)


def _versioned(module: str) -> bool:
    """Say whether a module's version is in the key, so that its content need not be."""
    top = module.partition(".")[0]
    return top in ("numba", "numpy", "llvmlite") or top in sys.stdlib_module_names


def _module_source(value: object) -> bytes:
    module = str(getattr(value, "__module__", None) or "builtins")
    file = getattr(sys.modules.get(module), "__file__", None)
    return b"" if file is None or _versioned(module) else _read(file)


def _name_of(value: object) -> bytes:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return (f"{getattr(value, '__module__', '')}.{name}" if name else repr(value)).encode()


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""
