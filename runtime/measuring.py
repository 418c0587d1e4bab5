"""How fast a bundle's forms are on what this machine has: loading, single calls, the batcher.

Each form is measured twice: called by one thread with nothing before it, and behind the lane that
serves it in an engine, with its queue, planner and thread. What a GPU does without any of it is
measured by the prepared call itself: where there is a CUDA graph, that is its replay.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Backend, Failure, Floats, LoadedModel, LoadOptions, ModelFile
from runtime.bundle import Bundle
from runtime.config import InferenceConfig
from runtime.executors import DeviceThread, Job, learn_latency
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.loading import buckets_of, is_host
from runtime.parity import check_loaded
from runtime.planner import Planner
from runtime.prepared import PreparedModel
from runtime.request_queue import Request

LEAST_RUNS: Final = 20
MOST_RUNS: Final = 20_000
_FAR_NS: Final = 1 << 60
_NS_PER_S: Final = 1_000_000_000
_DEPTH: Final = 4
"""Largest batches' worth of requests kept waiting when saturated."""
_TIMEOUT_NS: Final = 60 * _NS_PER_S


@dataclass(frozen=True)
class Times:
    """What calls of one batch size took.

    Attributes:
        batch: Rows a call.
        runs: Calls measured.
        p50_us: Median.
        p99_us: 99th percentile.
        rows_per_s: All rows over all time.
    """

    batch: int
    runs: int
    p50_us: float
    p99_us: float
    rows_per_s: float


@dataclass
class FormTimes:
    """What was measured of one form on one device.

    Attributes:
        file: Its name in the bundle.
        format: Of the form.
        precision: Of the arithmetic it was loaded in; the form's if it was not.
        backend: What ran it.
        device: What it ran on.
        problem: Why it was not measured, or not to the end; "" if it was.
        load_ms: Reading, compiling, binding and the backend's own warm-up.
        reload_ms: The same once more, with what was compiled in the cache.
        warm_up_ms: Parity vectors and timing every batch size, as before serving.
        memory_bytes: About what it takes.
        parity_max_abs: Greatest difference of an output to the reference's.
        graphs: Calls that replay a CUDA graph; 0 where there are none.
        calls: Times of each batch size, called directly.
        bare: The same without anything around it: the graph's replay where there is one.
        request: One request at a time through the batcher.
        saturated_rows_per_s: Rows a second through the batcher with requests always waiting.
        inline: Whether the batcher ran it on the loop thread.
    """

    file: str
    format: str
    precision: str
    backend: str
    device: str
    problem: str = ""
    load_ms: float = 0.0
    reload_ms: float = 0.0
    warm_up_ms: float = 0.0
    memory_bytes: int = 0
    parity_max_abs: float = 0.0
    graphs: int = 0
    calls: list[Times] = field(default_factory=list)
    bare: list[Times] = field(default_factory=list)
    request: Times | None = None
    saturated_rows_per_s: float = 0.0
    inline: bool = False

    @property
    def best(self) -> Times | None:
        """The batch size with the most rows a second."""
        return max(self.calls, key=lambda times: times.rows_per_s, default=None)

    @property
    def best_bare(self) -> Times | None:
        """The same of the bare calls."""
        return max(self.bare, key=lambda times: times.rows_per_s, default=None)


def devices_of(bundle: Bundle, backends: Sequence[Backend]) -> list[tuple[Backend, str]]:
    """Return every backend and device here that reads a form of the bundle."""
    formats = {file.format for file in bundle.forms()}
    return [
        (backend, fact.device)
        for backend in backends
        if not formats.isdisjoint(backend.formats)
        for fact in backend.devices()
    ]


def measure_forms(
    bundle: Bundle, places: Sequence[tuple[Backend, str]], max_batch: int, seconds: float
) -> Iterator[FormTimes]:
    """Measure every form wherever it can be run.

    Args:
        bundle: An open bundle.
        places: Backends and devices, as ``devices_of`` returns them.
        max_batch: Largest batch of forms that take any.
        seconds: About how long each batch size is measured.

    Yields:
        One result a form and place, as soon as it is there.
    """
    for backend, device in places:
        for file in bundle.forms():
            if file.format in backend.formats:
                yield measure_form(bundle, backend, device, file, max_batch, seconds)


def measure_form(
    bundle: Bundle,
    backend: Backend,
    device: str,
    file: ModelFile,
    max_batch: int,
    seconds: float,
) -> FormTimes:
    """Measure one form on one device; what fails is told, not raised."""
    times = FormTimes(file.path.name, file.format, file.precision.value, backend.name, device)
    with tempfile.TemporaryDirectory(prefix="heqis-bench-") as cache:
        options = LoadOptions(buckets_of(max_batch), cache=Path(cache))
        load = partial(backend.load, file, bundle.shape, device, options)
        try:
            _measure_calls(times, bundle, load, seconds)
            asyncio.run(_measure_lane(times, bundle, load, seconds))
        except (BundleError, DeviceError) as error:
            times.problem = str(error)
    return times


def _measure_calls(times: FormTimes, bundle: Bundle, load: Any, seconds: float) -> None:
    began_s = time.perf_counter()
    loaded: LoadedModel = load()
    times.load_ms = 1e3 * (time.perf_counter() - began_s)
    try:
        began_s = time.perf_counter()
        times.parity_max_abs = check_loaded(bundle, loaded).max_abs
        learn_latency(loaded)
        times.warm_up_ms = 1e3 * (time.perf_counter() - began_s)
        times.memory_bytes, times.precision = loaded.memory_bytes, loaded.precision.value
        times.graphs = getattr(loaded, "graphs", 0)
        inputs, _ = bundle.parity()
        for bucket in loaded.buckets:
            _fill(loaded.staging(bucket), inputs)
            times.calls.append(time_calls(partial(loaded.run, bucket), bucket, seconds))
            if isinstance(loaded, PreparedModel):
                times.bare.append(time_calls(loaded.bare_call(bucket), bucket, seconds))
    finally:
        loaded.close()


