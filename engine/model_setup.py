"""From ``[[models]]`` to what kernel, desk and inference need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.core.errors import BundleError, ConfigError
from engine.core.suggest import known_names
from engine.model_desk import Reading
from runtime.bundle import Bundle, check_against
from runtime.config import ModelConfig
from runtime.manifest import MANIFEST, Clock
from strategies.config import BarConfig, StrategyConfig
from strategies.kernel import Kernel
from strategies.model_spec import ModelWindow, read_columns
from strategies.registry import Registry
from strategies.score_rule import SCORE, ScoreRule
from strategies.spec import SAMPLE_CLOCKS, resolve_params


@dataclass(frozen=True)
class SetModel:
    """One configured model whose bundle is open and fits."""

    config: ModelConfig
    bundle: Bundle
    window: ModelWindow


def open_models(
    models: Sequence[ModelConfig], bars: Sequence[BarConfig], registry: Registry
) -> tuple[SetModel, ...]:
    """Open every bundle and read its features.

    Raises:
        BundleError: a bundle that cannot be used, or does not fit its clock.
        ConfigError: a clock or an indicator that is not there.
    """
    return tuple(_open(config, bars, registry) for config in models)


def _open(config: ModelConfig, bars: Sequence[BarConfig], registry: Registry) -> SetModel:
    bundle = Bundle.open(config.bundle)
    manifest = bundle.manifest
    clock = clock_of(config, bars)
    check_against(bundle, manifest.features, manifest.window, clock)
    features = [(feature.name, feature.of, feature.output) for feature in manifest.features]
    source = str(bundle.path / MANIFEST)
    columns = read_columns(features, registry, source)
    return SetModel(config, bundle, ModelWindow(config.name, config.on, columns, manifest.window))


def clock_of(config: ModelConfig, bars: Sequence[BarConfig]) -> Clock:
    """Return a model's clock as its manifest would state it.

    Raises:
        ConfigError: there is no such clock.
    """
    if config.on in SAMPLE_CLOCKS:
        return Clock(kind=f"every_{config.on}")  # type: ignore[arg-type] # one of the three
    bar = next((bar for bar in bars if bar.name == config.on), None)
    if bar is None:
        names = [*SAMPLE_CLOCKS, *(bar.name for bar in bars)]
        key = f"models.{config.name}.on"
        raise ConfigError("configuration", key, config.on, known_names("clocks", names, config.on))
    if bar.interval is not None:
        return Clock(kind="time", interval=f"{bar.interval}ns", price=bar.price)
    return Clock(kind=bar.kind, size=bar.size or 0.0, price=bar.price)


def normalise(kernel: Kernel, models: Sequence[SetModel]) -> None:
    """Have the kernel normalise the windows of models whose graphs do not."""
    for index, model in enumerate(models):
        stated = model.bundle.manifest.normalisation
        if stated.kind == "stated":
            mean, scale = (np.array(v, np.float32) for v in (stated.mean, stated.scale))
            kernel.set_normalisation(index, mean, scale)


def model_of(entry: StrategyConfig, models: Sequence[SetModel]) -> SetModel | None:
    """Return the model that a strategy asks, None if it asks none.

    Raises:
        ConfigError: there is no such model.
    """
    name = entry.model or entry.confirm
    if not name:
        return None
    for model in models:
        if model.config.name == name:
            return model
    key = f"strategies.{entry.name}.{'model' if entry.model else 'confirm'}"
    known = [model.config.name for model in models]
    raise ConfigError("configuration", key, name, known_names("models", known, name))


def reading_of(entry: StrategyConfig, model: SetModel) -> Reading:
    """Return how a strategy reads its model's scores.

    Raises:
        BundleError: labels without a direction.
    """
    output = model.bundle.manifest.output
    params = resolve_params(SCORE.params, entry.params) if entry.model else {}
    try:
        rule = ScoreRule(
            tuple(output.labels),
            tuple(output.move_bps),
            float(params.get("min_probability", 0.0)),
            float(params.get("min_margin", 0.0)),
        )
    except ValueError as error:
        raise BundleError(model.bundle.path / MANIFEST, f"output.labels: {error}") from None
    return Reading(
        rule=rule,
        confirms=not entry.model,
        confirm_min=entry.confirm_min,
        deadline_ns=model.config.deadline,
        valid_for_ns=entry.valid_for,
        priority=model.config.priority if entry.priority is None else entry.priority,
        bundle=model.bundle.identity,
    )


def told_of(entry: StrategyConfig, model: SetModel | None) -> Mapping[str, Any]:
    """Return what goes into a strategy's identity because of its model."""
    if model is None:
        return {}
    told: dict[str, Any] = {"model": model.bundle.identity}
    return told if entry.model else {**told, "confirm_min": entry.confirm_min}
