"""A device with a model on it: the real lane and its batches, and a thread that is none.

The model's answer depends on nothing but the window, so that whoever asks again is told the same.
"""

import asyncio
import atexit
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from live_models import trade_bundle
from simulation.virtual_loop import VirtualLoop

from engine.composition import Blueprint
from engine.core.errors import DeviceError
from engine.core.models import Failure, Floats, ModelShape, Precision
from engine.model_control import ModelControl
from engine.model_desk import Asking, WindowGatherer
from runtime.asking import Answer, Ask
from runtime.executors import DeviceThread, ExecutorEvents, Job, run_job
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.planner import Planner
from runtime.request_queue import Request
from runtime.scoring import Scorer, make_scorer

MS: Final = 1_000_000
TIMEOUT_NS: Final = 100 * MS
BUCKETS: Final[tuple[int, ...]] = (1, 2, 4, 8)


class Hardware:
    """How the device behaves; owned by the world.

    Attributes:
        fails: Every run raises.
        slow_ns: What every run takes besides; beyond TIMEOUT_NS it counts as hanging.
        max_queued: Requests that may wait for it.
    """

    def __init__(self, loop: VirtualLoop, rng: Random, max_queued: int) -> None:
        self.loop = loop
        self.rng = rng
        self.fails = False
        self.slow_ns = 0
        self.max_queued = max_queued

    def now_ns(self) -> int:
        return self.loop.now_ns


class Direction:
    """A ``LoadedModel`` that tells down, flat, up from the window's newest row."""

    backend = "simulated"
    device = "npu"
    precision = Precision.FP32
    memory_bytes = 1

    def __init__(self, shape: ModelShape, hardware: Hardware | None) -> None:
        self.shape = shape
        self.buckets = BUCKETS
        self._hardware = hardware
        places = [(bucket, slot) for bucket in BUCKETS for slot in range(2)]
        size = (shape.window, shape.features)
        self._staging = {p: np.zeros((p[0], *size), np.float32) for p in places}

    def staging(self, bucket: int, slot: int = 0) -> Floats:
        return self._staging[bucket, slot]

    def run(self, bucket: int, slot: int = 0) -> Floats:
        if self._hardware is not None and self._hardware.fails:
            raise DeviceError("the device fails")
        return np.array([probabilities(row) for row in self._staging[bucket, slot]], np.float32)

    def close(self) -> None:
        return


def probabilities(window: Floats) -> tuple[float, float, float]:
    """Return the probabilities of down, flat and up."""
    lean = math.tanh(20.0 * float(window[-1].sum()))
    up, down = (0.45 + 0.4 * lean, 0.45 - 0.4 * lean)
    return down, 1.0 - up - down, up


class SimulatedThread(DeviceThread):
    """A device's thread whose work is done in its time on the loop."""

    def __init__(self, hardware: Hardware) -> None:
        super().__init__("npu", timeout_ns=TIMEOUT_NS, clock=hardware.now_ns)
        self._hardware = hardware
        self._inbox: Any = self
        self._queue: list[Job] = []
        self._busy = False
        self._handing = False

    def start(self, loop: asyncio.AbstractEventLoop, events: ExecutorEvents) -> None:
        self._loop, self._events = loop, events

    def put(self, job: Any) -> None:
        """Be the lane's executor, and the inbox to which that hands on."""
        if self._handing:
            self._queue.append(job)
            self._work_on()
            return
        self._handing = True
        try:
            super().put(job)
        finally:
            self._handing = False

    def _work_on(self) -> None:
        while not self._busy and self._queue:
            job = self._queue.pop(0)
            hardware = self._hardware
            taken_ns = 300_000 + hardware.rng.randrange(700_000) + hardware.slow_ns
            self._busy = True
            began_ns = hardware.now_ns()
            self._running_loop().call_later(taken_ns / 1e9, self._end, job, began_ns)

    def _end(self, job: Job, began_ns: int) -> None:
        if not job.abandoned:
            run_job(job, self._hardware.now_ns)
            job.started_ns = began_ns
        self._busy = False
        self._on_job(job)
        self._work_on()

    async def close(self, timeout_s: float = 1.0) -> bool:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True


