"""Tops of books as DEPTH5 and DEPTH10 records."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import RECORD_DTYPES, Schema, TickFlag

DEPTH_SCHEMAS: Final = {5: Schema.DEPTH5, 10: Schema.DEPTH10}
"""The schema of a depth frame by its number of levels."""
Top = npt.NDArray[np.float64]
"""Shape (4, L), as ``LevelBook.top``."""
DepthRecords = npt.NDArray[np.void]
"""A structured array of DEPTH5 or DEPTH10, shape (N,)."""


def depth_record(
    top: Top,
    *,
    used: int,
    instrument: int,
    update_id: int,
    ts_event: int,
    ts_recv: int,
    flags: int = 0,
) -> DepthRecords:
    """Make one record, shape (1,), of the best levels of a book.

    Args:
        top: f8, shape (4, 5) or (4, 10), as ``LevelBook.top``.
        used: Levels in use on the side that has more; 0 says that the book is not known.
        instrument: The instrument's id.
        update_id: The venue's number of the book's last change, 0 if it gives none.
        ts_event: The venue's time of it, ns.
        ts_recv: Receive time of what changed it, ns.
        flags: TickFlag of the book.
    """
    row = np.zeros(1, RECORD_DTYPES[DEPTH_SCHEMAS[top.shape[1]]])
    row["ts_event"] = ts_event
    row["ts_recv"] = ts_recv
    row["update_id"] = update_id
    row["instrument"] = instrument
    row["flags"] = flags
    row["levels"] = used
    row["bid"], row["ask"], row["bid_size"], row["ask_size"] = top
    return row


def top_flags(top: Top) -> int:
    """Return the TickFlags that the best levels of a top call for."""
    bid, ask = top[0, 0], top[1, 0]
    if np.isnan(bid) or np.isnan(ask):
        return 0 if np.isnan(bid) and np.isnan(ask) else TickFlag.ONE_SIDED
    if bid < ask:
        return 0
    return TickFlag.CROSSED if bid > ask else TickFlag.LOCKED


def schema_of(records: DepthRecords) -> Schema:
    """Return DEPTH5 or DEPTH10, by the records' own dtype.

    Raises:
        ValueError: they are neither.
    """
    for schema in DEPTH_SCHEMAS.values():
        if records.dtype == RECORD_DTYPES[schema]:
            return schema
    raise ValueError(f"{records.dtype} is no dtype of depth records")
