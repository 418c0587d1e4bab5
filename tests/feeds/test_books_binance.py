"""Binance books against a venue of two dicts that loses, repeats and delays what it sends."""

import random
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.book_twin import BookTwin, Level

from feeds.books.binance_book import BinanceBook, BookChange
from feeds.books.binance_rules import DepthDiff, DepthSnapshot, Fit, fit
from feeds.books.level_book import NO_LEVELS, Best, Levels
from feeds.books.ticker_check import TickerCheck


def levels(pairs: list[Level]) -> Levels:
    return np.array(pairs, np.float64) if pairs else NO_LEVELS


def diff(first: int, final: int, previous: int | None = None, bid: float = 1.0) -> DepthDiff:
    return DepthDiff(first, final, previous, final * 1000, levels([(bid, 1.0)]), NO_LEVELS)


def snapshot(last: int) -> DepthSnapshot:
    return DepthSnapshot(last, last, levels([(1.0, 5.0)]), levels([(2.0, 5.0)]), True)


@pytest.mark.parametrize(
    ("first", "final", "last", "expected"),
    [
        (5, 9, 9, Fit.STALE),
        (5, 9, 12, Fit.STALE),
        (5, 9, 8, Fit.NEXT),
        (5, 9, 4, Fit.NEXT),
        (5, 9, 3, Fit.BREAK),
    ],
)
def test_a_spot_diff_fits_where_the_next_update_is_in_it(
    first: int, final: int, last: int, expected: Fit
) -> None:
    assert fit(diff(first, final), last, after_snapshot=True) is expected
    assert fit(diff(first, final), last, after_snapshot=False) is expected


@pytest.mark.parametrize(
    ("first", "final", "previous", "last", "expected"),
    [
        (5, 9, 2, 10, Fit.STALE),
        (5, 9, 2, 9, Fit.NEXT),
        (5, 9, 2, 5, Fit.NEXT),
        (5, 9, 2, 4, Fit.BREAK),
        (5, 9, 2, 3, Fit.BREAK),
        (5, 9, 2, 2, Fit.NEXT),
        (5, 9, 2, 1, Fit.BREAK),
    ],
)
def test_the_first_futures_diff_behind_a_snapshot_holds_its_number(
    first: int, final: int, previous: int, last: int, expected: Fit
) -> None:
    assert fit(diff(first, final, previous), last, after_snapshot=True) is expected


@pytest.mark.parametrize(
    ("previous", "last", "expected"),
    [(2, 2, Fit.NEXT), (2, 1, Fit.BREAK), (2, 6, Fit.BREAK), (2, 9, Fit.STALE)],
)
def test_a_later_futures_diff_must_name_the_one_before_it(
    previous: int, last: int, expected: Fit
) -> None:
    assert fit(diff(5, 9, previous), last, after_snapshot=False) is expected


def test_diffs_before_the_snapshot_wait_and_those_it_holds_are_dropped() -> None:
    book = BinanceBook(5)
    for first in (1, 4, 7):
        assert book.on_diff(diff(first, first + 2, bid=first / 10)) is BookChange.NONE
    assert (book.waiting, book.synced) == (3, False)
    assert book.on_snapshot(snapshot(5)) is BookChange.SYNCED
    assert (book.last_id, book.waiting, book.counts.stale, book.counts.applied) == (9, 0, 1, 2)
    assert book.levels.side(0).tolist() == [[1.0, 5.0], [0.7, 1.0], [0.4, 1.0]]


def test_a_missing_diff_loses_the_book_and_a_second_snapshot_finds_it_again() -> None:
    book = BinanceBook(5)
    book.on_snapshot(snapshot(10))
    assert book.on_diff(diff(11, 12, bid=1.1)) is BookChange.TOP
    assert book.on_diff(diff(14, 15, bid=1.2)) is BookChange.LOST
    assert (book.synced, book.counts.breaks, book.levels.used) == (False, 1, 0)
    assert np.isnan(book.levels.top[:2]).all()
    assert book.on_diff(diff(16, 16, bid=1.3)) is BookChange.NONE
    assert book.on_snapshot(snapshot(12)) is BookChange.NONE
    assert (book.synced, book.counts.snapshots_too_old) == (False, 1)
    assert book.on_snapshot(snapshot(13)) is BookChange.SYNCED
    assert (book.last_id, book.levels.best().bid) == (16, 1.3)
    assert book.on_diff(diff(17, 18, bid=1.4)) is BookChange.TOP


