"""Pages of older signals: what many clients ask for is read once, and never a page that changes."""

import asyncio

import pytest
from stream_fakes import make_signal

from engine.core.errors import JournalError
from engine.stream_pages import MAX_PAGES, PageReader
from engine.stream_ring import SignalEntry, make_entry

EPOCH = 7
ROWS = 10


class Store:
    """Signals of an epoch by number, and of the one before; counts its reads."""

    def __init__(self, numbers: list[int], past: list[int] | None = None) -> None:
        self.signals = [make_entry(make_signal(EPOCH, seq)) for seq in numbers]
        self.past = [make_entry(make_signal(EPOCH - 1, seq)) for seq in past or []]
        self.reads: list[tuple[int, int, int]] = []
        self.broken = False

    async def read_published(self, epoch: int, from_seq: int, limit: int) -> list[SignalEntry]:
        self._note(epoch, from_seq, limit)
        return [entry for entry in self.signals if entry.seq >= from_seq][:limit]

    async def read_past(
        self, epoch: int, from_seq: int, before_epoch: int, limit: int
    ) -> list[SignalEntry]:
        assert before_epoch == EPOCH
        self._note(epoch, from_seq, limit)
        return [entry for entry in self.past if entry.seq >= from_seq][:limit]

    async def read_newest(self, limit: int) -> list[SignalEntry]:
        raise AssertionError

    def _note(self, epoch: int, from_seq: int, limit: int) -> None:
        if self.broken:
            raise JournalError("no disk")
        self.reads.append((epoch, from_seq, limit))


def make(store: Store | None) -> tuple[PageReader, dict[str, int]]:
    counters = {"page_reads": 0, "page_errors": 0}
    return PageReader(store, EPOCH, ROWS, counters), counters


def read(reader: PageReader, from_seq: int, epoch: int = EPOCH) -> list[int]:
    return [entry.seq for entry in asyncio.run(reader.read(epoch, from_seq))]


@pytest.mark.parametrize("from_seq", [1, 2, 10, 11, 15, 20, 95, 100])
def test_a_page_holds_the_place_wherever_in_it_that_lies(from_seq: int) -> None:
    reader, _ = make(Store(list(range(1, 101))))
    page = read(reader, from_seq)
    assert from_seq in page
    assert len(page) == ROWS


def test_all_who_want_the_same_page_cost_one_read() -> None:
    store = Store(list(range(1, 101)))
    reader, counters = make(store)
    for _ in range(50):
        for from_seq in (31, 38, 40):
            assert read(reader, from_seq) == list(range(31, 41))
    assert store.reads == [(EPOCH, 31, ROWS)]
    assert counters == {"page_reads": 1, "page_errors": 0}


def test_a_page_that_may_grow_is_read_again() -> None:
    store = Store(list(range(1, 16)))
    reader, _ = make(store)
    assert read(reader, 12) == list(range(11, 16))
    store.signals.append(make_entry(make_signal(EPOCH, 16)))
    assert read(reader, 12) == list(range(11, 17))
    assert read(reader, 16) == list(range(11, 17))


def test_where_signals_are_missing_a_page_reaches_further_and_still_holds_the_next_one() -> None:
    numbers = [seq for seq in range(1, 101) if seq % 3 == 0]
    reader, _ = make(Store(numbers))
    for from_seq in range(1, 91):
        wanted = next(seq for seq in numbers if seq >= from_seq)
        assert wanted in read(reader, from_seq), from_seq


def test_an_earlier_epoch_has_ended_so_even_its_empty_page_is_read_once() -> None:
    store = Store([], past=list(range(1, 6)))
    reader, _ = make(store)
    for _ in range(10):
        assert read(reader, 4, EPOCH - 1) == [4, 5]
        assert read(reader, 6, EPOCH - 1) == []
    assert store.reads == [(EPOCH - 1, 4, ROWS), (EPOCH - 1, 6, ROWS)]


def test_what_cannot_be_read_is_empty_counted_and_asked_for_again() -> None:
    store = Store(list(range(1, 101)))
    reader, counters = make(store)
    store.broken = True
    assert read(reader, 5) == []
    store.broken = False
    assert read(reader, 5) == list(range(1, 11))
    assert counters == {"page_reads": 2, "page_errors": 1}


def test_pages_kept_are_bounded_and_the_one_unused_for_longest_goes() -> None:
    store = Store(list(range(1, 1_001)))
    reader, _ = make(store)
    for page in range(MAX_PAGES + 1):
        read(reader, 1)
        read(reader, 1 + page * ROWS)
    assert len(store.reads) == MAX_PAGES + 1
    read(reader, 1)
    assert len(store.reads) == MAX_PAGES + 1
    read(reader, 1 + ROWS)
    assert len(store.reads) == MAX_PAGES + 2


def test_pages_of_another_size_are_read_anew() -> None:
    store = Store(list(range(1, 101)))
    reader, _ = make(store)
    read(reader, 1)
    reader.reconfigure(4)
    assert read(reader, 7) == [5, 6, 7, 8]
    reader.reconfigure(4)
    assert read(reader, 8) == [5, 6, 7, 8]
    assert len(store.reads) == 2


def test_without_a_store_there_is_nothing_older() -> None:
    reader, counters = make(None)
    assert read(reader, 5) == []
    assert counters == {"page_reads": 0, "page_errors": 0}
