"""One device's lane: requests in, batches through its executor, one answer a request.

A shell around the planner: it reads the clock, has windows gathered into staging buffers, hands
batches over and answers. One scheduler a device over all its models. The loop thread owns it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from engine.core.errors import DeviceError
from engine.core.models import Failure, Floats, LoadedModel
from latency.histogram import StageHistograms
from latency.stages import MODEL_STAGES
from runtime.executors import DEPTH, Clock, Executor, Inline, Job
from runtime.hop import Hop
from runtime.hosted import LONGEST_INLINE_NS, HostedModel, ModelCounts
from runtime.lane_answers import (
    LOST,
    RETURNED,
    BatchFacts,
    Gather,
    OnDone,
    OnHealth,
    OnRows,
    no_health,
)
from runtime.latency_model import LatencyModel
from runtime.planner import Plan, Planner
from runtime.request_queue import Request

_INLINE_OVERHEAD_NS: Final = 10_000
_THREAD_OVERHEAD_NS: Final = 50_000
"""What a batch costs beside its run, where many small ones are weighed against a large one."""
_NS_PER_S: Final = 1_000_000_000
_FLOAT32: Final = np.dtype(np.float32)


class Lane:
    """One device's queue, planner and executor.

    ``submit`` queues; nothing runs before ``pump``, so that requests of one turn share a batch.
    What runs inline is answered before ``pump`` returns. Every request that ``submit`` took is
    answered once, through ``on_done``.

    Attributes:
        device: Its name.
        planner: The policy and its counters.
        hop: What handing a batch over and getting it back costs beside its run.

    Args:
        device: As above.
        executor: Runs batches; started with the lane.
        planner: As above.
        gather: Fills windows in, on the loop thread.
        on_done: Takes answers, on the loop thread; may submit again.
        clock: Monotonic, nanoseconds.
        inline_below_ns: Batches predicted to be faster run on the loop thread although the
            executor has a thread. 0 where a library may only be called by the thread that owns it.
        on_health: Hears what becomes of the device.
        on_rows: Takes the answers of batches of several requests that all got their rows in time,
            if given; all others go to ``on_done``.
    """

    def __init__(
        self,
        device: str,
        executor: Executor,
        planner: Planner,
        gather: Gather,
        on_done: OnDone,
        clock: Clock = time.monotonic_ns,
        *,
        inline_below_ns: int = 0,
        on_health: OnHealth = no_health,
        on_rows: OnRows | None = None,
    ) -> None:
        self.device = device
        self.planner = planner
        self.hop = Hop()
        self._executor = executor
        self._inline = Inline(clock)
        self._inline.start(None, self)
        self._gather = gather
        self._on_done = on_done
        self._on_rows = on_rows
        self._clock = clock
        self._inline_below_ns = inline_below_ns
        self._on_health = on_health
        self._hosted: dict[int, HostedModel] = {}
        self._records: dict[str, tuple[ModelCounts, StageHistograms]] = {}
        self._counts: dict[int, ModelCounts] = {}
        self._free_ns = 0
        self._pumping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def lost(self) -> bool:
        """Whether a call of the device has not returned in time."""
        return self._executor.lost

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.planner.queued and not self._executor.in_flight

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the executor; once. A lane that only ever runs inline works without."""
        self._loop = loop
        self._executor.start(loop, self)

    async def close(self, timeout_s: float = 1.0) -> bool:
        """Answer what waits with a failure and end the executor; False if its thread hangs."""
        self._fail(self.planner.take_all(), Failure.UNAVAILABLE)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return await self._executor.close(timeout_s)

    def attach(
        self,
        model: int,
        loaded: LoadedModel,
        *,
        name: str = "",
        slo_ns: int = 0,
        latency: LatencyModel | None = None,
    ) -> None:
        """Serve a model, or serve it from now on with another loaded form.

        Requests that wait go to the new form; batches under way end on the old one, which may be
        closed by ``call`` any time after.

        Args:
            model: Its key.
            loaded: Ready to run; two staging slots if the executor has a thread.
            name: What people call it.
            slo_ns: How long its requests are usually given; 0 if unknown.
            latency: What ``learn_latency`` found; learnt while running if None.
        """
        latency = latency or LatencyModel(loaded.buckets)
        overhead_ns = _THREAD_OVERHEAD_NS if self._executor.threaded else _INLINE_OVERHEAD_NS
        queue = self.planner.attach(model, latency, slo_ns, overhead_ns)
        name = name or str(model)
        if name not in self._records:
            self._records[name] = ModelCounts(), StageHistograms(MODEL_STAGES)
        hosted = HostedModel(model, name, loaded, queue, *self._records[name])
        hosted.begin_inline(self._inline_below_ns)
        if model in self._hosted:
            hosted.follow(self._hosted[model])
        self._hosted[model] = hosted
        self._counts[model] = hosted.counts

    def detach(self, model: int) -> list[Request]:
        """Stop serving a model; return what waited for it, unanswered."""
        self._hosted.pop(model, None)
        return self.planner.detach(model)

    def drop(self, model: int, failure: Failure) -> None:
        """Stop serving a model; what waits for it fails."""
        self._fail(self.detach(model), failure)

    def submit(self, request: Request) -> Failure | None:
        """Queue a request, or say at once why not; ``submitted_ns`` is taken for the time."""
        hosted = self._hosted.get(request.model)
        if hosted is None:
            return Failure.UNAVAILABLE
        hosted.counts.asked += 1
        executor = self._executor
        if executor.lost:
            failure: Failure | None = Failure.FAILED
        else:
            now_ns, busy_ns = request.submitted_ns, 0
            if not hosted.inline and executor.in_flight:
                busy_ns = self._free_ns - now_ns
            failure = self.planner.admit(now_ns, request, busy_ns)
        if failure is not None:
            hosted.counts.note_failure(failure)
        return failure

    def pump(self) -> None:
        """Run or hand over all that may be now."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.planner.queued and self._step():
                pass
        finally:
            self._pumping = False

    async def call(self, work: Callable[[], Any]) -> Any:
        """Do other work on the thread that owns the device; no batch is handed over meanwhile.

        Raises:
            Exception: whatever the work raised.
        """
        return await self._executor.call(work)

    def counts(self) -> dict[str, dict[str, Any]]:
        """Return what was done, by the name of the model."""
        return {one.name: one.counts.as_dict() for one in self._hosted.values()}

    def histograms(self) -> dict[str, StageHistograms]:
        """Return the stages ``queue`` and ``inference`` by model, of all that ever was here."""
        return {name: histograms for name, (_, histograms) in self._records.items()}

    def error_of(self, model: int) -> str:
        """Return what the library said last of an attached model, "" if nothing or if unknown."""
        hosted = self._hosted.get(model)
        return "" if hosted is None else hosted.counts.last_error

    def latency(self, model: int) -> LatencyModel:
        """Return what was learnt of an attached model."""
        return self._hosted[model].queue.latency

    def on_finish(self, job: Job) -> None:
        """Take back a batch; keep the device busy first, then answer, then learn."""
        job.hosted.in_flight -= 1
        now_ns = self._clock() if job.handed_ns else job.finished_ns
        rows = job.output
        if rows is not None:
            outputs = job.hosted.outputs
            if rows.shape != (job.bucket, outputs) or rows.dtype != _FLOAT32:
                job.error = DeviceError(
                    f"it answered {rows.dtype} {rows.shape}, not {outputs} a row"
                )
                rows = None
        if job.error is not None:
            job.hosted.note_error(now_ns, job.error, self.device)
        if job.handed_ns:
            self._note_hop(now_ns, job)
            if rows is not None:
                rows = rows[: len(job.requests)].copy()
        if self.planner.queued:
            self.pump()
        self._deliver(job, rows, now_ns)
        self._learn(now_ns, job)

    def on_lost(self, jobs: list[Job]) -> None:
        """Answer everything with a failure."""
        for job in jobs:
            job.hosted.in_flight -= 1
            self._fail(job.requests, Failure.FAILED)
        self._fail(self.planner.take_all(), Failure.FAILED)
        self._on_health(self.device, LOST)

    def on_return(self) -> None:
        """Say so; requests are taken again."""
        self._on_health(self.device, RETURNED)

    def on_tick(self) -> None:
        """Answer what cannot be met any more, and go on if the device may."""
        self._fail_each(self.planner.expire(self._clock()))
        self.pump()

    def _step(self) -> bool:
        """Do one thing; False if there is nothing to do now."""
        executor, now_ns = self._executor, self._clock()
        if executor.calls or executor.lost:
            return self._step_inline(now_ns)
        if not executor.in_flight:
            return self._begin(self.planner.plan(now_ns, now_ns + self.hop.allowance_ns()))
        if self._step_inline(now_ns):
            return True
        if executor.in_flight >= DEPTH or not self.planner.has_full():
            return False
        # Behind another batch only the way back is still to come.
        start_ns = max(now_ns, self._free_ns) + self.hop.allowance_ns(0.5)
        return self._begin(self.planner.plan(now_ns, start_ns, full_only=True))

    def _step_inline(self, now_ns: int) -> bool:
        """Run a batch here beside what the thread does."""
        for hosted in self._hosted.values():
            queue = hosted.queue
            if hosted.inline and queue.keys and not hosted.in_flight:
                bucket = queue.size_of(queue.fill(len(queue)))
                if hosted.fits_inline(bucket, self._inline_below_ns):
                    return self._begin(self.planner.plan(now_ns, only=queue))
        return False

    def _begin(self, plan: Plan) -> bool:
        if plan.dropped:
            self._fail_each(plan.dropped)
        if not plan.batch:
            if plan.wait_until_ns:
                self._wait(plan.wait_until_ns)
            return False
        hosted = self._hosted[plan.model]
        inline = not self._executor.threaded
        if not inline and not hosted.in_flight:  # else the thread may be at the same buffers
            inline = hosted.fits_inline(plan.bucket, self._inline_below_ns)
        job = Job(hosted, plan.batch, plan.bucket, 0 if inline else hosted.slot)
        if not self._load(job):
            return True
        hosted.counts.note_batch(len(plan.batch), plan.bucket, inline=inline)
        hosted.in_flight += 1
        if inline:
            self._inline.put(job)
        else:
            self._hand_over(job)
        return True

    def _load(self, job: Job) -> bool:
        """Have the windows gathered; False if there is nothing to run, and all is answered."""
        try:
            staging = job.loaded.staging(job.bucket, job.slot)
        except DeviceError as error:
            job.hosted.note_error(self._clock(), error, self.device)
            self._fail(job.requests, Failure.FAILED)
            return False
        job.ok = self._gather(job.hosted.model, job.requests, staging)
        if True not in job.ok:
            self._fail(job.requests, Failure.SUPERSEDED)
            return False
        return True

    def _hand_over(self, job: Job) -> None:
        hosted = job.hosted
        hosted.slot ^= 1
        job.handed_ns = now_ns = self._clock()
        self._free_ns = max(now_ns, self._free_ns) + hosted.queue.latency.predict(job.bucket)
        self._executor.put(job)

    def _learn(self, now_ns: int, job: Job) -> None:
        """Take in how long a batch took; choose anew where the next small one runs."""
        hosted, service_ns = job.hosted, job.finished_ns - job.started_ns
        below_ns = self._inline_below_ns
        hosted.record(job.started_ns, service_ns, job.requests)
        if service_ns > LONGEST_INLINE_NS and not job.handed_ns and self._executor.threaded:
            hosted.note_inline(now_ns, service_ns, below_ns)
        if job.error is None and hosted.loaded is job.loaded:
            latency = hosted.queue.latency
            latency.observe(job.bucket, service_ns)
            if not hosted.inline or latency.predicted[0] > below_ns:
                hosted.choose_inline(now_ns, below_ns)

    def _note_hop(self, now_ns: int, job: Job) -> None:
        if not self._executor.in_flight:
            self._free_ns = 0
            self.hop.note(now_ns - job.handed_ns - (job.finished_ns - job.started_ns))
            job.hosted.queue.overhead_ns = max(_THREAD_OVERHEAD_NS, int(self.hop.mean_ns))

    def _deliver(self, job: Job, rows: Floats | None, now_ns: int) -> None:
        """Answer a batch that ran; a row that came after its deadline is nobody's."""
        requests = job.requests
        if (
            rows is not None
            and len(requests) > 1
            and self._on_rows is not None
            and now_ns <= requests[0].deadline_ns  # the earliest
            and False not in job.ok
        ):
            job.hosted.counts.answered += len(requests)
            self._on_rows(requests, rows, job)
            return
        counts, on_done, device = job.hosted.counts, self._on_done, self.device
        started_ns, batch, bucket = job.started_ns, len(requests), job.bucket
        service_ns = job.finished_ns - started_ns
        answered = 0
        for place, request in enumerate(requests):
            queue_ns = started_ns - request.submitted_ns
            facts = BatchFacts(batch, bucket, queue_ns, service_ns, device)
            if rows is not None and job.ok[place] and now_ns <= request.deadline_ns:
                answered += 1
                on_done(request, rows[place], None, facts)
                continue
            failure = _failure(rows, gone=not job.ok[place])
            counts.note_failure(failure)
            on_done(request, None, failure, facts)
        counts.answered += answered

    def _fail(self, requests: Iterable[Request], failure: Failure) -> None:
        self._fail_each((request, failure) for request in requests)

    def _fail_each(self, failed: Iterable[tuple[Request, Failure]]) -> None:
        now_ns = self._clock() if failed else 0
        for request, failure in failed:
            counts = self._counts.get(request.model)
            if counts is not None:
                counts.note_failure(failure)
            waited_ns = now_ns - request.submitted_ns
            self._on_done(request, None, failure, BatchFacts(0, 0, waited_ns, 0, self.device))

    def _wait(self, until_ns: int) -> None:
        if self._timer is None and self._loop is not None:
            delay_s = max(0, until_ns - self._clock()) / _NS_PER_S
            self._timer = self._loop.call_later(delay_s, self._on_wait)

    def _on_wait(self) -> None:
        self._timer = None
        self.pump()


def _failure(rows: Floats | None, *, gone: bool) -> Failure:
    if gone:
        return Failure.SUPERSEDED
    return Failure.FAILED if rows is None else Failure.LATE
