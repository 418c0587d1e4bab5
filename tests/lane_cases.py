"""What the tests of lanes share: a clock to turn, a model to break, and a lane with its answers."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.core.errors import DeviceError
from engine.core.models import Failure, Floats, ModelShape, Precision
from runtime.executors import Executor, Inline
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.planner import Planner
from runtime.request_queue import Request

MS: int = 1_000_000
SHAPE = ModelShape(4, 2, 3)


class HandClock:
    """A monotonic clock that stands still until it is turned."""

    def __init__(self, now_ns: int = 1_000 * MS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def turn(self, by_ns: int) -> None:
        self.now_ns += by_ns


class SumModel:
    """Answers (sum of the window, bucket, row); takes time on a turned clock, and breaks if told.

    ``before_run`` is called in every run, on the thread that runs it.
    """

    backend = "sum"
    precision = Precision.FP32

    def __init__(
        self,
        buckets: Sequence[int] = (1, 2, 4, 8),
        *,
        device: str = "cpu",
        slots: int = 2,
        before_run: Callable[[int], None] = lambda bucket: None,
    ) -> None:
        self.device = device
        self.shape = SHAPE
        self.buckets = tuple(buckets)
        self.memory_bytes = 1
        self.before_run = before_run
        self.threads: set[int] = set()
        self.runs: list[int] = []
        self.closed = 0
        window, features, outputs = SHAPE
        places = [(bucket, slot) for bucket in buckets for slot in range(slots)]
        self._staging = {p: np.zeros((p[0], window, features), np.float32) for p in places}
        self._output = {p: np.zeros((p[0], outputs), np.float32) for p in places}

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        if self.closed:
            raise DeviceError("closed")
        return self._staging[bucket, slot]

    def run(self, bucket: int, slot: int = 0) -> Floats:
        self.threads.add(threading.get_ident())
        self.runs.append(bucket)
        self.before_run(bucket)
        output = self._output[bucket, slot]
        output[:, 0] = self._staging[bucket, slot].sum(axis=(1, 2))
        output[:, 1] = bucket
        output[:, 2] = np.arange(bucket)
        return output

    def close(self) -> None:
        self.closed += 1


@dataclass
class Done:
    """One answer as ``on_done`` got it, its row copied."""

    request: Request
    row: list[float] | None
    failure: Failure | None
    facts: BatchFacts


@dataclass
class Rig:
    """A lane, what it was told and what it answered.

    A request's context is the number that fills its window; None stands for a window that is gone.
    """

    lane: Lane
    done: list[Done] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def ask(self, deadline_ns: int, value: object = 1.0, **others: int) -> Failure | None:
        """Submit to model 0, or another, now."""
        now_ns = self.lane._clock()
        model, priority = others.get("model", 0), others.get("priority", 5)
        return self.lane.submit(Request(model, deadline_ns, now_ns, priority, value))

    def failures(self) -> list[Failure | None]:
        return [one.failure for one in self.done]

    def sums(self) -> list[float | None]:
        return [None if one.row is None else one.row[0] for one in self.done]


def gather_values(model: int, requests: list[Request], out: Floats) -> list[bool]:
    """Fill each window with its request's context."""
    for place, request in enumerate(requests):
        if isinstance(request.context, float):
            out[place] = request.context
    return [request.context is not None for request in requests]


def make_rig(
    clock: Callable[[], int],
    executor: Executor | None = None,
    *,
    planner: Planner | None = None,
    inline_below_ns: int = 0,
) -> Rig:
    """Build a lane whose answers are kept."""
    rig: Rig

    def on_done(
        request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        rig.done.append(Done(request, None if row is None else row.tolist(), failure, facts))

    lane = Lane(
        "cpu",
        executor or Inline(clock),
        planner or Planner(),
        gather_values,
        on_done,
        clock,
        inline_below_ns=inline_below_ns,
        on_health=lambda device, event: rig.health.append(event),
    )
    rig = Rig(lane)
    return rig