def test_a_break_among_waiting_diffs_is_found_too() -> None:
    book = BinanceBook(5)
    for first in (1, 3, 7, 9):
        book.on_diff(diff(first, first + 1))
    assert book.on_snapshot(snapshot(2)) is BookChange.NONE
    assert (book.synced, book.counts.breaks, book.waiting) == (False, 1, 2)
    assert book.on_snapshot(snapshot(6)) is BookChange.SYNCED
    assert book.last_id == 10


def test_a_diff_that_comes_twice_is_stale() -> None:
    for previous in (None, 10):
        book = BinanceBook(5)
        book.on_snapshot(snapshot(10))
        once = diff(11, 12, previous)
        book.on_diff(once)
        assert book.on_diff(once) is BookChange.NONE
        assert (book.synced, book.counts.stale, book.last_id) == (True, 1, 12)


def test_a_newer_snapshot_replaces_a_book_and_an_older_one_does_not() -> None:
    book = BinanceBook(5)
    book.on_snapshot(snapshot(10))
    book.on_diff(diff(11, 12, bid=1.5))
    assert book.on_snapshot(snapshot(11)) is BookChange.NONE
    assert (book.levels.best().bid, book.counts.snapshots_not_needed) == (1.5, 1)
    assert book.on_snapshot(snapshot(20)) is BookChange.SYNCED
    assert book.levels.best().bid == 1.0
    assert book.on_diff(diff(15, 17)) is BookChange.NONE
    assert book.on_diff(diff(18, 21, bid=1.6)) is BookChange.TOP


def test_what_waits_is_bounded_and_what_is_forgotten_is_a_break() -> None:
    book = BinanceBook(5, most_waiting=3)
    for first in range(1, 6):
        book.on_diff(diff(first, first))
    assert (book.waiting, book.counts.forgotten) == (3, 2)
    assert book.on_snapshot(snapshot(1)) is BookChange.NONE
    assert book.on_snapshot(snapshot(2)) is BookChange.SYNCED


def test_a_ticker_that_disagrees_refutes_the_book_whichever_comes_first() -> None:
    wrong = Best(1.0, 2.0, 5.0, 4.0)
    late, early = BinanceBook(5), BinanceBook(5)
    late.on_snapshot(snapshot(10))
    assert late.on_ticker(10, wrong) is BookChange.LOST
    early.on_ticker(10, wrong)
    assert early.on_snapshot(snapshot(10)) is BookChange.NONE
    for book in (late, early):
        assert (book.synced, book.counts.refuted) == (False, 1)
        assert (book.check.compared, book.check.different) == (1, 1)
        assert book.on_snapshot(snapshot(11)) is BookChange.SYNCED
        assert book.on_ticker(10, wrong) is BookChange.NONE
        assert book.synced


def test_a_diff_that_makes_what_a_ticker_denies_loses_the_book() -> None:
    book = BinanceBook(5)
    book.on_snapshot(snapshot(10))
    book.on_ticker(12, Best(1.5, 2.0, 2.0, 5.0))
    assert book.on_diff(diff(11, 12, bid=1.5)) is BookChange.LOST


def test_a_bad_frame_loses_the_book() -> None:
    book = BinanceBook(5)
    assert book.on_bad() is BookChange.NONE
    book.on_snapshot(snapshot(10))
    assert book.on_bad() is BookChange.LOST
    assert (book.synced, book.counts.bad) == (False, 2)


def test_a_check_remembers_so_many_and_compares_all_that_are_equal() -> None:
    check = TickerCheck(2)
    best = Best(1.0, float("nan"), 1.0, 0.0)
    for update in (1, 2, 3):
        check.on_ticker(update, best)
    check.on_ticker(3, best)
    assert check.on_top(1, best)
    assert check.compared == 0
    assert check.on_top(3, Best(1.0, float("nan"), 1.0, 0.0))
    assert (check.compared, check.different) == (2, 0)
    assert not check.on_top(2, best._replace(ask=3.0))
    assert (check.compared, check.different) == (3, 1)


class Said(NamedTuple):
    diffs: list[DepthDiff]
    truth: dict[int, tuple[list[Level], list[Level]]]
    snapshots: dict[int, DepthSnapshot]
    tickers: dict[int, Best]


