"""Where the pipeline's candidates wait for scores, and what scores make of them.

Feature windows stay in the kernel's rings until a batch is formed; then one compiled call copies
them into the batch's own buffer.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np

from engine.core.candidates import Candidate
from engine.core.models import Failure, Floats, Score
from engine.core.ports import Clock
from engine.judge import Origin
from latency.histogram import StageHistograms
from runtime.asking import Answer, Ask
from strategies.kernel import Kernel
from strategies.score_rule import ScoreRule


@dataclass(frozen=True, slots=True)
class Reading:
    """How one strategy reads its model's scores.

    Attributes:
        rule: What a score proposes.
        confirms: The score confirms what the strategy's own rule proposed.
        confirm_min: Least probability with which it does.
        deadline_ns: How long after its request an answer still counts, if the signal is valid
            for as long.
        valid_for_ns: How long after its tick a signal is.
        priority: Who goes first among requests of one deadline.
        bundle: Whose scores these are; the strategy's identity has it in it.
    """

    rule: ScoreRule
    confirms: bool
    confirm_min: float
    deadline_ns: int
    valid_for_ns: int
    priority: int
    bundle: str


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A candidate that waits for a score, and the tick it came of."""

    candidate: Candidate
    origin: Origin


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What an answer made of a candidate.

    ``candidate`` None and ``failure`` None: the score proposes nothing, which is no refusal.
    """

    candidate: Candidate | None
    score: Score | None
    failure: Failure | None
    detail: str = ""


class Asking(Protocol):
    """The part of an inference that is needed here."""

    def ask(self, asks: Sequence[Ask]) -> Sequence[Answer | None]:
        """Return what was answered at once, None where the answer comes later."""
        ...

    def histograms(self) -> Mapping[tuple[str, str], StageHistograms]:
        """Return the stages ``queue`` and ``inference`` by model and device."""
        ...


class WindowGatherer:
    """Copies the windows of a batch out of the kernel's rings.

    Args:
        kernel: Holds the rings.
        capacity: Most requests in one call.
    """

    def __init__(self, kernel: Kernel, capacity: int) -> None:
        self._gather = kernel.rings.gather
        self._instruments = np.zeros(capacity, np.int64)
        self._windows = np.zeros(capacity, np.int64)
        self._there = np.zeros(capacity, np.uint8)
        self._alone = self._instruments[:1], self._windows[:1], self._there[:1]

    def __call__(self, model: int, contexts: Sequence[object], out: Floats) -> list[bool]:
        """Fill row j of ``out`` with the window of request j; tell which were still there."""
        count = len(contexts)
        candidates: list[Candidate]
        candidates = [one.candidate for one in contexts]  # type: ignore[attr-defined] # Pending
        if count == 1:
            instruments, windows, there = self._alone
            instruments[0], windows[0] = candidates[0].instrument, candidates[0].window
        else:
            instruments, windows = self._instruments[:count], self._windows[:count]
            there = self._there[:count]
            instruments[:] = [one.instrument for one in candidates]
            windows[:] = [one.window for one in candidates]
        if self._gather(model, instruments, windows, out, there) == count:
            return [True] * count
        return [flag == 1 for flag in there.tolist()]


NO_WINDOW: Final = Answer(None, None, Failure.NOT_READY)


class ModelDesk:
    """Asks for scores and reads them; belongs to the thread that runs the pipeline.

    Args:
        inference: Answers.
        readings: How each strategy reads its model, by strategy number.
        clock: Tells how old a tick is.
        clock_ns: The clock of deadlines.

    Attributes:
        asked: Requests made.
        silent: Scores that proposed nothing.
        failures: Requests without a score, by reason.
    """

    def __init__(
        self,
        inference: Asking,
        readings: dict[int, Reading],
        clock: Clock,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.inference = inference
        self.readings = readings
        self.asked = 0
        self._waiting: dict[int, Pending] = {}
        self.silent = 0
        self.failures: Counter[str] = Counter()
        self._clock = clock
        self._clock_ns = clock_ns

    def ask(self, waiting: Sequence[Pending]) -> list[Answer | None]:
        """Ask for all of them together; None where the answer comes later."""
        now_ns = self._clock_ns()
        asks = [self._request(one, now_ns) for one in waiting if one.candidate.window > 0]
        self.asked += len(asks)
        answers = iter(self.inference.ask(asks) if asks else ())
        found = [next(answers) if one.candidate.window > 0 else NO_WINDOW for one in waiting]
        for pending, answer in zip(waiting, found, strict=True):
            if answer is None:
                self._waiting[id(pending)] = pending
        return found

    def use(self, inference: Asking, clock: Clock) -> tuple[Asking, Clock]:
        """Ask another inference by another clock from now on; return those of before."""
        before = self.inference, self._clock
        self.inference, self._clock = inference, clock
        return before

    @property
    def waiting(self) -> int:
        """Requests whose answers are still to come."""
        return len(self._waiting)

    def pending(self) -> list[Pending]:
        """Return what waits for an answer, oldest first."""
        return list(self._waiting.values())

    def settle(self, pending: Pending) -> None:
        """Note that an answer has come."""
        self._waiting.pop(id(pending), None)

    def _request(self, pending: Pending, now_ns: int) -> Ask:
        """An answer counts until the model's deadline, and no longer than the signal would."""
        candidate = pending.candidate
        reading = self.readings[candidate.strategy]
        received_ns = candidate.ts_recv
        age_ns = self._clock.wall_ns(received_ns, pending.origin[3]) - received_ns
        left_ns = min(reading.deadline_ns, reading.valid_for_ns - age_ns)
        return Ask(candidate.model, now_ns + left_ns, pending, reading.priority)

    def read(self, candidate: Candidate, answer: Answer) -> Verdict:
        """Return what an answer makes of the candidate that waited for it."""
        score = answer.score
        if score is None:
            failure = answer.failure or Failure.FAILED
            self.failures[failure.value] += 1
            return Verdict(None, None, failure)
        reading = self.readings[candidate.strategy]
        if score.bundle != reading.bundle:
            # Computed while another bundle took over: the signal's id would name the wrong one.
            self.failures[Failure.SUPERSEDED.value] += 1
            return Verdict(None, score, Failure.SUPERSEDED, f"a score of {score.bundle}")
        if reading.confirms:
            return self._confirm(candidate, score, reading)
        opinion = reading.rule.decide(score.values)
        if opinion is None:
            self.silent += 1
            return Verdict(None, score, None)
        side, strength, confidence, edge_bps = opinion
        changed = msgspec.structs.replace(
            candidate, side=side, strength=strength, confidence=confidence, edge_bps=edge_bps
        )
        return Verdict(changed, score, None)

    def _confirm(self, candidate: Candidate, score: Score, reading: Reading) -> Verdict:
        confidence = reading.rule.confirm(candidate.side, score.values, reading.confirm_min)
        if confidence is None:
            told = ", ".join(
                f"{label} {value:.3f}"
                for label, value in zip(reading.rule.labels, score.values, strict=True)
            )
            self.failures[Failure.DISAGREES.value] += 1
            return Verdict(None, score, Failure.DISAGREES, told)
        return Verdict(msgspec.structs.replace(candidate, confidence=confidence), score, None)