def time_calls(call: Any, batch: int, seconds: float) -> Times:
    """Call again and again for about so long, at least ``LEAST_RUNS`` times."""
    taken_ns: list[int] = []
    clock = time.perf_counter_ns
    began_ns = clock()
    end_ns = began_ns + int(seconds * _NS_PER_S)
    last_ns = began_ns
    while len(taken_ns) < LEAST_RUNS or (last_ns < end_ns and len(taken_ns) < MOST_RUNS):
        call()
        now_ns = clock()
        taken_ns.append(now_ns - last_ns)
        last_ns = now_ns
    return _times(batch, taken_ns, last_ns - began_ns)


def _times(batch: int, taken_ns: list[int], whole_ns: int) -> Times:
    p50, p99 = np.percentile(taken_ns, (50, 99)) / 1e3
    rate = batch * len(taken_ns) / whole_ns * 1e9
    return Times(batch, len(taken_ns), float(p50), float(p99), rate)


def _fill(staging: Floats, inputs: Floats) -> None:
    staging[:] = np.resize(inputs, staging.shape)


class _Asker:
    """Asks a lane, one request at a time or without end; the loop thread owns it."""

    def __init__(self, lane_name: str, inputs: Floats) -> None:
        limit_ns = InferenceConfig().inline_below if is_host(lane_name) else 0
        self._inputs = inputs
        self._loop = asyncio.get_running_loop()
        self.lane = Lane(
            lane_name,
            DeviceThread(lane_name, timeout_ns=_TIMEOUT_NS),
            Planner(),
            self._gather,
            self._on_done,
            inline_below_ns=limit_ns,
            on_rows=self._on_rows,
        )
        self.lane.start(self._loop)
        self.answered = 0
        self._place = 0
        self._outstanding = 0
        self._open = 0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def one(self) -> int:
        """Ask once; return the nanoseconds until the answer was there."""
        began_ns = time.perf_counter_ns()
        self._done = self._loop.create_future()
        self._outstanding = 1
        self._refill()
        await self._done
        return time.perf_counter_ns() - began_ns

    async def saturate(self, seconds: float, outstanding: int) -> float:
        """Keep so many requests waiting; return answers a second."""
        self._done = self._loop.create_future()
        self._outstanding = outstanding
        answered, began_s = self.answered, time.perf_counter()
        self._loop.call_later(seconds, self._stop)
        self._refill()
        await self._done
        return (self.answered - answered) / (time.perf_counter() - began_s)

    def _stop(self) -> None:
        self._outstanding = 0
        self._after()

    def _refill(self) -> None:
        now_ns = time.monotonic_ns()
        while self._open < self._outstanding:
            self._open += 1
            self._place += 1
            failure = self.lane.submit(Request(0, _FAR_NS, now_ns, context=self._place))
            if failure is not None:
                self._fail(failure)
        self.lane.pump()

    def _after(self) -> None:
        """Go on after answers; in a later turn, so that others have theirs."""
        if self._done.done():
            return
        if self._outstanding > 1:
            self._loop.call_soon(self._refill)
        elif not self._open:
            self._done.set_result(None)

    def _gather(self, model: int, requests: list[Request], out: Floats) -> Sequence[bool]:
        count = len(self._inputs)
        places = [request.context % count for request in requests]  # type: ignore[operator]
        np.take(self._inputs, places, axis=0, out=out[: len(places)])
        return [True] * len(places)

    def _on_rows(self, requests: list[Request], rows: Floats, job: Job) -> None:
        self.answered += len(requests)
        self._open -= len(requests)
        rows.tolist()
        self._after()

    def _on_done(
        self, request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        if row is None:
            self._fail(failure or Failure.FAILED)
            return
        self.answered += 1
        self._open -= 1
        row.tolist()
        self._after()

    def _fail(self, failure: Failure) -> None:
        self._open -= 1
        if not self._done.done():
            self._done.set_exception(DeviceError(f"the batcher gave no answer: {failure.value}"))


async def _measure_lane(times: FormTimes, bundle: Bundle, load: Any, seconds: float) -> None:
    inputs, _ = bundle.parity()
    asker = _Asker(times.device, inputs)
    lane = asker.lane
    try:
        began_s = time.perf_counter()
        loaded: LoadedModel = await lane.call(load)
        times.reload_ms = 1e3 * (time.perf_counter() - began_s)
        latency = await lane.call(partial(learn_latency, loaded))
        lane.attach(0, loaded, latency=latency)
        await _ask_alone(times, asker, seconds)
        rate = await asker.saturate(max(2 * seconds, 0.1), _DEPTH * loaded.buckets[-1])
        times.saturated_rows_per_s = rate
        times.inline = lane.counts()["0"]["inline_batches"] > 0
        lane.detach(0)
        await lane.call(loaded.close)
    finally:
        await lane.close()


async def _ask_alone(times: FormTimes, asker: _Asker, seconds: float) -> None:
    taken_ns: list[int] = []
    began_s = time.perf_counter()
    while len(taken_ns) < LEAST_RUNS or (
        time.perf_counter() - began_s < seconds and len(taken_ns) < MOST_RUNS
    ):
        taken_ns.append(await asker.one())
    times.request = _times(1, taken_ns, int(1e9 * (time.perf_counter() - began_s)))
