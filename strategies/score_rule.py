"""What a model's answer means for trading: propose, or confirm what a rule proposed.

Pure. A model of direction gives the probabilities of its classes, "down" and "up" and perhaps
others such as "flat", over its horizon.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from strategies.spec import Param, RuleSpec
from strategies.windows import due_nb

UP: Final = "up"
DOWN: Final = "down"

SCORE: Final = RuleSpec(
    name="score",
    version="1",
    title="What a model says of the direction",
    params={
        "min_probability": Param(0.5, 0.0, 1.0, "least probability of the direction"),
        "min_margin": Param(0.0, 0.0, 1.0, "least lead of it over every other class"),
        "every": Param(1, 1, 1_000_000, "ask at every n-th row, from the first whole window on"),
    },
    uses=lambda _p: (),
    decide=due_nb,
)
"""A strategy that is a model's alone: what it takes. Its ``decide`` is not a rule's: it says from
the parameters and the model's window whether the model is to be asked."""


class Opinion(NamedTuple):
    """What a score proposes: side +1 or -1, strength and confidence 0 to 1, edge in bps or NaN."""

    side: int
    strength: float
    confidence: float
    edge_bps: float


@dataclass(frozen=True)
class ScoreRule:
    """Reads one model's probabilities.

    A direction is proposed where its class is more probable than every other by ``min_margin``
    and has at least ``min_probability``. Strength: its lead over the opposite direction.
    Confidence: its probability. Edge: the mean move to be expected, the sum of probability times
    ``move_bps``, counted in the direction proposed: negative where the rare moves against it are
    the larger ones. A form in less exact arithmetic may answer a little more than 1: that is 1.

    Args:
        labels: Names of the classes in the order of the outputs; "up" and "down" among them.
        move_bps: Mean move of each class in basis points; empty for no estimate.
        min_probability: Least probability, 0 to 1.
        min_margin: Least lead over the next class, 0 to 1.

    Raises:
        ValueError: labels without both directions, or with one twice; another number of moves.
    """

    labels: tuple[str, ...]
    move_bps: tuple[float, ...] = ()
    min_probability: float = 0.5
    min_margin: float = 0.0

    def __post_init__(self) -> None:
        if not {UP, DOWN} <= set(self.labels) or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {self.labels} must have {UP!r} and {DOWN!r}, each once")
        if self.move_bps and len(self.move_bps) != len(self.labels):
            raise ValueError(f"{len(self.move_bps)} moves for {len(self.labels)} labels")

    def decide(self, values: Sequence[float]) -> Opinion | None:
        """Return what the probabilities propose, None for nothing.

        Raises:
            ValueError: not as many values as labels.
        """
        self._check(values)
        for side in (1, -1):
            probability, opposite, lead = self._standing(side, values)
            if probability >= self.min_probability and lead >= self.min_margin and lead > 0.0:
                strength, confidence = min(1.0, probability - opposite), min(1.0, probability)
                return Opinion(side, strength, confidence, self._edge(side, values))
        return None

    def confirm(self, side: int, values: Sequence[float], min_probability: float) -> float | None:
        """Return the probability of a rule's side, None where the model does not confirm it.

        It confirms with at least ``min_probability``, and more than of the opposite direction.

        Raises:
            ValueError: not as many values as labels.
        """
        self._check(values)
        probability, opposite, _ = self._standing(side, values)
        confirmed = probability >= min_probability and probability > opposite
        return min(1.0, probability) if confirmed else None

    def slack(self, values: Sequence[float]) -> float:
        """Return how far every probability may move, all at once, without another decision.

        Scores of two forms of a model that differ by less propose the same; NaN for values that
        are not numbers.

        Raises:
            ValueError: not as many values as labels.
        """
        self._check(values)
        room = []
        for side in (1, -1):
            probability, _, lead = self._standing(side, values)
            room.append(min(probability - self.min_probability, 0.5 * (lead - self.min_margin)))
        return abs(max(room))

    def _check(self, values: Sequence[float]) -> None:
        if len(values) != len(self.labels):
            raise ValueError(f"{len(values)} values for the labels {', '.join(self.labels)}")

    def _standing(self, side: int, values: Sequence[float]) -> tuple[float, float, float]:
        """Return a direction's probability, its opposite's, and its lead over all others."""
        mine = self.labels.index(UP if side > 0 else DOWN)
        other = self.labels.index(DOWN if side > 0 else UP)
        if not all(map(math.isfinite, values)):
            return math.nan, math.nan, math.nan
        rest = max(value for at, value in enumerate(values) if at != mine)
        return values[mine], values[other], values[mine] - rest

    def _edge(self, side: int, values: Sequence[float]) -> float:
        if not self.move_bps:
            return math.nan
        return side * sum(p * move for p, move in zip(values, self.move_bps, strict=True))
