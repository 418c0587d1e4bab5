"""Models asked at once, on the processor, one window a call: what a replay uses.

Virtual time stands still while a model computes, so nothing queues and nothing is late. Every
window is a batch of its own (or the same part of a padded one), for how requests are grouped
depends on how a stream was cut into bursts, and must not change a single bit of an answer.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from engine.core.errors import DeviceError
from engine.core.models import Backend, Failure, Floats, LoadedModel, LoadOptions
from latency.histogram import StageHistograms
from latency.stages import MODEL_STAGES
from runtime.asking import Answer, Ask, Gather
from runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from runtime.bundle import Bundle
from runtime.config import ModelConfig
from runtime.row_checks import finite_check
from runtime.scoring import Scorer, make_scorer

DEVICE: Final = "cpu"
_INFERENCE: Final = MODEL_STAGES.index("inference")


def finite_rows(rows: Floats) -> list[bool]:
    """Return for each window, float32 (N, W, F), whether all of it is a number."""
    if finite_check()(rows, len(rows)):
        return [True] * len(rows)
    flat = np.isfinite(rows).reshape(len(rows), -1)
    return [bool(row.all()) for row in flat]


class _Direct:
    """One model, loaded."""

    def __init__(self, config: ModelConfig, bundle: Bundle, loaded: LoadedModel) -> None:
        self.name = config.name
        self.bundle = bundle
        self.loaded = loaded
        self.bucket = loaded.buckets[0]
        self.staging = loaded.staging(self.bucket)
        self.scorer: Scorer = make_scorer(config.name, bundle, loaded)
        self.histograms = StageHistograms(MODEL_STAGES)
        self.scores = 0
        self.failures: dict[Failure, int] = {}


class DirectInference:
    """Answers every request at once, on the reference form; belongs to one thread.

    Scores say 0 for their times, which is what passed on the replay's clock; the true times of
    the runs are in ``histograms``.

    Args:
        models: As configured.
        bundles: Their bundles, in the same order.
        gather: Fills windows in.
        bucket: Windows a call; a call always has as many, the rest is padding.

    Raises:
        BundleError: a reference form cannot be loaded.
        DeviceError: the library is not here or failed.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig],
        bundles: Sequence[Bundle],
        *,
        gather: Gather,
        bucket: int = 1,
    ) -> None:
        self._gather = gather
        self._models: list[_Direct] = []
        backend: Backend = OnnxRuntimeBackend()
        options = LoadOptions((bucket,), slots=1)
        for config, bundle in zip(models, bundles, strict=True):
            loaded = backend.load(bundle.reference, bundle.shape, DEVICE, options)
            self._models.append(_Direct(config, bundle, loaded))

    def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Return the answers, in the order of the requests."""
        answers: list[Answer | None] = [None] * len(asks)
        for number in sorted({ask.model for ask in asks}):
            model = self._models[number]
            places = [place for place, ask in enumerate(asks) if ask.model == number]
            for first in range(0, len(places), model.bucket):
                chosen = places[first : first + model.bucket]
                contexts = [asks[place].context for place in chosen]
                for place, answer in zip(chosen, self._run(number, contexts), strict=True):
                    answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """Give the models back; closing twice does nothing."""
        for model in self._models:
            model.loaded.close()

    def status(self) -> dict[str, Any]:
        """Return what serves and what was answered, by model."""
        return {
            model.name: {
                "bundle": model.bundle.identity,
                "backend": model.loaded.backend,
                "device": model.loaded.device,
                "precision": model.loaded.precision.value,
                "scores": model.scores,
                "failures": {failure.value: count for failure, count in model.failures.items()},
            }
            for model in self._models
        }

    def histograms(self) -> dict[tuple[str, str], StageHistograms]:
        """Return the true times, by model and device."""
        return {(model.name, model.loaded.device): model.histograms for model in self._models}

    def _run(self, number: int, contexts: Sequence[object]) -> list[Answer]:
        """Answer at most a bucket of requests of one model."""
        model = self._models[number]
        there = self._gather(number, contexts, model.staging)
        finite = finite_rows(model.staging[: len(contexts)])
        began_ns = time.perf_counter_ns()
        try:
            outputs = model.loaded.run(model.bucket)
        except DeviceError:
            return [self._fail(model, context, Failure.FAILED) for context in contexts]
        model.histograms.record_value(_INFERENCE, time.perf_counter_ns() - began_ns)
        rows = outputs[: len(contexts)].tolist()
        return [
            self._answer(model, *each) for each in zip(contexts, rows, there, finite, strict=True)
        ]

    def _answer(
        self, model: _Direct, context: object, row: list[float], there: bool, finite: bool
    ) -> Answer:
        if not there:
            return self._fail(model, context, Failure.SUPERSEDED)
        score = model.scorer.score(row, 1, 0, 0) if finite else None
        if score is None:
            return self._fail(model, context, Failure.INVALID)
        model.scores += 1
        return Answer(context, score, None)

    @staticmethod
    def _fail(model: _Direct, context: object, failure: Failure) -> Answer:
        model.failures[failure] = model.failures.get(failure, 0) + 1
        return Answer(context, None, failure)
