"""One model as a lane holds it: what runs it, who waits, what was counted and how long it took."""

from typing import Any, Final

from engine.core.models import Failure, LoadedModel
from latency.histogram import StageHistograms
from latency.stages import MODEL_STAGES
from runtime.request_queue import RequestQueue

QUEUE: Final = MODEL_STAGES.index("queue")
INFERENCE: Final = MODEL_STAGES.index("inference")


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
    """

    __slots__ = (
        "answered", "asked", "batches", "failures", "inline", "padding", "rows", "sizes",
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
        inline: Predicted to be faster than a hop to the device's thread.
        slot: Staging buffer of its next batch for the thread.
        in_flight: Batches of it handed over and not yet back.
        outputs: Columns of an answer.
    """

    __slots__ = (
        "counts", "histograms", "in_flight", "inline", "loaded", "model", "name", "outputs",
        "queue", "slot",
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
        self.in_flight = 0
        self.outputs = loaded.shape.outputs
