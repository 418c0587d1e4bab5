"""Tables into NumPy files: ``.npy``, one structured array, and ``.npz``, an array a column.

Both are written as rows come, whatever their number: a file's header leaves room for the count,
which is put in at the end.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from replay.export.table import Batch, Table

FACTS: Final = "heqis"
"""Name of the array in an ``.npz`` that holds the table's facts and units, a JSON text."""


class _NpyStream:
    """One ``.npy`` file of a length that is known at the end."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._file = path.open("wb", buffering=0)
        self._row = dtype
        self._count = 0
        try:
            self._write_header()
        except OSError:
            self._file.close()
            raise

    def write(self, rows: np.ndarray[Any, Any]) -> None:
        left = memoryview(np.ascontiguousarray(rows).tobytes())
        while left:
            left = left[self._file.write(left) :]
        self._count += len(rows)

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            self._file.seek(0)
            self._write_header()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        shape = (self._count, *self._row.shape)
        described = np.lib.format.dtype_to_descr(self._row.base)
        header = {"descr": described, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(self._file, header)


class NpySink:
    """A structured array, a field a column; ``numpy.load`` maps it with ``mmap_mode``."""

    def __init__(self, path: Path, table: Table) -> None:
        self._stream = _NpyStream(path, table.dtype)

    def write(self, batch: Batch) -> None:
        """Write rows."""
        self._stream.write(batch)

    def close(self) -> None:
        """Put in the count."""
        self._stream.close()


class NpzSink:
    """An array a column, gathered in files beside the target and put together at the end."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._table = table
        self._directory = Path(tempfile.mkdtemp(prefix=".heqis-", dir=path.parent))
        dtype = table.dtype
        self._streams: dict[str, _NpyStream] = {}
        try:
            for at, one in enumerate(table.columns):
                place = self._directory / f"{at}.npy"
                self._streams[one.name] = _NpyStream(place, dtype[one.name])
        except OSError:
            self._discard()
            raise

    def write(self, batch: Batch) -> None:
        """Write rows."""
        for name, stream in self._streams.items():
            stream.write(batch[name])

    def close(self) -> None:
        """Put the columns together."""
        try:
            for stream in self._streams.values():
                stream.close()
            self._zip()
        finally:
            self._discard()

    def _discard(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _zip(self) -> None:
        facts = {**self._table.facts, "units": units_of(self._table)}
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for at, name in enumerate(self._streams):
                archive.write(self._directory / f"{at}.npy", f"{name}.npy")
            with archive.open(f"{FACTS}.npy", "w") as file:
                text = orjson.dumps(facts, default=str).decode()
                np.lib.format.write_array(file, np.array(text), allow_pickle=False)


def units_of(table: Table) -> dict[str, str]:
    """Return the columns' units, of those that have one."""
    return {one.name: one.unit for one in table.columns if one.unit}
