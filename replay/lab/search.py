"""Finds the highest speed that can be sustained: doubling, then halving the ratio; pure."""

from dataclasses import dataclass, field
from typing import Final, Literal

FINE: Final = 1.1
"""The answer is known to this ratio."""
MOST_STEPS: Final = 24

Limit = Literal["", "log", "injector"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one speed showed.

    Attributes:
        speed: Recorded seconds a second.
        ticks_per_s: What that was.
        measure: The stage that was held against the budget.
        p99_ns: Its 99th percentile, from intended time.
        kept: It was within the budget, and nothing was lost.
        why: Why it was not kept, "" if it was.
        void: The injector was late; the step says nothing of the engine.
    """

    speed: float
    ticks_per_s: float
    measure: str
    p99_ns: int
    kept: bool
    why: str = ""
    void: bool = False


@dataclass(slots=True)
class Search:
    """Says which speed to try next; told what each showed.

    Attributes:
        speed: The next speed; None: it is done.
        steps: What was tried, in order.
        limited_by: What ended the way up if not the engine: the log's length, or the injector.

    Args:
        first: The speed to begin with.
        most: Beyond this the log is too short.
        least: Below this nothing is tried.
    """

    first: float
    most: float
    least: float
    steps: list[Step] = field(default_factory=list)
    limited_by: Limit = ""
    speed: float | None = None

    def __post_init__(self) -> None:
        self.speed = min(self.first, self.most)

    @property
    def best(self) -> Step | None:
        """The fastest step that was kept, None if none was."""
        return max((s for s in self.steps if s.kept), key=lambda s: s.speed, default=None)

    @property
    def crossed(self) -> Step | None:
        """The slowest step that was not kept, None if none was refused."""
        return min((s for s in self.steps if not s.kept), key=lambda s: s.speed, default=None)

    def tell(self, step: Step) -> None:
        """Take in what the asked speed showed."""
        self.steps.append(step)
        self.speed = self._next() if len(self.steps) < MOST_STEPS else None
        crossed = self.crossed
        if self.speed is None and crossed is not None and crossed.void:
            self.limited_by = "injector"

    def _next(self) -> float | None:
        best, crossed = self.best, self.crossed
        if best is None:
            assert crossed is not None
            lower = crossed.speed / 2
            return lower if lower >= self.least else None
        if crossed is None or crossed.speed <= best.speed:
            return self._faster(best)
        if crossed.speed <= best.speed * FINE:
            return None
        return float((best.speed * crossed.speed) ** 0.5)

    def _faster(self, best: Step) -> float | None:
        if best.speed >= self.most:
            self.limited_by = "log"
            return None
        return min(best.speed * 2, self.most)
