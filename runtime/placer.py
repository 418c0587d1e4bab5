"""Keeps models on devices: brings forms up, leaves devices, probes them, returns to them.

The decisions are the ladder's (``placement``); this is the shell that carries them out.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from engine.core.errors import BundleError, DeviceError
from engine.core.models import Failure, Floats
from runtime.asking import ModelEvent, OnEvent
from runtime.bundle import Bundle
from runtime.config import InferenceConfig, ModelConfig
from runtime.lane_answers import LOST
from runtime.lanes import Lanes
from runtime.loading import HOST, Loader
from runtime.opinions import Opinions
from runtime.parity import compare
from runtime.placement import Cause, LadderPolicy, Outcome, Transition
from runtime.served import Form, ModelRequest, Place, Role, ServedModel

_BLAMED: Final = {
    Failure.LATE: Outcome.LATE,
    Failure.REFUSED: Outcome.LATE,
    Failure.FAILED: Outcome.FAILED,
    Failure.INVALID: Outcome.INVALID,
}
"""Failures that the device is to blame for."""
_HOLD: Final = (2, 32)
"""Shortest and longest time away from a device, in probe intervals."""
_LONGEST_TICK_S: Final = 0.25
_TICKS_A_PROBE: Final = 4
_NS_PER_S: Final = 10**9
_TOP_PRIORITY: Final = 9


class Placer:
    """Owns the served models and their forms. The loop thread owns it.

    Args:
        config: What all models share.
        models: As configured.
        bundles: Their bundles, in the same order.
        lanes: The devices' lanes.
        clock: Monotonic, nanoseconds.
        on_event: Hears of every change of device.

    Attributes:
        models: The models.
        opinions: The second opinions on each, in the same order.
        loader: Brings forms onto lanes.
    """

    def __init__(
        self,
        config: InferenceConfig,
        models: list[tuple[ModelConfig, Bundle]],
        lanes: Lanes,
        clock: Callable[[], int],
        on_event: OnEvent,
    ) -> None:
        interval_ns = config.probe_interval
        policy = LadderPolicy(
            probe_interval_ns=interval_ns,
            hold_ns=_HOLD[0] * interval_ns,
            hold_max_ns=_HOLD[1] * interval_ns,
        )
        self.models = [
            ServedModel(index, one, bundle, policy) for index, (one, bundle) in enumerate(models)
        ]
        self.opinions = [Opinions(model.config, model.index) for model in self.models]
        self.lanes = lanes
        self.loader = Loader(config, lanes.of, lanes.switch_of, self.on_evicted)
        self._config = config
        self._clock = clock
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Load every model on every device of its placement, the preferred first.

        A device that takes longer than ``start_wait`` joins when it is ready: one that compiles a
        model for minutes keeps neither the next device nor the engine waiting.
        """
        await asyncio.gather(*(self._bring_up(model) for model in self.models))
        self._schedule()

    async def stop(self, limit_s: float) -> bool:
        """Give everything back; False if a device hangs."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model, opinions in zip(self.models, self.opinions, strict=True):
            forms = [*model.forms.values(), opinions.shadow, opinions.reference]
            for form in forms:
                if form is not None:
                    self.lanes.take(form, Failure.UNAVAILABLE)
                    self.loader.unload(form)
        await self.loader.finish(limit_s)
        return await self.lanes.close(limit_s)

    def note(self, form: Form, failure: Failure, detail: str = "") -> None:
        """Take in that a form gave no answer; ``detail`` is what is known of why."""
        outcome = _BLAMED.get(failure)
        model = self.models[form.model]
        if outcome is None or model.forms.get(form.rung) is not form:
            return
        now_ns = self._clock()
        if failure is Failure.FAILED and form.lane.lost:
            self._moved(model, self._leave_lost(now_ns, model, form))
            return
        if outcome is Outcome.LATE:
            detail = ""
        self._moved(model, model.ladder.note(now_ns, form.rung, outcome, detail))

    def on_health(self, device: str, event: str) -> None:
        """Take in that a device was lost or has returned."""
        self._on_event(ModelEvent("model_health", "", {"device": device, "health": event}))
        if event != LOST:
            return
        now_ns = self._clock()
        for model in self.models:
            for form in model.forms.values():
                if form.lane.device == device:
                    self._moved(model, self._leave_lost(now_ns, model, form))

    def on_drift(self, form: Form, seen: str) -> None:
        """Leave a form that is too far off the reference."""
        model = self.models[form.model]
        if model.forms.get(form.rung) is form:
            self._moved(model, model.ladder.leave(self._clock(), form.rung, Cause.DRIFT, seen))

    def on_evicted(self, cache_key: object) -> None:
        """Let a form go whose memory another needs; it does not serve."""
        for model in self.models:
            for form in list(model.forms.values()):
                if form.cache_key == cache_key:
                    self.remove(model, form)
                    reason = "others needed the memory"
                    left = model.ladder.leave(self._clock(), form.rung, Cause.UNLOADED, reason)
                    self._moved(model, left)

    def on_probe(self, request: ModelRequest, row: Floats | None, failure: Failure | None) -> None:
        """Take in what a probe said."""
        form = request.form
        form.probes.count -= 1
        model = self.models[form.model]
        problem = _problem(form, request, row, failure)
        if failure is Failure.FAILED and not form.lane.lost:
            # What failed may be beyond repair: the next probe loads it anew.
            self.remove(model, form)
            self.loader.unload(form)
        self._probed(model, form.rung, problem)

    def add(self, model: ServedModel, form: Form) -> None:
        """Put a form on its lane, in place of the one that stands for the same rung."""
        old = model.forms.get(form.rung)
        model.forms[form.rung] = form
        self.lanes.put(form)
        if old is not None:
            if old.lane is not form.lane:
                self.lanes.take(old, Failure.FAILED)
            self.loader.unload(old)
        self.settle(model)

    def remove(self, model: ServedModel, form: Form) -> None:
        """Take a form off its lane; what waits for it fails."""
        if model.forms.get(form.rung) is form:
            del model.forms[form.rung]
        self.settle(model)
        self.lanes.take(form, Failure.FAILED)

    def settle(self, model: ServedModel) -> None:
        """Let the form on the ladder's device serve, and keep it in memory."""
        before = model.current
        model.settle()
        if before is not model.current:
            cache = self.loader.cache
            if before is not None:
                cache.unpin(before.cache_key)
            if model.current is not None:
                cache.pin(model.current.cache_key)

    def start_rung(self, model: ServedModel, form: Form) -> None:
        """Take a rung up whose form has just been loaded."""
        loaded = form.loaded
        detail = f"{loaded.backend} in {loaded.precision.value}, parity {form.parity.max_abs:.2g}"
        self._moved(model, model.ladder.start(self._clock(), form.rung, detail))

    def miss_rung(self, model: ServedModel, rung: str, problem: BundleError | DeviceError) -> None:
        """Leave a rung whose form could not be loaded: for good if it is the bundle's fault."""
        now_ns, ladder = self._clock(), model.ladder
        if isinstance(problem, BundleError):
            self._moved(model, ladder.drop(now_ns, rung, str(problem)))
        else:
            self._moved(model, ladder.leave(now_ns, rung, Cause.UNLOADED, str(problem)))

    async def load_reference(self, model: ServedModel, bundle: Bundle) -> Form | None:
        """Load the reference beside forms that are not it; None if it is not to be asked.

        Raises:
            BundleError: it cannot be used.
            DeviceError: the library failed, or there is no room.
        """
        if not model.config.check_share:
            return None
        place = Place(model.index, model.config, Role.REFERENCE, HOST)
        return await self.loader.load_reference(place, bundle)

    def set_reference(self, model: ServedModel, form: Form | None) -> None:
        """Check answers against another reference from now on."""
        opinions = self.opinions[model.index]
        old, opinions.reference = opinions.reference, form
        self._replace(old, form)

    def set_shadow(self, model: ServedModel, form: Form | None) -> None:
        """Compare answers with another candidate's from now on."""
        opinions = self.opinions[model.index]
        old = opinions.shadow
        opinions.set_shadow(form)
        self._replace(old, form)

    def _replace(self, old: Form | None, new: Form | None) -> None:
        if new is not None:
            self.lanes.put(new)
            self.loader.cache.pin(new.cache_key)
        if old is not None:
            if new is None or new.lane is not old.lane:
                self.lanes.take(old, Failure.UNAVAILABLE)
            self.loader.unload(old)

    async def _bring_up(self, model: ServedModel) -> None:
        for rung in model.ladder.rungs:
            model.loading.add(rung)
            task = self._spawn(self._load_rung(model, rung, evict=model.current is None))
            await asyncio.wait({task}, timeout=self._config.start_wait / _NS_PER_S)
            if task.done():
                task.result()

    async def _load_rung(self, model: ServedModel, rung: str, *, evict: bool) -> None:
        try:
            await self._take_rung_up(model, rung, evict=evict)
        finally:
            model.loading.discard(rung)
        form = model.forms.get(rung)
        if form is not None and form.watch is not None:
            await self._watch(model)

    async def _watch(self, model: ServedModel) -> None:
        """Load the reference beside a form that is to be checked against it, once a bundle."""
        bundle, opinions = model.bundle, self.opinions[model.index]
        if opinions.reference is not None:
            return
        try:
            form = await self.load_reference(model, bundle)
        except (BundleError, DeviceError) as error:
            self._tell(model, "model_drift", {"verdict": "unwatched", "detail": str(error)})
            return
        if bundle is model.bundle and opinions.reference is None:
            self.set_reference(model, form)
        elif form is not None:
            self.loader.unload(form)

    async def _take_rung_up(self, model: ServedModel, rung: str, *, evict: bool) -> None:
        bundle = model.bundle
        try:
            form = await self.loader.load(model.place(rung), bundle, evict=evict)
        except (BundleError, DeviceError) as error:
            if bundle is model.bundle:
                self.miss_rung(model, rung, error)
            self._probed(model, rung, str(error))
            return
        if bundle is not model.bundle or rung in model.forms:
            self.loader.unload(form)
            self._probed(model, rung, "another bundle has taken its place")
            return
        is_new = model.ladder.cause(rung) in (Cause.ABSENT, Cause.UNLOADED)
        self.add(model, form)
        if is_new:
            self.start_rung(model, form)
        else:
            self._probed(model, rung, "")

    def _leave_lost(self, now_ns: int, model: ServedModel, form: Form) -> Transition | None:
        detail = f"no answer within {self._config.timeout / _NS_PER_S:g} s"
        return model.ladder.leave(now_ns, form.rung, Cause.LOST, detail)

    def _moved(self, model: ServedModel, transition: Transition | None) -> None:
        if transition is None:
            return
        self.settle(model)
        fields = {
            "before": transition.before,
            "after": transition.after,
            "cause": transition.cause.value,
            "detail": transition.detail,
        }
        current = model.current
        self._tell(model, "model_device", fields | ({} if current is None else current.told()))

    def _tell(self, model: ServedModel, kind: str, fields: dict[str, Any]) -> None:
        self._on_event(ModelEvent(kind, model.name, fields))

    def _schedule(self) -> None:
        interval_s = self._config.probe_interval / _NS_PER_S / _TICKS_A_PROBE
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(_LONGEST_TICK_S, interval_s), self._on_tick)

    def _on_tick(self) -> None:
        now_ns = self._clock()
        for model in self.models:
            if model.current is not None:
                self.loader.cache.touch(model.current.cache_key)
            for rung in model.ladder.due(now_ns):
                self._probe(now_ns, model, rung)
        self._schedule()

    def _probe(self, now_ns: int, model: ServedModel, rung: str) -> None:
        form = model.forms.get(rung)
        if form is None:
            self._spawn(self._load_rung(model, rung, evict=model.current is None))
        elif form.lane.lost:
            self._probed(model, rung, "it still does not answer")
        else:
            deadline_ns = now_ns + self._config.timeout
            request = ModelRequest(form, deadline_ns, now_ns, _TOP_PRIORITY, None, Role.PROBE)
            request.place = model.ladder.transitions
            form.probes.count += 1
            failure = form.lane.submit(request)
            if failure is not None:
                self.on_probe(request, None, failure)
            else:
                form.lane.pump()

    def _probed(self, model: ServedModel, rung: str, problem: str) -> None:
        self._moved(model, model.ladder.probed(self._clock(), rung, problem))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _problem(form: Form, request: ModelRequest, row: Floats | None, failure: Failure | None) -> str:
    if failure is not None or row is None:
        return f"a probe got {failure.value if failure is not None else 'nothing'}"
    expected = form.vectors.outputs[request.place % len(form.vectors.outputs)]
    report = compare(row[None, :], expected[None, :], form.parity.tolerance)
    return "" if report.passed else f"a probe was off by {report.max_abs:.3g}"
