from collections.abc import Iterator
from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.core.records import empty_ticks, instrument_row
from feeds.importers.merging import AT_ONCE, Batch, Source, merge_sources

SOURCES = st.lists(st.lists(st.lists(st.integers(1, 30), max_size=5), max_size=5), max_size=4)


def batches(times: list[list[int]], place: int) -> Iterator[Batch]:
    latest, row = 0, 0
    for chunk in times:
        ticks = empty_ticks(len(chunk))
        for i, step in enumerate(chunk):
            latest = max(latest, step)
            ticks["ts_recv"][i] = latest
        rows = np.arange(row, row + len(chunk))
        row += len(chunk)
        yield Batch(ticks, rows, np.full(len(chunk), place, np.int32))


@given(SOURCES, st.booleans())
def test_merging_equals_sorting_everything_at_once(
    times: list[list[list[int]]], lazily: bool
) -> None:
    sources = []
    expected = []
    for place, source in enumerate(times):
        whole = list(batches(source, place))
        firsts = [int(batch.ticks["ts_recv"][0]) for batch in whole if len(batch.ticks)]
        not_before = firsts[0] if lazily and firsts else AT_ONCE
        sources.append(Source(partial(batches, source, place), not_before))
        expected += [
            (int(ts), place, int(row))
            for batch in whole
            for ts, row in zip(batch.ticks["ts_recv"], batch.rows, strict=True)
        ]
    merged = [
        (int(ts), int(place), int(row))
        for batch in merge_sources(sources)
        for ts, place, row in zip(batch.ticks["ts_recv"], batch.places, batch.rows, strict=True)
    ]
    assert merged == sorted(expected)


def test_a_source_is_opened_only_when_its_time_may_have_come() -> None:
    opened: list[str] = []

    def source(name: str, first: int) -> Iterator[Batch]:
        opened.append(name)
        yield from batches([[first], [first + 10]], 0)

    merged = merge_sources(
        [Source(lambda: source("late", 1000), 1000), Source(lambda: source("early", 1), 1)]
    )
    next(merged)
    assert opened == ["early"]
    assert len(list(merged)) == 3
    assert opened == ["early", "late"]


def test_definitions_ride_with_the_first_record_of_their_batch() -> None:
    row = instrument_row("A.X")

    def source() -> Iterator[Batch]:
        first, second = batches([[1, 5], [9]], 0)
        yield first
        yield second._replace(definitions=(row,))

    merged = list(merge_sources([Source(source), Source(lambda: batches([[2], [3, 20]], 1))]))
    before = [len(batch.ticks) for batch in merged if not batch.definitions]
    assert sum(len(batch.ticks) for batch in merged) == 6
    assert [len(batch.definitions) for batch in merged].count(1) == 1
    assert sum(before) >= 4
