"""Models behind one face: what the engine asks, whichever devices answer.

``Inference`` serves live: it knows the models, their bundles, the ladder of each and the lanes of
the devices. Every request gets exactly one answer: at once, where a model runs on the loop thread
or the request must be refused, or later through ``on_answer``. ``DirectInference`` serves replays.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from engine.core.errors import BundleError, ConfigError, DeviceError
from engine.core.models import Failure, Floats, Score
from engine.core.suggest import known_names
from latency.histogram import StageHistograms
from runtime import hot_swap
from runtime.asking import Answer, Ask, Gather, ModelEvent, OnAnswer, OnEvent, no_event
from runtime.bundle import Bundle
from runtime.catalog import nothing_runs, reasons_for_none
from runtime.config import InferenceConfig, ModelConfig
from runtime.direct import DirectInference
from runtime.executors import Job
from runtime.faults import Fault
from runtime.lane import Lane
from runtime.lane_answers import BatchFacts
from runtime.lanes import Lanes
from runtime.opinions import SecondAnswers
from runtime.placement import Outcome, Standing
from runtime.placer import Placer
from runtime.request_queue import Request
from runtime.served import Form, ModelRequest, Role, ServedModel

__all__ = [
    "Answer", "Ask", "DirectInference", "Gather", "Inference", "ModelEvent", "OnAnswer", "OnEvent",
]  # fmt: skip

STOP_LIMIT_S: Final = 2.0
"""How long a device may take to end; one that hangs is left behind."""


class Inference:
    """Answers live requests; belongs to the loop thread.

    Args:
        config: What all models share.
        models: As configured.
        bundles: Their bundles, in the same order.
        gather: Fills windows in, on the loop thread.
        on_answer: Takes the answers that ``ask`` did not return; may ask again.
        on_event: Hears what becomes of models and devices.
        clock_ns: Monotonic, nanoseconds; deadlines are on it. Called from device threads too.
    """

    def __init__(
        self,
        config: InferenceConfig,
        models: Sequence[ModelConfig],
        bundles: Sequence[Bundle],
        *,
        gather: Gather,
        on_answer: OnAnswer,
        on_event: OnEvent = no_event,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock_ns
        self._on_answer = on_answer
        self._on_event = on_event
        self._lanes = Lanes(config, gather, self._on_done, self._on_rows, self._on_health, clock_ns)
        pairs = list(zip(models, bundles, strict=True))
        self._placer = Placer(config, pairs, self._lanes, clock_ns, on_event)
        self._models = self._placer.models
        self._seconds = SecondAnswers(
            self._models, self._placer.opinions, clock_ns, on_event, self._placer.on_drift
        )
        self._asking = 0
        self._held: list[Answer] = []

    async def start(self) -> None:
        """Load every model wherever it may be served, compare it with its reference, time it.

        Returns once every device is ready or has had ``start_wait``; the slower ones join later.

        Raises:
            BundleError: a model can be run on nothing of its placement, now or later.
            DeviceError: a candidate to be compared cannot be loaded.
        """
        try:
            await self._placer.start()
            for model in self._models:
                _check_placed(model, self._clock())
                if model.config.shadow is not None:
                    await self.shadow(model.name, model.config.shadow)
        except (BundleError, DeviceError):
            await self.stop()
            raise

    async def stop(self) -> bool:
        """Answer what waits, give every device back; False if one hangs."""
        return await self._placer.stop(STOP_LIMIT_S)

    def ask(self, asks: Sequence[Ask]) -> list[Answer | None]:
        """Ask for scores; return the answers made at once, None where one comes later."""
        answers: list[Answer | None] = [None] * len(asks)
        waiting: list[ModelRequest] = []
        lanes: list[Lane] = []
        now_ns = self._clock()
        self._asking += 1
        try:
            for place, ask in enumerate(asks):
                request = self._submit(now_ns, ask, answers, place)
                if request is not None:
                    waiting.append(request)
                    if request.form.lane not in lanes:
                        lanes.append(request.form.lane)
            for lane in lanes:
                lane.pump()
        finally:
            self._asking -= 1
            for request in waiting:
                request.answers = None
        return answers

    @property
    def fullness(self) -> float:
        """The fullest device's waiting requests, as a part of those that may wait."""
        return self._lanes.fullness

    def limit_batches(self, share: float) -> None:
        """Let no batch be larger than this part of the largest, until it is set to 1 again."""
        self._lanes.limit(share)

    def status(self) -> dict[str, Any]:
        """Return models, devices and memory, for people and machines."""
        models, now_ns = {}, self._clock()
        for model, opinions in zip(self._models, self._placer.opinions, strict=True):
            models[model.name] = model.told(now_ns) | opinions.told(model.current)
        return {
            "models": models,
            "devices": self._lanes.told(),
            "memory": self._placer.loader.cache.told(),
            "second_answers_left_out": self._seconds.left_out,
        }

    def unserved(self) -> dict[str, str]:
        """Return the models that no device serves, each with what is wrong with its devices."""
        return {
            model.name: "; ".join(
                f"{rung['rung']} is {rung['standing']}: {rung['detail']}"
                for rung in model.told(self._clock())["rungs"]
            )
            for model in self._models
            if model.current is None
        }

    def histograms(self) -> dict[tuple[str, str], StageHistograms]:
        """Return the stages ``queue`` and ``inference`` by model and device."""
        return self._lanes.histograms()

    def bundle_of(self, name: str) -> Bundle:
        """Return the bundle that serves a model now.

        Raises:
            ConfigError: there is no such model.
        """
        return self._named(name).bundle

    async def swap(self, name: str, path: Path) -> dict[str, Any]:
        """Let another bundle serve a model; the old one does until the new one has passed parity.

        Returns:
            What changed, as the event ``model_swap`` says, which is told in the turn of the change.

        Raises:
            ConfigError: there is no such model.
            BundleError: the bundle cannot be used or does not fit.
            DeviceError: no device took it, or another bundle is being brought in.
        """
        model = self._named(name)
        with _Exclusive(model):
            return await hot_swap.swap(self._placer, model, path, self._on_event)

    async def shadow(self, name: str, path: Path | None) -> dict[str, Any]:
        """Let a candidate answer beside a model, compared and never traded; None ends it.

        Raises:
            ConfigError: there is no such model.
            BundleError: the bundle cannot be used or does not fit.
            DeviceError: no device took it, or another bundle is being brought in.
        """
        model = self._named(name)
        with _Exclusive(model):
            return await hot_swap.shadow(self._placer, model, path, self._on_event)

    def fault(self, device: str, kind: str | None) -> dict[str, Any]:
        """Break a device on purpose (raise, hang, late, nan), or mend it with None.

        Args:
            device: Its name, or ``backend@device`` for one library on it.
            kind: The fault.

        Raises:
            ConfigError: there is no such device, or no such fault.
        """
        known = sorted(self._lanes.breakable())
        if device not in known:
            expected = known_names("devices in use", known, device)
            raise ConfigError("command", "device", device, expected)
        faults = [fault.value for fault in Fault]
        if kind is not None and kind not in faults:
            raise ConfigError("command", "fault", kind, known_names("faults", faults, kind))
        forms = self._lanes.turn(device, None if kind is None else Fault(kind))
        fields = {"device": device, "fault": kind or "", "forms": forms}
        self._on_event(ModelEvent("model_fault", "", fields))
        return fields

    def _named(self, name: str) -> ServedModel:
        for model in self._models:
            if model.name == name:
                return model
        known = [model.name for model in self._models]
        raise ConfigError("command", "model", name, known_names("models", known, name))

    def _submit(
        self, now_ns: int, ask: Ask, answers: list[Answer | None], place: int
    ) -> ModelRequest | None:
        """Hand a request to the lane of the form that serves; None if that answered it."""
        model = self._models[ask.model]
        form = model.current
        if form is None:
            answers[place] = _refuse(model, ask.context, Failure.UNAVAILABLE)
            return None
        if ask.deadline_ns <= now_ns:  # of a tick that was old: no device is to blame for it
            answers[place] = _refuse(model, ask.context, Failure.REFUSED)
            return None
        priority = ask.priority if ask.priority >= 0 else model.config.priority
        request = ModelRequest(form, ask.deadline_ns, now_ns, priority, ask.context)
        request.answers, request.place = answers, place
        failure = form.lane.submit(request)
        if failure is None:
            return request
        answers[place] = _refuse(model, ask.context, failure)
        self._placer.note(form, failure)
        return None

    def _on_done(
        self, request: Request, row: Floats | None, failure: Failure | None, facts: BatchFacts
    ) -> None:
        """Take an answer from a lane."""
        asked: ModelRequest = request  # type: ignore[assignment] # lanes get no others
        if asked.role is Role.SERVE:
            self._serve(asked, row, failure, facts)
        elif asked.role is Role.PROBE:
            self._placer.on_probe(asked, row, failure)
        else:
            self._seconds.take(asked, row)

    def _on_rows(self, requests: list[Request], rows: Floats, job: Job) -> None:
        """Take the answers of a whole batch, all in one go where all are answers to be served."""
        batch, started_ns = len(requests), job.started_ns
        service_ns = job.finished_ns - started_ns
        asked: list[ModelRequest] = requests  # type: ignore[assignment] # lanes get no others
        form = asked[0].form
        only_served = asked[0].role is Role.SERVE and not form.probes.count
        if only_served and form.scorer.all_good(rows, batch):
            scores = form.scorer.scores(rows, asked, started_ns, service_ns)
            self._serve_all(form, asked, scores)
            return
        for request, row in zip(requests, rows, strict=False):
            queue_ns = started_ns - request.submitted_ns
            facts = BatchFacts(batch, job.bucket, queue_ns, service_ns, form.lane.device)
            self._on_done(request, row, None, facts)

    def _serve_all(self, form: Form, requests: list[ModelRequest], scores: list[Score]) -> None:
        model = self._models[form.model]
        model.scores += len(scores)
        model.ladder.note_answers(form.rung, len(scores))
        opinions = self._placer.opinions[form.model]
        followed = opinions.shadow is not None or opinions.reference is not None
        for request, score in zip(requests, scores, strict=True):
            self._give(request, Answer(request.context, score, None))
            if followed:
                self._seconds.follow(request, form, score.values)

    def _serve(
        self,
        request: ModelRequest,
        row: Floats | None,
        failure: Failure | None,
        facts: BatchFacts,
    ) -> None:
        form = request.form
        model = self._models[form.model]
        if row is not None:
            values = row.tolist()
            score = form.scorer.score(values, facts.batch, facts.queue_ns, facts.service_ns)
            if score is not None:
                model.scores += 1
                model.ladder.note(0, form.rung, Outcome.OK)
                self._give(request, Answer(request.context, score, None))
                self._follow(request, score)
                return
            failure, detail = Failure.INVALID, form.scorer.problem(values)
        else:
            failure, detail = failure or Failure.FAILED, form.lane.error_of(form.key)
        # Before the answer: who asks again because of it is asked elsewhere.
        self._placer.note(form, failure, detail)
        if not request.is_number:
            failure = Failure.INVALID
        self._give(request, _refuse(model, request.context, failure))

    def _follow(self, request: ModelRequest, score: Score) -> None:
        opinions = self._placer.opinions[request.form.model]
        if opinions.shadow is not None or opinions.reference is not None:
            self._seconds.follow(request, request.form, score.values)

    def _give(self, request: ModelRequest, answer: Answer) -> None:
        """Hand an answer to whoever waits for it; never into the middle of another ``ask``."""
        if request.answers is not None:
            request.answers[request.place] = answer
        elif not self._asking:
            self._on_answer(answer)
        else:
            if not self._held:
                asyncio.get_running_loop().call_soon(self._give_held)
            self._held.append(answer)

    def _give_held(self) -> None:
        held, self._held = self._held, []
        for answer in held:
            self._on_answer(answer)

    def _on_health(self, device: str, event: str) -> None:
        self._placer.on_health(device, event)


class _Exclusive:
    """One bundle at a time is brought in for a model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def __enter__(self) -> None:
        if self._model.swapping:
            raise DeviceError(f"{self._model.name}: another bundle is being brought in; wait")
        self._model.swapping = True

    def __exit__(self, *_: object) -> None:
        self._model.swapping = False


def _check_placed(model: ServedModel, now_ns: int) -> None:
    told = model.ladder.told(now_ns)
    absent = all(rung["standing"] == Standing.ABSENT.value for rung in told)
    if absent and not model.loading:
        formats = [file.format for file in model.bundle.forms()]
        whys = {
            rung: reasons_for_none(rung, formats) or [str(told[place]["detail"])]
            for place, rung in enumerate(model.ladder.rungs)
        }
        raise BundleError(model.bundle.path, nothing_runs(model.name, whys))


def _refuse(model: ServedModel, context: object, failure: Failure) -> Answer:
    model.failures[failure.value] += 1
    return Answer(context, None, failure)
