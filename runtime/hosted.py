"""One model as a lane holds it: what runs it, who waits, what was counted and how long it took."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from engine.core.models import Failure, LoadedModel
from latency.histogram import StageHistograms
from latency.stages import MODEL_STAGES
from runtime.request_queue import Request, RequestQueue

QUEUE: Final = MODEL_STAGES.index("queue")
INFERENCE: Final = MODEL_STAGES.index("inference")
MAX_ERROR: Final = 500
TELL_ERROR_NS: Final = 60_000_000_000
"""Shortest time between two lines of the log about one model's errors."""
LONGEST_INLINE_NS: Final = 10_000_000
"""Half of the loop's usual stall budget."""
BAR_NS: Final = (60_000_000_000, 3_600_000_000_000)
"""First and longest time away from the loop thread after a call that took longer."""
_ENTER_INLINE: Final = 0.8
_LEAVE_INLINE: Final = 1.25
"""Hysteresis around the time below which calls run on the loop thread."""
_FEW: Final = 12
"""Values below which recording them one by one is cheaper than an array of them."""
_log = logging.getLogger(__name__)


class ModelCounts:
    """What a lane did for one model.

    Attributes:
        asked: Requests, refused ones too.
        answered: Requests that got a row of numbers.
        failures: Requests that got none, by reason.
        batches: Batches run, failed ones too.
        inline: Of these, run on the loop thread.
        rows: Requests in these batches.
        padding: Rows computed for nobody.
        sizes: Batches by number of requests; bounded by the largest bucket.
        errors: Batches that failed.
        last_error: What the library said of the last of them, at most ``MAX_ERROR`` characters.
        slow_inline: Calls on the loop thread that took longer than ``LONGEST_INLINE_NS``.
    """

    __slots__ = (
        "answered", "asked", "batches", "errors", "failures", "inline", "last_error", "padding",
        "rows", "sizes", "slow_inline", "told_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self.failures: dict[Failure, int] = {}
        self.batches = 0
        self.inline = 0
        self.rows = 0
        self.padding = 0
        self.sizes: dict[int, int] = {}
        self.errors = 0
        self.last_error = ""
        self.slow_inline = 0
        self.told_ns = 0

    def note_failure(self, failure: Failure, count: int = 1) -> None:
        """Count requests that got no answer."""
        self.failures[failure] = self.failures.get(failure, 0) + count

    def note_batch(self, requests: int, bucket: int, *, inline: bool) -> None:
        """Count a batch."""
        self.batches += 1
        self.inline += inline
        self.rows += requests
        self.padding += bucket - requests
        self.sizes[requests] = self.sizes.get(requests, 0) + 1

    def note_error(self, error: Exception) -> None:
        """Count a batch that failed."""
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {error}"[:MAX_ERROR]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for a status."""
        return {
            "asked": self.asked,
            "answered": self.answered,
            "failures": {str(reason): count for reason, count in self.failures.items()},
            "batches": self.batches,
            "inline_batches": self.inline,
            "rows": self.rows,
            "padding_rows": self.padding,
            "errors": self.errors,
            "last_error": self.last_error,
            "slow_inline": self.slow_inline,
            "batch_sizes": {str(size): self.sizes[size] for size in sorted(self.sizes)},
        }


class HostedModel:
    """One loaded model on one lane. The loop thread owns it.

    Attributes:
        model: Its key.
        name: What people call it.
        loaded: What runs it.
        queue: Its requests, and its latency model.
        counts: What was done; the lane's, and goes on when the model is swapped or comes back.
        histograms: Stages ``queue`` and ``inference``; likewise.
        inline: Predicted to be faster than a hop to the device's thread, and not barred.
        slot: Staging buffer of its next batch for the thread.
        flights: Batches handed over and not yet back, shared with the form before and after it.
        outputs: Columns of an answer.
        barred_ns: Until when it does not run on the loop thread, whatever is predicted.
    """

    __slots__ = (
        "_bar_ns", "barred_ns", "counts", "flights", "histograms", "inline", "loaded", "model",
        "name", "outputs", "queue", "slot",
    )  # fmt: skip

    def __init__(
        self,
        model: int,
        name: str,
        loaded: LoadedModel,
        queue: RequestQueue,
        counts: ModelCounts,
        histograms: StageHistograms,
    ) -> None:
        self.model = model
        self.name = name
        self.loaded = loaded
        self.queue = queue
        self.counts = counts
        self.histograms = histograms
        self.inline = False
        self.slot = 0
        self.flights = [0]
        self.outputs = loaded.shape.outputs
        self.barred_ns = 0
        self._bar_ns = BAR_NS[0]

    @property
    def in_flight(self) -> int:
        """Batches handed over and not yet back, those of the form before it included."""
        return self.flights[0]

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        self.flights[0] = count

    def follow(self, old: "HostedModel") -> None:
        """Go on where the form that had this place is: both may fill the same buffers."""
        self.flights, self.slot = old.flights, old.slot

    def begin_inline(self, below_ns: int) -> None:
        """Choose where it runs at first: on the loop thread only if known to be fast."""
        self.inline = 0 < self.queue.latency.predicted[0] <= below_ns

    def fits_inline(self, bucket: int, below_ns: int) -> bool:
        """Return whether a batch may run on the loop thread."""
        return self.inline and self.queue.latency.predict(bucket) <= below_ns * _LEAVE_INLINE

    def choose_inline(self, now_ns: int, below_ns: int) -> None:
        """Choose anew where it runs, by what was learnt."""
        limit_ns = below_ns * (_LEAVE_INLINE if self.inline else _ENTER_INLINE)
        self.inline = now_ns >= self.barred_ns and self.queue.latency.predicted[0] <= limit_ns

    def note_inline(self, now_ns: int, took_ns: int, below_ns: int) -> None:
        """Bar the model from the loop thread if a call there took far too long.

        Nothing can end a call that hangs there, so a model that was slow once has to prove itself
        on its device's thread, for twice as long each time.
        """
        if took_ns > max(LONGEST_INLINE_NS, below_ns):
            self.counts.slow_inline += 1
            self.barred_ns = now_ns + self._bar_ns
            self._bar_ns = min(2 * self._bar_ns, BAR_NS[1])
            self.inline = False

    def note_error(self, now_ns: int, error: Exception, device: str) -> None:
        """Count a failed batch and log it, at most once in ``TELL_ERROR_NS``."""
        counts = self.counts
        counts.note_error(error)
        if not counts.told_ns or now_ns - counts.told_ns >= TELL_ERROR_NS:
            counts.told_ns = now_ns
            _log.warning(
                "model %s on %s failed, %d times so far: %s",
                self.name, device, counts.errors, counts.last_error,
            )  # fmt: skip

    def record(self, started_ns: int, service_ns: int, requests: Sequence[Request]) -> None:
        """Record how long each request of a batch waited, and for each how long it ran."""
        if len(requests) == 1:
            queue_ns = started_ns - requests[0].submitted_ns
            self.histograms.record_pair(QUEUE, queue_ns, INFERENCE, service_ns)
            return
        self.histograms.record_repeat(INFERENCE, service_ns, len(requests))
        self._record_queue(started_ns, requests)

    def _record_queue(self, started_ns: int, requests: Sequence[Request]) -> None:
        if len(requests) < _FEW:
            for request in requests:
                self.histograms.record_value(QUEUE, started_ns - request.submitted_ns)
            return
        starts = np.array([request.submitted_ns for request in requests], np.int64)
        self.histograms.record_spans(QUEUE, started_ns, starts, len(starts))
