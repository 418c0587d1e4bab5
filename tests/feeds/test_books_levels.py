import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from reference.book_twin import BookTwin, Level, TwinTop

from engine.core.records import TickFlag
from feeds.books import book_kernel
from feeds.books.book_kernel import ASKS, BIDS, COUNTS, apply_nb, cut_nb
from feeds.books.level_book import NO_LEVELS, LevelBook, Levels

prices = st.integers(1, 12).map(lambda ticks: ticks / 10)
sizes = st.integers(0, 4).map(float)
changes = st.lists(st.tuples(prices, sizes), max_size=8)
snapshots = st.lists(st.tuples(prices, st.integers(1, 4).map(float)), max_size=8)
steps = st.lists(
    st.tuples(st.just("apply"), changes, changes)
    | st.tuples(st.just("reset"), snapshots, snapshots)
    | st.tuples(st.just("cut"), st.sampled_from([BIDS, ASKS]), prices | st.just(math.nan)),
    max_size=30,
)


def levels(pairs: list[Level]) -> Levels:
    return np.array(pairs, np.float64) if pairs else NO_LEVELS


def top_of(book: LevelBook) -> TwinTop:
    bid, ask, bid_size, ask_size = book.top.tolist()
    sides = ((bid, bid_size), (ask, ask_size))
    return TwinTop(*([(p, s) for p, s in zip(*side, strict=True) if p == p] for side in sides))


def flags_of(top: TwinTop) -> int:
    if top.bids and top.asks:
        bid, ask = top.bids[0][0], top.asks[0][0]
        return TickFlag.CROSSED if bid > ask else TickFlag.LOCKED if bid == ask else 0
    return TickFlag.ONE_SIDED if top.bids or top.asks else 0


@given(steps)
def test_a_book_equals_two_dicts_whatever_happens_to_it(steps: list[tuple[str, ...]]) -> None:
    book, twin = LevelBook(3, 64), BookTwin()
    before = twin.top(3)
    for what, first, second in steps:
        changed = act(book, twin, what, first, second)
        top = twin.top(3)
        assert top_of(book) == top
        assert changed == (top != before)
        assert book.flags == flags_of(top)
        assert book.used == max(len(top.bids), len(top.asks))
        every = twin.top(99)
        assert [tuple(level) for level in book.side(BIDS).tolist()] == every.bids
        assert [tuple(level) for level in book.side(ASKS).tolist()] == every.asks
        before = top
    assert book.dropped == 0


def act(book: LevelBook, twin: BookTwin, what: str, first, second) -> bool:  # type: ignore[no-untyped-def] # drawn
    if what == "apply":
        twin.apply(first, second)
        return book.apply(levels(first), levels(second))
    if what == "reset":
        twin.reset(first, second)
        return book.reset(levels(first), levels(second))
    (twin.cut_bids if first == BIDS else twin.cut_asks)(second)
    return book.cut(first, second)


@given(st.lists(st.tuples(changes, changes), max_size=30), st.integers(2, 6))
def test_a_full_side_keeps_the_nearest_levels_and_says_when_they_are_not_all(
    diffs: list[tuple[list[Level], list[Level]]], capacity: int
) -> None:
    book, twin = LevelBook(2, capacity), BookTwin()
    for bids, asks in diffs:
        book.apply(levels(bids), levels(asks))
        twin.apply(bids, asks)
        assert len(book.side(BIDS)) <= capacity
        assert len(book.side(ASKS)) <= capacity
        if not book.flags & TickFlag.UNCERTAIN:
            assert top_of(book) == twin.top(2)


