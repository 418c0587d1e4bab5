"""From ``[[models]]`` to what kernel, desk and inference need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.core.errors import BundleError, ConfigError
from engine.core.suggest import known_names, similar
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
    key = f"models.{config.name}"
    bundle = open_bundle(config.bundle, f"{key}.bundle")
    manifest = bundle.manifest
    clock = clock_of(config, bars)
    try:
        check_against(bundle, manifest.features, manifest.window, clock)
    except BundleError as error:
        hint = _clock_hint(f"{key}.on", manifest.clock, bars)
        raise BundleError(error.file, f"{error.problem}, as {key}.on says; {hint}") from None
    features = [(feature.name, feature.of, feature.output) for feature in manifest.features]
    try:
        columns = read_columns(features, registry, str(bundle.path / MANIFEST))
    except ConfigError as error:
        own = f"{key}.bundle names it; one of your own comes from a file that `plugins` names"
        raise ConfigError(error.file, error.key, error.found, f"{error.expected}; {own}") from None
    return SetModel(config, bundle, ModelWindow(config.name, config.on, columns, manifest.window))


def open_bundle(path: Path, key: str) -> Bundle:
    """Open a bundle that a configuration names.

    Args:
        path: Its directory.
        key: Of the configuration, for errors.

    Raises:
        BundleError: it cannot be used; names the key, and a bundle there that may have been meant.
    """
    try:
        return Bundle.open(path)
    except BundleError as error:
        beside = [other.parent for other in path.parent.glob(f"*/{MANIFEST}")]
        like = [] if path in beside else similar(path.name, (other.name for other in beside))
        meant = " or ".join(str(path.parent / name) for name in like)
        hint = f"; did you mean {meant}?" if meant else ""
        raise BundleError(error.file, f"{error.problem}; {key} names it{hint}") from None


def _clock_hint(key: str, wanted: Clock, bars: Sequence[BarConfig]) -> str:
    fitting = [name for name in SAMPLE_CLOCKS if wanted.same_as(_sample_clock(name))]
    fitting += [bar.name for bar in bars if wanted.same_as(_bar_clock(bar))]
    if fitting:
        return f'set {key} = "{fitting[0]}"'
    return f"add [[bars]] of such bars and name them in {key}"


def clock_of(config: ModelConfig, bars: Sequence[BarConfig]) -> Clock:
    """Return a model's clock as its manifest would state it.

    Raises:
        ConfigError: there is no such clock.
    """
    if config.on in SAMPLE_CLOCKS:
        return _sample_clock(config.on)
    bar = next((bar for bar in bars if bar.name == config.on), None)
    if bar is None:
        names = [*SAMPLE_CLOCKS, *(bar.name for bar in bars)]
        key = f"models.{config.name}.on"
        raise ConfigError("configuration", key, config.on, known_names("clocks", names, config.on))
    return _bar_clock(bar)


def _sample_clock(name: str) -> Clock:
    return Clock(kind=f"every_{name}")  # type: ignore[arg-type] # one of the three


def _bar_clock(bar: BarConfig) -> Clock:
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
