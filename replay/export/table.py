"""What a table's columns are: names, types, units and meanings, whatever file they go into.

A table comes as batches: structured arrays whose fields are the columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.void]
"""Rows of a table, a structured array of ``Table.dtype``, shape (N,)."""


class Kind(StrEnum):
    """How a column is to be read, beyond its type."""

    NUMBER = "number"
    TIME = "time"
    """int64 nanoseconds since 1970-01-01 UTC; Arrow files have it as timestamp[ns, UTC]."""
    TEXT = "text"
    """ASCII or UTF-8 bytes, padded; Arrow files have it as strings."""
    BOOL = "bool"


class Column(NamedTuple):
    """One column; ``type`` is a numpy type, or one with a shape as in ``("f8", (10,))``."""

    name: str
    type: Any
    unit: str = ""
    doc: str = ""
    kind: Kind = Kind.NUMBER
    null: int | None = None
    """The value that stands for unknown; NaN does in floats."""


@dataclass(frozen=True)
class Table:
    """Columns in order, and facts about the whole that go into the file."""

    columns: tuple[Column, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The rows' type, without padding."""
        return np.dtype([(one.name, *_type(one)) for one in self.columns])

    def empty(self, count: int) -> Batch:
        """Return rows to be filled in, all zero."""
        return np.zeros(count, self.dtype)


def _type(column: Column) -> tuple[Any, ...]:
    return column.type if isinstance(column.type, tuple) else (column.type,)


class Sink(Protocol):
    """Takes a table's rows, batch after batch."""

    def write(self, batch: Batch) -> None:
        """Take rows; they may be used again afterwards."""
        ...

    def close(self) -> None:
        """Write the end."""
        ...


def fill(rows: Batch, records: npt.NDArray[np.void], names: Iterable[str]) -> None:
    """Copy fields of the same name."""
    for name in names:
        rows[name] = records[name]


def time_column(name: str, doc: str) -> Column:
    """Return a column of times."""
    return Column(name, "<i8", "ns since 1970-01-01 UTC", doc, Kind.TIME)


def text_column(name: str, length: int, doc: str) -> Column:
    """Return a column of texts of at most ``length`` bytes."""
    return Column(name, f"S{length}", "", doc, Kind.TEXT)
