"""Reads event arrays from .npz and .npy files, some thousand rows at a time."""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from engine.core.errors import InputFileError
from feeds.importers.reading import ByteMeter, reading

ROWS_AT_ONCE: Final = 65_536
_FIELDS: Final = {"ev": "u8", "exch_ts": "i8", "local_ts": "i8", "px": "f8", "qty": "f8"}
_NPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"
_MEMBER: Final = "data.npy"
_BAD_HEADER: Final = (
    ValueError, TypeError, KeyError, SyntaxError, TokenError, RecursionError, MemoryError, Warning,
)  # fmt: skip
"""What NumPy lets through where a header is no literal of a dict; a header of old is one too."""
_EXPECTED: Final = (
    "an event array has the fields ev (u8), exch_ts (i8), local_ts (i8), px (f8), qty (f8)"
)


class EventRows(NamedTuple):
    """Some rows of one file.

    Args:
        rows: A structured array with at least the fields ev, exch_ts, local_ts, px and qty.
        first_row: Number of the first, from 1.
    """

    rows: npt.NDArray[np.void]
    first_row: int


def read_events(path: Path, meter: ByteMeter) -> Iterator[EventRows]:
    """Yield a file's rows in order: of a .npy, or of the member ``data`` of a .npz.

    Raises:
        InputFileError: missing, damaged, cut off, or no event array.
    """
    with reading(path), path.open("rb") as file, _array(path, file) as stream:
        dtype, left = _header(path, stream)
        row, told = 1, 0
        while left:
            count = min(left, ROWS_AT_ONCE)
            data = stream.read(count * dtype.itemsize)
            if len(data) < count * dtype.itemsize:
                raise InputFileError(path, f"cut off after row {row + len(data) // dtype.itemsize}")
            meter(max(file.tell() - told, 0))
            told = max(file.tell(), told)
            yield EventRows(np.frombuffer(data, dtype), row)
            row += count
            left -= count
        stream.read(1)


@contextmanager
def _array(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Open the array's own bytes; a zip checks them when they have been read to the end."""
    magic = file.read(6)
    file.seek(0)
    if magic == _NPY:
        yield file
        return
    if magic[:4] != _ZIP:
        raise InputFileError(path, f"is neither .npz nor .npy: begins with {magic!r}")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if _MEMBER not in names:
            raise InputFileError(path, f"has no array 'data'; it holds {', '.join(names) or '-'}")
        with archive.open(_MEMBER) as stream:
            yield stream


def _header(path: Path, stream: IO[bytes]) -> tuple[np.dtype[Any], int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
    except _BAD_HEADER as error:
        raise InputFileError(path, f"damaged array header: {error}") from None
    missing = [
        name
        for name, kind in _FIELDS.items()
        if dtype.names is None or name not in dtype.names or dtype[name] != np.dtype(f"<{kind}")
    ]
    if missing or len(shape) != 1 or dtype.hasobject:
        found = f"shape {shape}, {dtype}"
        raise InputFileError(path, f"found {found}; {_EXPECTED}")
    return dtype, int(shape[0])