@given(snapshots, snapshots, st.integers(1, 5), st.lists(st.tuples(changes, changes), max_size=30))
def test_a_top_beyond_a_cut_snapshot_is_flagged_and_every_other_is_the_whole_books(
    bids: list[Level],
    asks: list[Level],
    kept: int,
    diffs: list[tuple[list[Level], list[Level]]],
) -> None:
    book, twin = LevelBook(2, 64), BookTwin()
    twin.reset(bids, asks)
    part = twin.top(kept)
    book.reset(levels(part.bids), levels(part.asks), whole=False)
    for bid_changes, ask_changes in diffs:
        book.apply(levels(bid_changes), levels(ask_changes))
        twin.apply(bid_changes, ask_changes)
        if not book.flags & TickFlag.UNCERTAIN:
            assert top_of(book) == twin.top(2)


def test_a_whole_snapshot_is_never_uncertain_and_a_cut_one_is_where_it_ends() -> None:
    pairs = levels([(1.0, 1.0), (0.9, 2.0)])
    book = LevelBook(2)
    book.reset(pairs, levels([(1.1, 1.0), (1.2, 1.0)]))
    assert book.flags == 0
    book.apply(levels([(1.0, 0.0)]), NO_LEVELS)
    assert (book.flags, book.used) == (0, 2)
    book.reset(pairs, levels([(1.1, 1.0), (1.2, 1.0)]), whole=False)
    assert book.flags == 0
    book.apply(levels([(1.0, 0.0)]), NO_LEVELS)
    assert book.flags == TickFlag.UNCERTAIN


def test_the_farthest_level_makes_room_and_is_counted() -> None:
    book = LevelBook(2, 2)
    book.apply(levels([(1.0, 1.0), (0.9, 1.0), (1.1, 1.0), (0.8, 1.0)]), NO_LEVELS)
    assert book.side(BIDS).tolist() == [[1.1, 1.0], [1.0, 1.0]]
    assert book.dropped == 2
    assert not book.flags & TickFlag.UNCERTAIN
    book.apply(levels([(1.1, 0.0), (0.8, 1.0)]), NO_LEVELS)
    assert book.flags & TickFlag.UNCERTAIN


def test_a_depth_beyond_the_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="depth 3"):
        LevelBook(3, 2)


def test_repeated_flags_are_those_of_the_records() -> None:
    for name in ("CROSSED", "LOCKED", "ONE_SIDED", "UNCERTAIN"):
        assert getattr(book_kernel, f"_{name}") == TickFlag[name]


compiled = pytest.mark.skipif(
    bool(getattr(config, "DISABLE_JIT", 0)), reason="kernels run as Python"
)


@compiled
@settings(max_examples=20)
@given(st.lists(st.tuples(changes, changes, prices), max_size=10))
def test_the_compiled_book_equals_its_python(
    diffs: list[tuple[list[Level], list[Level], float]],
) -> None:
    states = [
        (np.zeros((2, 2, 4)), np.zeros(COUNTS, np.int64), np.full(2, -np.inf)) for _ in range(2)
    ]
    tops = [np.zeros((4, 2)), np.zeros((4, 2))]
    both: tuple[list[Any], list[Any]] = (
        [apply_nb, apply_nb.py_func],
        [cut_nb, cut_nb.py_func],
    )
    for bids, asks, price in diffs:
        found = [
            apply(*state, levels(bids), levels(asks), top)
            for apply, state, top in zip(both[0], states, tops, strict=True)
        ]
        cuts = [
            cut(*state, ASKS, price, top)
            for cut, state, top in zip(both[1], states, tops, strict=True)
        ]
        assert found[0] == found[1]
        assert cuts[0] == cuts[1]
        assert np.array_equal(tops[0], tops[1], equal_nan=True)
        assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


@compiled
def test_one_signature_serves_every_call() -> None:
    book = LevelBook(5)
    book.reset(levels([(1.0, 1.0)]), NO_LEVELS, whole=False)
    book.apply(NO_LEVELS, levels([(1.0, 1.0), (2.0, 0.0)]))
    book.cut(BIDS, 1.0)
    assert len(apply_nb.signatures) == len(cut_nb.signatures) == 1
