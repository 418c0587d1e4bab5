"""Does a form still say what the reference says? A share of live inputs is run on both. Pure."""

import random
from collections import deque
from enum import StrEnum
from typing import Any, Final

ALARM_ENDS_AFTER: Final = 64
"""Checks in a row within the tolerance that end an alarm."""
DEMOTE_OF: Final = (3, 64)
"""So many checks outside the tolerance, of the newest so many, give the form up."""


class Sampler:
    """Chooses a share of inputs, the same ones in every run.

    Drawn, not counted off: every hundredth of 200 instruments would be the same two for ever.

    Args:
        share: Of all inputs, 0 to 1.
        seed: Of the draw.
    """

    __slots__ = ("_draw", "_share")

    def __init__(self, share: float, seed: int = 0) -> None:
        self._share = share
        self._draw = random.Random(seed).random

    def chooses(self) -> bool:
        """Return whether the next input is one of them."""
        return self._draw() < self._share


class DriftVerdict(StrEnum):
    """What one check changed."""

    NONE = "none"
    ALARM = "alarm"
    """The first outside the tolerance."""
    DEMOTE = "demote"
    """Too many of the newest are outside: another form should serve."""
    OVER = "over"
    """The alarm ended."""


class PrecisionWatch:
    """Watches one form against the reference.

    Args:
        tolerance: Greatest difference of an output that is no drift, absolute: the manifest's
            parity tolerance for the form's precision.

    Attributes:
        checks: Inputs compared.
        outside: Inputs whose answers differed by more than the tolerance.
        alarmed: Whether an alarm is on.
        greatest: Greatest difference so far.
    """

    __slots__ = ("_calm", "_newest", "alarmed", "checks", "greatest", "outside", "tolerance")

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.checks = 0
        self.outside = 0
        self.alarmed = False
        self.greatest = 0.0
        self._calm = 0
        self._newest: deque[bool] = deque(maxlen=DEMOTE_OF[1])

    def note(self, difference: float) -> DriftVerdict:
        """Take in the greatest difference of one input's two answers; NaN counts as outside."""
        self.checks += 1
        within = difference <= self.tolerance
        self._newest.append(not within)
        self.greatest = max(self.greatest, difference)
        if within:
            return self._note_calm()
        self.outside += 1
        self._calm = 0
        if sum(self._newest) >= DEMOTE_OF[0]:
            self._newest.clear()
            self.alarmed = True
            return DriftVerdict.DEMOTE
        if self.alarmed:
            return DriftVerdict.NONE
        self.alarmed = True
        return DriftVerdict.ALARM

    def _note_calm(self) -> DriftVerdict:
        self._calm += 1
        if not self.alarmed or self._calm < ALARM_ENDS_AFTER:
            return DriftVerdict.NONE
        self.alarmed = False
        return DriftVerdict.OVER

    def told(self) -> dict[str, Any]:
        """Return it for status and people."""
        return {
            "checks": self.checks,
            "outside": self.outside,
            "alarm": self.alarmed,
            "max_abs": self.greatest,
            "tolerance": self.tolerance,
        }
