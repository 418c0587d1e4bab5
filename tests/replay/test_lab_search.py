"""The search for the highest sustainable speed, against engines that are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.lab.search import FINE, MOST_STEPS, Search, Step


def play(search: Search, limit: float, late_from: float = 1e12) -> Search:
    """Answer as an engine would that keeps up to ``limit``, and an injector up to its own."""
    while search.speed is not None:
        speed = search.speed
        void = speed > late_from
        kept = speed <= limit and not void
        search.tell(Step(speed, speed * 100, "end_to_end", int(speed * 1e3), kept, "", void))
    return search


@given(limit=st.floats(0.01, 5_000), first=st.floats(0.05, 100))
def test_the_answer_is_right_to_its_ratio_and_takes_few_steps(limit: float, first: float) -> None:
    search = play(Search(first, most=1e9, least=first / 1e6), limit)
    best, crossed = search.best, search.crossed
    assert best is not None
    assert crossed is not None
    assert best.speed <= limit < crossed.speed
    assert crossed.speed / best.speed <= FINE
    assert len(search.steps) <= MOST_STEPS
    assert search.limited_by == ""


def test_a_log_that_is_too_short_is_named_as_the_limit() -> None:
    search = play(Search(1.0, most=10.0, least=0.001), limit=1e9)
    assert search.best is not None
    assert search.best.speed == 10.0
    assert (search.limited_by, search.crossed) == ("log", None)


def test_a_late_injector_is_named_as_the_limit() -> None:
    search = play(Search(1.0, most=1e9, least=0.001), limit=1e9, late_from=50.0)
    assert search.limited_by == "injector"
    assert search.best is not None
    assert 50 / FINE < search.best.speed <= 50


def test_an_engine_that_keeps_nothing_is_given_up() -> None:
    search = play(Search(1.0, most=1e9, least=0.1), limit=0.0)
    assert search.best is None
    assert [step.speed for step in search.steps] == [1.0, 0.5, 0.25, 0.125]


def test_between_kept_and_refused_it_tries_the_middle_of_the_ratio() -> None:
    search = Search(1.0, most=1e9, least=0.1)
    for speed, kept in ((1.0, True), (2.0, False)):
        assert search.speed == pytest.approx(speed)
        search.tell(Step(speed, 1, "wire", 1, kept))
    assert search.speed == pytest.approx(2**0.5)
