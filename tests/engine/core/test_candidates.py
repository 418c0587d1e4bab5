"""The record a kernel writes and the object the gate reads have one layout."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.core.candidates import Candidate, candidate_of, candidates_of
from engine.core.records import CANDIDATE

NAMES = CANDIDATE.names or ()


def value_of(name: str) -> st.SearchStrategy[float]:
    dtype = CANDIDATE[name]
    if dtype.kind == "f":
        return st.floats(allow_nan=False)
    info = np.iinfo(dtype)
    return st.integers(int(info.min), int(info.max))


@given(st.lists(st.tuples(*map(value_of, NAMES)), max_size=5))
def test_every_field_is_read_where_it_was_written(rows: list[tuple[float, ...]]) -> None:
    records = np.zeros(len(rows) + 1, CANDIDATE)
    for record, row in zip(records, rows, strict=False):
        for name, value in zip(NAMES, row, strict=True):
            record[name] = value
    found = candidates_of(records.view(np.uint8).data, len(rows))
    assert found == [Candidate(*row) for row in rows]  # type: ignore[arg-type] # ints and floats
    assert found == [candidate_of(record) for record in records[: len(rows)]]


def test_records_stay_aligned_to_eight_bytes() -> None:
    assert CANDIDATE.itemsize == 136
    assert CANDIDATE.fields is not None
    for dtype, offset, *_ in CANDIDATE.fields.values():
        assert offset % dtype.itemsize == 0
