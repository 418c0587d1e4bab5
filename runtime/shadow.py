"""Beside the served answers, those of a candidate on the same inputs: compared only. Pure."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Second(NamedTuple):
    """The context of a request that asks for a second answer to one already served.

    Attributes:
        context: Context of the request that was served, which finds its input again.
        values: What was served.
        for_shadow: Whether a candidate is to be compared; else the form is to be checked.
    """

    context: object
    values: tuple[float, ...]
    for_shadow: bool


def greatest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the greatest absolute difference of two answers; inf if either is not a number."""
    greatest = max((abs(a - b) for a, b in zip(one, other, strict=True)), default=0.0)
    return greatest if all(map(math.isfinite, (*one, *other))) else math.inf


class Comparison:
    """How a candidate's answers differ from the served ones; constant memory.

    Attributes:
        compared: Inputs that both answered.
        unanswered: Inputs the candidate gave no answer to.
        disagreed: Inputs for which another output was the greatest.
        greatest: Greatest absolute difference of an output.
    """

    __slots__ = ("_squares", "_values", "compared", "disagreed", "greatest", "unanswered")

    def __init__(self) -> None:
        self.compared = 0
        self.unanswered = 0
        self.disagreed = 0
        self.greatest = 0.0
        self._squares = 0.0
        self._values = 0

    def miss(self) -> None:
        """Count an input that the candidate gave no answer to."""
        self.unanswered += 1

    def note(self, served: Sequence[float], candidate: Sequence[float]) -> float:
        """Take in two answers to one input; return their greatest difference."""
        greatest = greatest_difference(served, candidate)
        if not math.isfinite(greatest):
            self.unanswered += 1
            return greatest
        self.compared += 1
        self.greatest = max(self.greatest, greatest)
        self.disagreed += _argmax(served) != _argmax(candidate)
        self._squares += math.fsum((a - b) ** 2 for a, b in zip(served, candidate, strict=True))
        self._values += len(served)
        return greatest

    @property
    def rms(self) -> float:
        """Root of the mean squared difference over all outputs; 0 before the first."""
        return math.sqrt(self._squares / self._values) if self._values else 0.0

    def told(self) -> dict[str, Any]:
        """Return it for status and people."""
        return {
            "compared": self.compared,
            "unanswered": self.unanswered,
            "disagreed": self.disagreed,
            "max_abs": self.greatest,
            "rms": self.rms,
        }


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
