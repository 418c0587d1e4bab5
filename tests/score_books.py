"""What every answer of a model was, and what was read in it: kept while a pipeline runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from engine.core.candidates import Candidate
from engine.model_desk import ModelDesk, Reading, Verdict
from runtime.asking import Answer


class Read(NamedTuple):
    """One answer, what it answers, and what it means."""

    answer: Answer
    verdict: Verdict
    reading: Reading
    candidate: Candidate

    @property
    def side(self) -> int:
        """What is proposed: 1, -1, 0 for nothing."""
        return self.verdict.candidate.side if self.verdict.candidate is not None else 0


Key = tuple[int, int, int]
"""Strategy, instrument and window of one request."""
Book = dict[Key, Read]


@contextmanager
def book_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    """Keep what all desks read meanwhile, windows that were not whole left out."""
    book: Book = {}
    read = ModelDesk.read

    def note(desk: ModelDesk, candidate: Candidate, answer: Answer) -> Verdict:
        verdict = read(desk, candidate, answer)
        key = candidate.strategy, candidate.instrument, candidate.window
        if candidate.window:
            assert key not in book, "asked twice"
            book[key] = Read(answer, verdict, desk.readings[candidate.strategy], candidate)
        return verdict

    with monkeypatch.context() as patched:
        patched.setattr(ModelDesk, "read", note)
        yield book


def room(read: Read) -> float:
    """Return how far a score is from another decision."""
    assert read.answer.score is not None
    values, reading = read.answer.score.values, read.reading
    if not reading.confirms:
        return reading.rule.slack(values)
    up, down = (values[reading.rule.labels.index(label)] for label in ("up", "down"))
    mine, other = (up, down) if read.candidate.side > 0 else (down, up)
    return min(abs(mine - reading.confirm_min), abs(mine - other) / 2)


def decided_apart(one: Book, other: Book, tolerance: float) -> set[Key]:
    """Return the requests decided in two ways, once sure that each was close to a threshold."""
    assert one.keys() == other.keys()
    apart = set()
    for key, read in one.items():
        twin = other[key]
        assert read.answer.score is not None
        assert twin.answer.score is not None
        pairs = zip(read.answer.score.values, twin.answer.score.values, strict=True)
        assert max(abs(a - b) for a, b in pairs) <= tolerance
        if read.side != twin.side:
            assert room(read) <= tolerance
            apart.add(key)
    return apart
