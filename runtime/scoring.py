"""A row of outputs becomes a score, or nothing: never guessed, clamped or repaired. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.core.models import Floats, LoadedModel, Score
from runtime.bundle import Bundle
from runtime.request_queue import Request
from runtime.row_checks import answer_check


class OutputRange(NamedTuple):
    """What the manifest says that answers look like.

    Attributes:
        low: Least value of each output, -inf if not stated.
        high: Greatest value of each output, inf if not stated.
        total: What the outputs of a row add up to, None if not stated.
    """

    low: float = -math.inf
    high: float = math.inf
    total: float | None = None


class Provenance(NamedTuple):
    """Who gives an answer; the fields of a score that all scores of one loaded form share."""

    model: str
    bundle: str
    backend: str
    device: str
    precision: str


class Scorer:
    """Makes scores from the outputs of one loaded form.

    A form may differ from the reference by ``tolerance`` in each output, so that is how far its
    answers may leave the stated range, and once an output how far their sum may be off. What is
    outside, and whatever is not a number, gives no score.

    Args:
        by: Who answers.
        stated: What answers look like.
        tolerance: Parity tolerance of the form's precision, absolute.
    """

    __slots__ = ("_check", "_high", "_low", "_tolerance", "_total", "by")

    def __init__(self, by: Provenance, stated: OutputRange, tolerance: float) -> None:
        self.by = by
        # A stated infinity would let an infinite answer through.
        self._low = max(stated.low - tolerance, -3.4e38)
        self._high = min(stated.high + tolerance, 3.4e38)
        self._total = stated.total
        self._tolerance = tolerance
        self._check = answer_check()

    def problem(self, values: Sequence[float]) -> str:
        """Return what is wrong with an answer, "" if nothing."""
        low, high = self._low, self._high
        for value in values:
            if not low <= value <= high:
                return f"output {value:g} outside {low:g} to {high:g}"
        if self._total is not None:
            off = abs(sum(values) - self._total)
            if off > self._tolerance * len(values):
                return f"outputs add up to {sum(values):g}, not {self._total:g}"
        return ""

    def all_good(self, rows: Floats, count: int) -> bool:
        """Return whether nothing is wrong with any of the first ``count`` rows, (N, O)."""
        if not rows.flags.c_contiguous:
            return not any(self.problem(row) for row in rows[:count].tolist())
        total = math.nan if self._total is None else self._total
        slack = self._tolerance * rows.shape[1]
        return self._check(rows, count, self._low, self._high, total, slack)

    def score(
        self, values: Sequence[float], batch: int, queue_ns: int, service_ns: int
    ) -> Score | None:
        """Return the score of a row of outputs; None if the row is no answer."""
        if self.problem(values):
            return None
        model, bundle, backend, device, precision = self.by
        return Score(
            tuple(values), model, bundle, backend, device, precision, batch, queue_ns, service_ns
        )

    def scores(
        self, rows: Floats, requests: Sequence[Request], started_ns: int, service_ns: int
    ) -> list[Score]:
        """Return the scores of a batch's rows, (N, O), all of them good and known to be."""
        model, bundle, backend, device, precision = self.by
        batch = len(requests)
        return [
            Score(
                tuple(row), model, bundle, backend, device, precision, batch,
                started_ns - request.submitted_ns, service_ns,
            )
            for row, request in zip(rows[:batch].tolist(), requests, strict=True)
        ]  # fmt: skip


def make_scorer(model: str, bundle: Bundle, loaded: LoadedModel) -> Scorer:
    """Return what makes the scores of a bundle's form that has been loaded.

    Args:
        model: What strategies call it.
        bundle: Where the form comes from.
        loaded: The form.
    """
    precision = loaded.precision
    by = Provenance(model, bundle.identity, loaded.backend, loaded.device, precision.value)
    output = bundle.manifest.output
    stated = OutputRange(*output.range, output.sum)
    return Scorer(by, stated, bundle.tolerance(precision))