class LaneInference:
    """An ``Asking`` over one real lane."""

    def __init__(self, blueprint: Blueprint, gather: WindowGatherer, hardware: Hardware) -> None:
        self._gather = gather
        self._clock = hardware.now_ns
        self.on_answer: Any = None
        model = blueprint.models[0]
        loaded = Direction(shape_of(blueprint), hardware)
        self._scorer: Scorer = make_scorer(model.config.name, model.bundle, loaded)
        self.lane = Lane(
            "npu",
            SimulatedThread(hardware),
            Planner(hardware.max_queued),
            self._fill,
            self._on_done,
            hardware.now_ns,
        )
        self.lane.attach(0, loaded)

    def _fill(self, model: int, requests: list[Request], out: Floats) -> Sequence[bool]:
        return self._gather(0, [request.context for request in requests], out)

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        now_ns, answers = self._clock(), []
        for ask in asks:
            failure = self.lane.submit(Request(0, ask.deadline_ns, now_ns, 5, ask.context))
            answers.append(None if failure is None else Answer(ask.context, None, failure))
        if None in answers:
            asyncio.get_running_loop().call_soon(self.lane.pump)
        return answers

    def _on_done(
        self, request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        score = None
        if row is not None:
            values = row.tolist()
            score = self._scorer.score(values, facts.batch, facts.queue_ns, facts.service_ns)
            failure = Failure.INVALID if score is None else None
        self.on_answer(Answer(request.context, score, failure))

    def histograms(self) -> Mapping[tuple[str, str], Any]:
        return {}

    @property
    def fullness(self) -> float:
        return self.lane.planner.fullness

    def limit_batches(self, share: float) -> None:
        self.lane.planner.limit(share)


class AtOnce:
    """An ``Asking`` that answers at once, as a replay's does."""

    def __init__(self, blueprint: Blueprint, gather: WindowGatherer) -> None:
        model = blueprint.models[0]
        shape = shape_of(blueprint)
        self._gather = gather
        self._window = np.zeros((1, shape.window, shape.features), np.float32)
        loaded = Direction(shape, None)
        self._scorer = make_scorer(model.config.name, model.bundle, loaded)

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        return [self._answer(ask) for ask in asks]

    def _answer(self, ask: Ask) -> Answer:
        if not self._gather(0, [ask.context], self._window)[0]:
            return Answer(ask.context, None, Failure.SUPERSEDED)
        row = np.array(probabilities(self._window[0]), np.float32).tolist()
        score = self._scorer.score(row, 1, 0, 0)
        return Answer(ask.context, score, Failure.INVALID if score is None else None)

    def histograms(self) -> Mapping[tuple[str, str], Any]:
        return {}


class SimulatedModels(ModelControl):
    """Stands for the engine's models: the real way of answers, over one simulated device."""

    hardware: Hardware
    inference: Any

    def infer(self, blueprint: Blueprint, gather: WindowGatherer) -> Asking:
        self.inference = LaneInference(blueprint, gather, self.hardware)
        self.inference.on_answer = self._on_answer
        return self.inference  # type: ignore[no-any-return] # made above

    async def start(self) -> None:
        self.inference.lane.start(asyncio.get_running_loop())

    async def stop(self) -> None:
        await self.inference.lane.close()

    def status(self) -> Mapping[str, Any]:
        return {}

    def problems(self) -> list[str]:
        return []

    def histograms(self) -> Mapping[tuple[str, str], Any]:
        return {}


def shape_of(blueprint: Blueprint) -> ModelShape:
    """Return the shape of the one model."""
    manifest = blueprint.models[0].bundle.manifest
    return ModelShape(manifest.window, len(manifest.features), len(manifest.output.labels))


@cache
def bundle_path() -> Path:
    """Return the bundle of the model, written once."""
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return trade_bundle(directory / "bundle").path
