"""The parity vectors of a bundle: two float32 arrays in a NumPy archive (.npz).

Every size is held against its bound before memory is taken for it, and nothing is unpickled.
"""

import math
import threading
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.lib import format as npy

from engine.core.errors import BundleError
from engine.core.models import Floats, ModelShape

MAX_PARITY_ROWS: Final = 4096
MAX_PARITY_BYTES: Final = 64 << 20
_READ_HEADER: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEADERS: Final = threading.Lock()
"""NumPy has headers parsed as Python text, which CPython 3.11 does wrongly in two threads at once
where the garbage collection lets the second in: ``SystemError``."""
_BROKEN: Final = (
    OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ParityVectors(NamedTuple):
    """Windows, and what the reference form answered to them."""

    inputs: Floats
    """Shape (N, W, F)."""
    outputs: Floats
    """Shape (N, O)."""


def read_vectors(path: Path, inputs: str, outputs: str, shape: ModelShape) -> ParityVectors:
    """Read the vectors and hold them against the model's shape.

    Args:
        path: The archive.
        inputs: Name of the array of windows.
        outputs: Name of the array of answers.
        shape: The shape of one request.

    Raises:
        BundleError: the file is no such archive, or an array is missing, has another type or shape
            or too many rows, or holds something that is not finite.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            windows = _read_array(archive, path, inputs, (shape.window, shape.features))
            answers = _read_array(archive, path, outputs, (shape.outputs,))
    except _BROKEN as error:
        problem = f"it is no NumPy archive (.npz): {error}; make the bundle again"
        raise BundleError(path, problem) from None
    if len(windows) != len(answers):
        problem = f"{inputs!r} has {len(windows)} rows, {outputs!r} has {len(answers)}"
        raise BundleError(path, f"{problem}; make the bundle again")
    return ParityVectors(windows, answers)


def read_windows(path: Path, name: str, shape: ModelShape) -> Floats:
    """Read windows alone, shape (N, W, F), from an archive of the same kind.

    Raises:
        BundleError: as ``read_vectors``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_array(archive, path, name, (shape.window, shape.features))
    except _BROKEN as error:
        raise BundleError(path, f"it is no NumPy archive (.npz): {error}") from None


def write_vectors(path: Path, arrays: Mapping[str, Floats]) -> None:
    """Write arrays by their names; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as stream:
                npy.write_array(stream, np.ascontiguousarray(array, "<f4"), allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, path: Path, name: str, row: tuple[int, ...]) -> Floats:
    member = f"{name}.npy"
    if member not in archive.namelist():
        has = ", ".join(file.removesuffix(".npy") for file in archive.namelist()) or "nothing"
        raise BundleError(path, f"it has no array {name!r}; it has: {has[:200]}")
    with archive.open(member) as stream:
        read_header = _READ_HEADER.get(npy.read_magic(stream))
        if read_header is None:
            raise ValueError(f"{name!r} has a header of an unknown version")
        with _HEADERS:
            shape, is_fortran, dtype = read_header(stream)
        _check_header(path, name, shape, dtype, row)
        size_bytes = 4 * math.prod(shape)
        data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise ValueError(f"{name!r} is cut off")
    array = np.frombuffer(data, np.float32).reshape(shape, order="F" if is_fortran else "C")
    if not np.isfinite(array).all():
        raise BundleError(path, f"{name!r} holds NaN or infinity; make the vectors again")
    return array


def _check_header(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], row: tuple[int, ...]
) -> None:
    if dtype != np.dtype("<f4") or shape[1:] != row:
        wanted = ("N", *row)
        found = f"{name!r} is {dtype} {shape}"
        raise BundleError(path, f"{found}; the manifest asks for float32 {wanted}")
    if not 1 <= shape[0] <= MAX_PARITY_ROWS or 4 * math.prod(shape) > MAX_PARITY_BYTES:
        problem = f"{name!r} has {shape[0]} rows"
        limit = f"1 to {MAX_PARITY_ROWS} are read, and up to {MAX_PARITY_BYTES} bytes"
        raise BundleError(path, f"{problem}; {limit}")
