"""Opens a table's file by its ending, and puts it in its place only when it is whole."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from engine.core.errors import ConfigError, InputFileError
from engine.core.suggest import did_you_mean
from replay.export.arrow_sink import ArrowSink, ParquetSink
from replay.export.numpy_sink import NpySink, NpzSink
from replay.export.table import Batch, Sink, Table

ROWS_A_WRITE: Final = 65_536
"""Rows gathered before they are written: a row group of Parquet."""
_SINKS: Final[Mapping[str, Callable[[Path, Table], Sink]]] = {
    ".parquet": ParquetSink,
    ".arrow": ArrowSink,
    ".feather": ArrowSink,
    ".npy": NpySink,
    ".npz": NpzSink,
}


class TableFile:
    """A file that is being written; ``rows`` counts what went into it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: list[Batch] = []
        self._count = 0
        self.rows = 0

    def write(self, batch: Batch) -> None:
        """Take rows, shape (N,); a copy is kept until enough are together."""
        if not len(batch):
            return
        self._waiting.append(batch.copy())
        self._count += len(batch)
        self.rows += len(batch)
        if self._count >= ROWS_A_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._sink.write(_joined(self._waiting))
        self._waiting.clear()
        self._count = 0


def _joined(batches: list[Batch]) -> Batch:
    out = np.empty(sum(map(len, batches)), batches[0].dtype)
    np.concatenate(batches, out=out)
    return out


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a file that cannot be made, before any work is done for it.

    Raises:
        ConfigError: an ending that is not known, a directory that is not there, or a file that is
            and may not be replaced.
    """
    if path.suffix not in _SINKS:
        known = ", ".join(_SINKS)
        expected = f"{did_you_mean(path.suffix, _SINKS)}its ending says the format: {known}"
        raise ConfigError("command line", "--out", str(path), expected)
    if not path.parent.is_dir():
        expected = "a file in a directory that is there"
        raise ConfigError("command line", "--out", str(path), expected)
    if path.exists() and (not overwrite or path.is_dir()):
        expected = "there is such a file; give another name, or --overwrite"
        raise ConfigError("command line", "--out", str(path), expected)


@contextlib.contextmanager
def open_table(path: Path, table: Table, *, overwrite: bool = False) -> Iterator[TableFile]:
    """Give a file to write rows into; where anything goes wrong none is left.

    Args:
        path: The file; .parquet, .arrow, .feather, .npy or .npz.
        table: Its columns.
        overwrite: Replace a file that is there.

    Raises:
        ConfigError: as ``check_target``.
        InputFileError: the disk refuses.
    """
    check_target(path, overwrite=overwrite)
    part = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        sink = _SINKS[path.suffix](part, table)
        try:
            file = TableFile(sink)
            yield file
            file.flush()
        finally:
            sink.close()
        part.replace(path)
    except (OSError, pa.ArrowException) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise InputFileError(path, f"it cannot be written: {told}") from None
    finally:
        part.unlink(missing_ok=True)
