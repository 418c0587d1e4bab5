"""Models at work in a live engine: their inference, the pipeline that asks, the operator's hand.

Owned by the loop thread.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.composition import Blueprint, refit
from engine.core.errors import ConfigError, DeviceError, HeqisError
from engine.core.ports import SignalSink
from engine.core.suggest import known_names
from engine.model_desk import Asking, WindowGatherer
from engine.pipeline import Pipeline
from engine.stream_messages import Operate
from latency.histogram import StageHistograms
from runtime.asking import Answer, ModelEvent
from runtime.bundle import Bundle

if TYPE_CHECKING:
    from runtime.inference import Inference

_log = logging.getLogger(__name__)
SWAPPED = "model_swap"
"""Kind of the event that tells that another bundle has taken a model's place."""
AS_CONFIGURED: Final = "model_as_configured"
"""Kind of the event that tells that a model begins with another bundle than it was swapped to."""
MAX_SWAPS: Final = 256
"""Newest swaps of earlier lives that are looked at."""


class ModelControl:
    """Puts inference beneath a live pipeline; ``infer`` it, ``attach`` it, ``await start()``.

    Args:
        blueprint: The configuration, resolved, with at least one model.
        on_fault: Called with a text when going on with an answer failed; must halt the engine.

    Attributes:
        live: Whether the engine is; until then no bundle takes another's place.
    """

    def __init__(self, blueprint: Blueprint, on_fault: Callable[[str], None]) -> None:
        self._blueprint = blueprint
        self._on_fault = on_fault
        self._pipeline: Pipeline | None = None
        self._sink: SignalSink | None = None
        self._busy = False
        self._stopped = False
        self.live = False
        self.inference: Inference

    def infer(self, blueprint: Blueprint, gather: WindowGatherer) -> Asking:
        """Make the inference; ``build_pipeline`` calls this."""
        from runtime.inference import Inference

        self.inference = Inference(
            blueprint.config.inference,
            [model.config for model in blueprint.models],
            [model.bundle for model in blueprint.models],
            gather=gather,
            on_answer=self._on_answer,
            on_event=self._on_event,
        )
        return self.inference

    def attach(self, pipeline: Pipeline) -> None:
        """Let answers go to a pipeline, and events to the sink that it has now."""
        self._pipeline = pipeline
        self._sink = pipeline.judge.sink

    async def start(self) -> None:
        """Load, warm up and check every model.

        Raises:
            BundleError: a bundle that cannot be used.
            DeviceError: no device of a placement can be used.
        """
        await self.inference.start()

    def compare(self, swaps: Iterable[Mapping[str, Any]]) -> None:
        """Tell of models that begin with another bundle than an earlier life was swapped to.

        Args:
            swaps: The fields of the journal's events of kind SWAPPED, oldest first.
        """
        last = {swap.get("model"): swap.get("after") for swap in swaps}
        for model in self._blueprint.models:
            name, identity = model.config.name, model.bundle.identity
            swapped = last.get(name, identity)
            if swapped != identity:
                _log.warning(
                    "model %s begins as configured, with %s; it had been swapped to %s",
                    name, identity, swapped,
                )  # fmt: skip
                self._journal(
                    AS_CONFIGURED, {"model": name, "serves": identity, "swapped_to": swapped}
                )

    async def stop(self) -> None:
        """Answer what still waits, and give the devices back; once, however often it is called."""
        if not self._stopped:
            self._stopped = True
            await self.inference.stop()

    def status(self) -> Mapping[str, Any]:
        """Return what serves, and how, by model."""
        return self.inference.status()

    def problems(self) -> list[str]:
        """Return which models have no device left, and who is silent because of it."""
        found = []
        for name, reasons in self.inference.unserved().items():
            askers = [one.name for one in self._blueprint.rules if name in (one.model, one.confirm)]
            who = f"strategies {', '.join(askers)} are silent" if askers else "no strategy asks it"
            found.append(f"model {name}: no device left, {who} ({reasons})")
        return found

    def histograms(self) -> Mapping[tuple[str, str], StageHistograms]:
        """Return queue and inference times by model and device."""
        return self.inference.histograms()

    async def operate(self, message: Operate, who: str = "") -> Mapping[str, Any]:
        """Carry out an operator's command; one at a time, but for faults, which take no time.

        It is journaled, also where it could not be carried out, with ``who`` gave it.

        Raises:
            ConfigError: there is no such model, or faults are not allowed.
            BundleError: the bundle cannot be used, or does not fit.
            DeviceError: another command is at work, the engine is not live yet, or no device took
                the bundle.
        """
        fields = {
            "command": message.command,
            "model": message.model,
            "value": message.value,
            "by": who,
        }
        try:
            result = await self._obey(message)
        except HeqisError as error:
            self._journal("operator_command", {**fields, "problem": str(error)})
            raise
        self._journal("operator_command", {**fields, "result": dict(result)})
        return result

    async def _obey(self, message: Operate) -> Mapping[str, Any]:
        if message.command == "device_fault":
            return self._play_fault(message.model, message.value)
        if not self.live:
            raise DeviceError("the engine has not caught up yet; try again once it is live")
        if self._busy:
            raise DeviceError("another command is at work; wait for its answer")
        self._busy = True
        try:
            return await self._carry_out(message)
        finally:
            self._busy = False

    async def _carry_out(self, message: Operate) -> Mapping[str, Any]:
        names = [model.config.name for model in self._blueprint.models]
        if message.model not in names:
            expected = known_names("models", names, message.model)
            raise ConfigError("command", "model", message.model, expected)
        path = Path(message.value) if message.value else None
        if message.command == "model_shadow":
            return await self.inference.shadow(message.model, path)
        if path is None:
            raise ConfigError("command", "value", "", "give the directory of a bundle")
        return await self.inference.swap(message.model, path)

    def _play_fault(self, device: str, kind: str) -> Mapping[str, Any]:
        if not self._blueprint.config.inference.allow_faults:
            raise ConfigError(
                "configuration", "inference.allow_faults", False, "set it to true to play faults"
            )
        self.inference.fault(device, kind or None)
        return {"device": device, "fault": kind}

    def _on_answer(self, answer: Answer) -> None:
        if self._pipeline is None:
            return
        try:
            self._pipeline.take_answer(answer)
        except Exception as error:  # noqa: BLE001 - as the duty cycle's guard: fail closed, stay up
            _log.critical("going on with an answer failed", exc_info=True)
            self._on_fault(f"{type(error).__name__}: {error}")

    def _on_event(self, event: ModelEvent) -> None:
        if event.kind == SWAPPED:
            self._refit(event.model, self.inference.bundle_of(event.model))
        self._journal(event.kind, {"model": event.model, **event.fields})

    def _refit(self, name: str, bundle: Bundle) -> None:
        """Let strategies tell of the bundle that serves from now on, and read its scores."""
        self._blueprint = replace(
            self._blueprint,
            models=tuple(
                replace(model, bundle=bundle) if model.config.name == name else model
                for model in self._blueprint.models
            ),
        )
        if self._pipeline is not None:
            refit(self._blueprint, self._pipeline)

    def _journal(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self._sink is not None:
            self._sink.on_event(kind, time.time_ns(), fields)
