"""How far two scores of one model may be apart, and how near a score is to another decision. Pure.

Forms of one model on two devices answer alike within the tolerance that its bundle states. A score
nearer to a threshold than that may be decided in two ways, and neither is wrong.
"""

import math
from typing import Final

from engine.composition import Blueprint
from engine.core.models import Precision
from engine.core.signals import Signal
from engine.model_desk import Reading
from engine.model_setup import SetModel, model_of
from replay.analysis.diff_twin import Read
from strategies.score_rule import DOWN, UP

_EXACT: Final = ("side", "version")
_TICK: Final = ("ts_event", "ts_recv", "price")


class Scores:
    """Knows the tolerance of every strategy's model.

    Args:
        blueprint: The configuration, resolved.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        pairs = [(entry.name, model_of(entry, blueprint.models)) for entry in blueprint.rules]
        self._models: dict[str, SetModel] = {name: one for name, one in pairs if one is not None}

    def model(self, strategy: str) -> SetModel | None:
        """Return the model that a strategy asks, None if it asks none."""
        return self._models.get(strategy)

    def tolerance(self, strategy: str, precision: str | None = None) -> float:
        """Return how far a probability may be off; 0 for a strategy that asks no model."""
        model = self._models.get(strategy)
        if model is None:
            return 0.0
        known = [one for one in Precision if one.value == precision]
        return model.bundle.tolerance(known[0] if known else Precision.FP32)

    def edge_tolerance(self, strategy: str, precision: str | None = None) -> float:
        """Return how far an expected move may be off, basis points."""
        model = self._models.get(strategy)
        if model is None:
            return 0.0
        moves = sum(abs(move) for move in model.bundle.manifest.output.move_bps)
        return moves * self.tolerance(strategy, precision)

    def is_close(self, strategy: str, read: Read, reading: Reading) -> bool:
        """Tell whether a score is so near a threshold that another device may decide otherwise."""
        if read.answer.score is None:
            return False
        return room(read, reading) <= self.tolerance(strategy)

    def differences(self, live: Signal, here: Signal) -> list[str]:
        """Return the names of the fields in which two signals of one id differ."""
        near = self.tolerance(live.strategy, live.precision)
        allowed = {
            "strength": 2 * near,
            "confidence": near,
            "edge_bps": self.edge_tolerance(live.strategy, live.precision),
        }
        found = [name for name in (*_TICK, *_EXACT) if getattr(live, name) != getattr(here, name)]
        if live.valid_until - live.ts_recv != here.valid_until - here.ts_recv:
            found.append("valid_until")
        for name, most in allowed.items():
            if not _alike(getattr(live, name), getattr(here, name), most):
                found.append(name)
        if (live.model or "") != (here.model or ""):
            found.append("model")
        return found


def room(read: Read, reading: Reading) -> float:
    """Return how far every probability may move, all at once, without another decision."""
    assert read.answer.score is not None
    values, rule = read.answer.score.values, reading.rule
    if not reading.confirms:
        return rule.slack(values)
    up, down = (values[rule.labels.index(label)] for label in (UP, DOWN))
    mine, other = (up, down) if read.candidate.side > 0 else (down, up)
    return min(abs(mine - reading.confirm_min), abs(mine - other) / 2)


def _alike(one: float | None, other: float | None, most: float) -> bool:
    if one is None or other is None:
        return one is other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return abs(one - other) <= most
