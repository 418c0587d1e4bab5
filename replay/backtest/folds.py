"""Walk-forward folds: where strategies are chosen, and where afterwards they are judged.

A fold is a validation span, an embargo that belongs to neither, and a test span right after it.
Test spans follow each other without overlap, so that together they are one untouched history; a
day is a test day once, and no fold chooses by a day at or after the beginning of its own test.
Reference: López de Prado, "Advances in Financial Machine Learning", 2018, ch. 7 and 12.
"""

from typing import NamedTuple


class Span(NamedTuple):
    """Trading days by their place in a list of them, from ``start`` up to, not with, ``stop``."""

    start: int
    stop: int

    @property
    def days(self) -> int:
        """How many it has."""
        return self.stop - self.start


class Fold(NamedTuple):
    """One choice and its test."""

    number: int
    validation: Span
    test: Span


class SpanError(ValueError):
    """Spans that the days do not suffice for, or that are none."""


def walk_forward(
    days: int, validation: int, test: int, embargo: int = 0, *, anchored: bool = False
) -> tuple[Fold, ...]:
    """Cut trading days into folds, the oldest first.

    Args:
        days: How many there are.
        validation: Days of a validation span; the first fold's if it is anchored.
        test: Days of a test span; the last one has what is left.
        embargo: Days between the two that are used for neither.
        anchored: Let every validation span begin with the first day.

    Raises:
        SpanError: a span without a day, a negative embargo, or too few days for one fold.
    """
    if validation < 1 or test < 1 or embargo < 0:
        given = f"validation {validation}, test {test}, embargo {embargo}"
        raise SpanError(f"{given}: spans need a day at least, the embargo may be 0")
    first = validation + embargo
    if days <= first:
        raise SpanError(f"{days} trading days; a fold needs {first} before its test, and one more")
    return tuple(
        Fold(
            number,
            Span(0 if anchored else start - first, start - embargo),
            Span(start, min(days, start + test)),
        )
        for number, start in enumerate(range(first, days, test), 1)
    )
