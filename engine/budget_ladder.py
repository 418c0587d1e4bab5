"""What to do without when a budget runs out, step by step. Pure: times are arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class BudgetLevel(IntEnum):
    """Steps of the ladder; each includes those before it."""

    NORMAL = 0
    SMALLER_BATCHES = 1
    FEWER_INSTRUMENTS = 2
    HALT = 3
    """No more signals, and an end in order; never taken back."""


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """One resource at one moment.

    Attributes:
        name: Of the resource.
        value: How much is used, or with ``falling`` how much is left.
        limits: Where the three steps begin.
        falling: Less is worse.
    """

    name: str
    value: float
    limits: Sequence[float]
    falling: bool = False

    def step(self, margin: float = 0.0) -> int:
        """Return how many limits are passed, or come near by a part of themselves."""
        if self.falling:
            return sum(self.value <= limit * (1.0 + margin) for limit in self.limits)
        return sum(self.value >= limit * (1.0 - margin) for limit in self.limits)

    def told(self) -> str:
        """Return it in words."""
        return f"{self.name} {self.value:.4g}"


class BudgetChange(NamedTuple):
    """A step up or down."""

    before: BudgetLevel
    after: BudgetLevel
    because: tuple[str, ...]
    """The resources that ask for it, or that no longer do."""


class BudgetLadder:
    """Decides the step; owned by the loop thread.

    Up: as soon as a limit was passed for ``hold_ns`` without a break, however many steps that is.
    Down: one step at a time, each when every resource was well below it for ``release_ns``.

    Args:
        hold_ns: As above.
        release_ns: As above.
        margin: Well below: by this part of the limit.

    Attributes:
        level: The step now.
    """

    def __init__(self, hold_ns: int, release_ns: int, margin: float) -> None:
        self.hold_ns = hold_ns
        self.release_ns = release_ns
        self.margin = margin
        self.level = BudgetLevel.NORMAL
        self._passed_ns: dict[int, int] = {}
        self._below_ns: int | None = None

    def look(self, now_ns: int, readings: Sequence[BudgetReading]) -> BudgetChange | None:
        """Take in what is used now; return the step that is taken, if any."""
        wanted = max((reading.step() for reading in readings), default=0)
        for step in range(1, BudgetLevel.HALT + 1):
            if step <= wanted:
                self._passed_ns.setdefault(step, now_ns)
            else:
                self._passed_ns.pop(step, None)
        held = [step for step, at in self._passed_ns.items() if now_ns - at >= self.hold_ns]
        if held and max(held) > self.level:
            return self._go(max(held), readings, 0.0)
        return self._relax(now_ns, readings)

    def _relax(self, now_ns: int, readings: Sequence[BudgetReading]) -> BudgetChange | None:
        near = max((reading.step(self.margin) for reading in readings), default=0)
        if self.level in {BudgetLevel.NORMAL, BudgetLevel.HALT} or near >= self.level:
            self._below_ns = None
            return None
        if self._below_ns is None:
            self._below_ns = now_ns
        if now_ns - self._below_ns < self.release_ns:
            return None
        return self._go(self.level - 1, readings, self.margin)

    def _go(self, step: int, readings: Sequence[BudgetReading], margin: float) -> BudgetChange:
        before, self.level = self.level, BudgetLevel(step)
        self._below_ns = None
        least = max(step, 1) if step > before else 0
        because = tuple(one.told() for one in readings if one.step(margin) >= least)
        return BudgetChange(before, self.level, because)