def venue(seed: int, count: int, *, futures: bool) -> Said:
    """What a venue sends: diffs of one to four updates each, and its true book after each."""
    chance, twin = random.Random(seed), BookTwin()
    said = Said([], {}, {}, {})
    update, previous = 0, 0
    for _ in range(count):
        first = update + 1 + (chance.randrange(3) if futures else 0)
        update = first + chance.randrange(4)
        sides: list[dict[float, float]] = [{}, {}]
        for _ in range(update - first + 1):
            side = chance.randrange(2)
            price = chance.randint(1, 10) + (10 if side else 0)
            sides[side][float(price)] = float(chance.randrange(3))
        bids, asks = (list(side.items()) for side in sides)
        twin.apply(bids, asks)
        pu = previous if futures else None
        said.diffs.append(DepthDiff(first, update, pu, update, levels(bids), levels(asks)))
        previous = update
        note_truth(said, twin, update)
    return said


def note_truth(said: Said, twin: BookTwin, update: int) -> None:
    bids, asks = twin.top(99)
    said.truth[update] = (bids, asks)
    said.snapshots[update] = DepthSnapshot(update, update, levels(bids), levels(asks), True)
    bid, ask, bid_size, ask_size = twin.best()
    nan = float("nan")
    said.tickers[update] = Best(
        nan if bid is None else bid, nan if ask is None else ask, bid_size, ask_size
    )


fates = st.lists(
    st.sampled_from(["give", "give", "give", "lose", "twice", "late", "snapshot", "tick"]),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.booleans(), fates, st.integers(0, 6))
def test_a_book_that_says_it_is_in_step_is_the_venues_book_whatever_is_lost(
    seed: int, futures: bool, fates: list[str], lag: int
) -> None:
    said = venue(seed, len(fates), futures=futures)
    book = BinanceBook(3)
    lost = False
    for at, fate in enumerate(fates):
        now = said.diffs[at]
        then = said.diffs[max(0, at - lag)].final_id
        was = book.synced
        if fate == "lose":
            lost = True
        else:
            change = book.on_diff(now)
            lost &= change is not BookChange.LOST and was
            assert not lost, "a book went on past a diff that did not come"
        if fate == "twice":
            book.on_diff(now)
        if fate == "late":
            book.on_diff(said.diffs[max(0, at - lag)])
        if fate == "snapshot":
            book.on_snapshot(said.snapshots[then])
        if fate == "tick":
            book.on_ticker(then, said.tickers[then])
        if book.synced:
            bids, asks = said.truth[book.last_id]
            assert [tuple(level) for level in book.levels.side(0).tolist()] == bids
            assert [tuple(level) for level in book.levels.side(1).tolist()] == asks
    assert book.check.different == 0
    assert book.counts.refuted == 0


@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 18))
def test_one_lost_diff_is_one_break_and_the_next_snapshot_mends_it(
    seed: int, futures: bool, missing: int
) -> None:
    said = venue(seed, 20, futures=futures)
    book = BinanceBook(3)
    book.on_snapshot(said.snapshots[said.diffs[0].final_id])
    changes = [book.on_diff(d) for at, d in enumerate(said.diffs[1:], 1) if at != missing]
    assert changes.count(BookChange.LOST) == book.counts.breaks == 1
    assert changes.index(BookChange.LOST) == missing - 1
    last = said.diffs[-1]
    found = book.on_snapshot(said.snapshots[said.diffs[missing].final_id])
    assert found is BookChange.SYNCED
    assert book.last_id == last.final_id
    assert [tuple(level) for level in book.levels.side(0).tolist()] == said.truth[last.final_id][0]


def test_a_wrong_level_in_a_diff_is_seen_by_the_venues_tickers() -> None:
    said = venue(7, 40, futures=True)
    book = BinanceBook(3)
    book.on_snapshot(said.snapshots[said.diffs[0].final_id])
    for at, now in enumerate(said.diffs[1:], 1):
        bids = np.array([[10.5, 9.0]]) if at == 20 else now.bids
        change = book.on_diff(replace(now, bids=bids))
        if at < 20:
            assert book.on_ticker(now.final_id, said.tickers[now.final_id]) is BookChange.NONE
        elif at == 20:
            assert change is BookChange.TOP
            lost = book.on_ticker(now.final_id, said.tickers[now.final_id])
            assert lost is BookChange.LOST
    assert (book.synced, book.counts.refuted, book.check.different) == (False, 1, 1)
