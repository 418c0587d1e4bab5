"""What is asked of models, what comes back, and what is told of their devices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.core.models import Failure, Floats, Score


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One request for a score.

    Attributes:
        model: Index of the model in the configuration.
        deadline_ns: When an answer is worth nothing any more, on the clock of the inference.
        context: Comes back with the answer, and finds the window again; opaque to ``runtime``.
        priority: Who goes first among requests of one deadline; the model's own if negative.
    """

    model: int
    deadline_ns: int
    context: object
    priority: int = -1


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The one answer to a request: a score, or why there is none."""

    context: object
    score: Score | None
    failure: Failure | None


class ModelEvent(NamedTuple):
    """Something about a model or its device that is worth keeping.

    Attributes:
        kind: ``model_device``, ``model_swap``, ``model_shadow``, ``model_drift``, ``model_fault``.
        model: Its name, "" if it is about a device alone.
        fields: What happened; JSON can hold it.
    """

    kind: str
    model: str
    fields: dict[str, Any]


Gather = Callable[[int, Sequence[object], Floats], Sequence[bool]]
"""Fills row j of the buffer, float32 (bucket, W, F), with the window of context j of a model; says
for each whether its window was still there. Rows beyond the contexts are left as they are."""

OnAnswer = Callable[[Answer], None]
OnEvent = Callable[[ModelEvent], None]


def no_event(event: ModelEvent) -> None:
    """Take an event and forget it."""
