"""Whether a distance shrinks: told at the end of a span, and only of one without a break."""

import pytest

from feeds.headway import Headway

MS = 1_000_000


def looks(*behind: int, every_ms: int = 500) -> list[bool]:
    headway = Headway(1_000 * MS)
    return [headway.look(one, 10**12 + at * every_ms * MS) for at, one in enumerate(behind)]


def test_a_distance_that_stays_or_grows_over_a_span_is_told_at_its_end() -> None:
    assert looks(10, 5, 10) == [False, False, True]
    assert looks(10, 5, 11) == [False, False, True]


def test_one_that_shrinks_is_not_told_and_the_next_span_begins_there() -> None:
    assert looks(10, 50, 9, 1, 9) == [False, False, False, False, True]


@pytest.mark.parametrize("every_ms", [1_001, 60_000])
def test_a_span_with_a_break_in_it_is_none(every_ms: int) -> None:
    assert not any(looks(1, 2, 3, 4, every_ms=every_ms))


def test_what_was_forgotten_does_not_count() -> None:
    headway = Headway(100 * MS)
    headway.look(10, 0)
    headway.forget()
    assert not headway.look(10, 100 * MS)
    assert headway.look(10, 200 * MS)
