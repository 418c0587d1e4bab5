"""Tables into Parquet and Arrow files, with units and meanings in the schema's metadata."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from replay.export.table import Batch, Column, Kind, Table

FACTS: Final = b"heqis"
"""Key of the table's facts, a JSON object, in the schema's metadata."""


def arrow_schema(table: Table) -> Any:
    """Return a table's ``pyarrow.Schema``; a field's metadata has ``unit`` and ``doc``."""
    fields = [pa.field(one.name, _arrow_type(one), metadata=_told(one)) for one in table.columns]
    return pa.schema(fields, metadata={FACTS: orjson.dumps(dict(table.facts), default=str)})


class ParquetSink:
    """One Parquet file, a row group a batch."""

    def __init__(self, path: Path, table: Table) -> None:
        self._table = table
        self._schema = arrow_schema(table)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, batch: Batch) -> None:
        """Write a row group."""
        self._writer.write_batch(record_batch(self._table, self._schema, batch))

    def close(self) -> None:
        """Write the end."""
        self._writer.close()


class ArrowSink:
    """One Arrow IPC file, which is also Feather version 2."""

    def __init__(self, path: Path, table: Table) -> None:
        self._table = table
        self._schema = arrow_schema(table)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True, unify_dictionaries=False)
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema, options=options)

    def write(self, batch: Batch) -> None:
        """Write a record batch."""
        self._writer.write_batch(record_batch(self._table, self._schema, batch))

    def close(self) -> None:
        """Write the end."""
        try:
            self._writer.close()
        finally:
            self._file.close()


def record_batch(table: Table, schema: Any, batch: Batch) -> Any:
    """Return rows as a ``pyarrow.RecordBatch``."""
    arrays = [_array(one, batch[one.name]) for one in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _arrow_type(column: Column) -> Any:
    if column.kind is Kind.TIME:
        return pa.timestamp("ns", tz="UTC")
    if column.kind is Kind.TEXT:
        return pa.string()
    if column.kind is Kind.BOOL:
        return pa.bool_()
    if isinstance(column.type, tuple):
        return pa.list_(pa.from_numpy_dtype(np.dtype(column.type[0])), column.type[1][0])
    return pa.from_numpy_dtype(np.dtype(column.type))


def _told(column: Column) -> dict[str, str]:
    return {name: text for name, text in (("unit", column.unit), ("doc", column.doc)) if text}


def _array(column: Column, values: np.ndarray[Any, Any]) -> Any:
    if column.kind is Kind.TEXT:
        return _texts(values)
    if isinstance(column.type, tuple):
        flat = pa.array(np.ascontiguousarray(values).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, column.type[1][0])
    mask = None if column.null is None else values == column.null
    plain = values.astype(np.bool_) if column.kind is Kind.BOOL else np.ascontiguousarray(values)
    return pa.array(plain, type=_arrow_type(column), mask=mask)


def _texts(values: np.ndarray[Any, Any]) -> Any:
    """Return strings by way of the few different ones."""
    known, places = np.unique(values, return_inverse=True)
    names = pa.array([one.decode() for one in known.tolist()], pa.string())
    return names.take(pa.array(places.ravel()))
