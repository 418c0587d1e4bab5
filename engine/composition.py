"""Puts a pipeline together from a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from engine.config import Config
from engine.core.errors import ConfigError, PluginError
from engine.core.ports import Clock, SignalSink
from engine.core.records import INSTRUMENT
from engine.core.suggest import did_you_mean, known_names
from engine.judge import Judge, StrategyFacts
from engine.model_desk import Asking, ModelDesk, Reading, WindowGatherer
from engine.model_setup import SetModel, model_of, normalise, open_models, reading_of, told_of
from engine.pipeline import Pipeline
from engine.python_host import Hosted, PythonHost, overrides
from engine.risk.gate import RiskGate
from engine.risk.rulebook import Rulebook, load_rulebook
from latency.histogram import StageHistograms
from runtime.config import MAX_BATCH
from strategies.config import StrategyConfig
from strategies.feature_rings import rings_bytes
from strategies.kernel import Kernel
from strategies.plan import KernelPlan, RuleRequest, Watch, make_plan
from strategies.python_strategy import Strategy
from strategies.registry import Registry, load_registry
from strategies.score_rule import SCORE
from strategies.spec import SAMPLE_CLOCKS

Infer = Callable[["Blueprint", WindowGatherer], Asking]
"""Makes what answers for a blueprint's models, given the way to their windows."""


@dataclass(frozen=True)
class Blueprint:
    """A configuration resolved: everything that can be wrong with it has been found."""

    config: Config
    plan: KernelPlan
    rules: tuple[StrategyConfig, ...]
    python: tuple[tuple[StrategyConfig, Strategy], ...]
    rulebook: Rulebook
    models: tuple[SetModel, ...] = ()

    @property
    def emit(self) -> frozenset[str]:
        """Bars that some Python strategy wants to see."""
        return frozenset(
            entry.on
            for entry, strategy in self.python
            if entry.on not in SAMPLE_CLOCKS and overrides(strategy, "on_bar")
        )


def resolve(config: Config, *, share: bool = True) -> Blueprint:
    """Load plugins, find every name, check every parameter.

    Args:
        config: The configuration.
        share: Let strategies share indicators; without it no parameter changes the kernel.

    Raises:
        ConfigError: an unknown name or a bad value.
        PluginError: a plugin file that cannot be used.
        BundleError: a model bundle that cannot be used, or does not fit.
    """
    registry = load_registry(config.plugins)
    active = config.active_strategies
    models = open_models(config.models, config.bars, registry)
    rules = tuple(entry for entry in active if entry.strategy is None)
    python = tuple(
        (entry, _make_strategy(entry, registry)) for entry in active if entry.strategy is not None
    )
    plan = make_plan(
        registry,
        [bar.spec() for bar in config.bars],
        [
            RuleRequest(e.name, e.rule or "", e.on, e.params, e.confirm, e.model or "")
            for e in rules
        ],
        [watch for entry, strategy in python for watch in _watches(entry, strategy)],
        models=[model.window for model in models],
        share=share,
    )
    for entry in rules:
        model_of(entry, models)
    clocks = [*SAMPLE_CLOCKS, *(bar.name for bar in config.bars)]
    for entry, _ in python:
        if entry.on not in clocks:
            key = f"strategies.{entry.name}.on"
            expected = known_names("clocks", clocks, entry.on)
            raise ConfigError("configuration", key, entry.on, expected)
    return Blueprint(config, plan, rules, python, _rulebook(config), models)


def build_pipeline(
    blueprint: Blueprint,
    *,
    capacity: int,
    sink: SignalSink,
    clock: Clock,
    histograms: StageHistograms,
    stream: tuple[int, int] = (0, 1),
    bars: bool = False,
    infer: Infer | None = None,
) -> Pipeline:
    """Build the kernel, compiled or from the cache, and all around it.

    Args:
        blueprint: From ``resolve``.
        capacity: Most instruments.
        sink: Takes signals, refusals and events.
        clock: What time it is.
        histograms: Stage latencies.
        stream: The signal stream's epoch and next sequence number.
        bars: Whether recorded bars will come.
        infer: Makes what answers for the models; by default they are asked at once, as a replay
            needs it.
    """
    config = blueprint.config
    check_windows(blueprint, capacity)
    hosted = [
        Hosted(len(blueprint.rules) + i, entry.name, _bar_clock(blueprint, entry), strategy)
        for i, (entry, strategy) in enumerate(blueprint.python)
    ]

    def on_silenced(name: str) -> None:
        sink.on_event("strategy_silenced", 0, {"strategy": name})

    host = PythonHost(hosted, blueprint.plan, on_silenced)
    kernel = Kernel(
        blueprint.plan,
        capacity,
        blueprint.emit,
        np.zeros((max(1, len(blueprint.rules)), capacity), np.uint8),
        pause=host.listens,
    )
    kernel.warm_up(bars=bars)
    judge = Judge(
        gate=RiskGate(config.risk, np.zeros(0, INSTRUMENT), rulebook=blueprint.rulebook),
        strategies=[*_rule_facts(blueprint), *_python_facts(blueprint)],
        sink=sink,
        clock=clock,
        histograms=histograms,
        stream=stream,
        late=bool(blueprint.models),
    )
    desk = None
    if blueprint.models:
        desk = _make_desk(blueprint, kernel, clock, infer or infer_at_once)
    return Pipeline(kernel=kernel, judge=judge, host=host, desk=desk)


def check_windows(blueprint: Blueprint, capacity: int) -> None:
    """Refuse models whose windows would take more memory than allowed.

    Args:
        blueprint: From ``resolve``.
        capacity: Most instruments.

    Raises:
        ConfigError: they would; names the largest.
    """
    budget_bytes = blueprint.config.inference.window_budget_bytes
    taken = {one.name: rings_bytes(one, capacity) for one in blueprint.plan.models}
    if sum(taken.values()) > budget_bytes:
        largest = max(taken, key=lambda name: taken[name])
        raise ConfigError(
            "configuration", "inference.window_budget_bytes", budget_bytes,
            f"windows of {capacity} instruments take {sum(taken.values())} bytes, "
            f"{taken[largest]} of them those of model {largest}: raise it, lower "
            "engine.max_instruments, or use a bundle with a shorter window or fewer features",
        )  # fmt: skip


def _make_desk(blueprint: Blueprint, kernel: Kernel, clock: Clock, infer: Infer) -> ModelDesk:
    normalise(kernel, blueprint.models)
    inference = infer(blueprint, WindowGatherer(kernel, MAX_BATCH))
    return ModelDesk(inference, _readings(blueprint), clock)


def refit(blueprint: Blueprint, pipeline: Pipeline) -> None:
    """Let a pipeline's strategies go by another bundle of their model: ids, readings, windows."""
    if pipeline.desk is None:
        return
    normalise(pipeline.kernel, blueprint.models)
    pipeline.desk.readings = _readings(blueprint)
    for number, facts in enumerate(_rule_facts(blueprint)):
        if facts != pipeline.judge.strategies[number]:
            pipeline.judge.replace_facts(number, facts)


def _readings(blueprint: Blueprint) -> dict[int, Reading]:
    models = [(entry, model_of(entry, blueprint.models)) for entry in blueprint.rules]
    return {
        number: reading_of(entry, model)
        for number, (entry, model) in enumerate(models)
        if model is not None
    }


def infer_at_once(blueprint: Blueprint, gather: WindowGatherer) -> Asking:
    """Make what answers every request at once, on the reference forms, as a replay needs it.

    Raises:
        BundleError: a reference form cannot be loaded.
        DeviceError: the library is not here or failed.
    """
    from runtime.direct import DirectInference

    configs = [model.config for model in blueprint.models]
    return DirectInference(configs, [model.bundle for model in blueprint.models], gather=gather)


def _bar_clock(blueprint: Blueprint, entry: StrategyConfig) -> str:
    return entry.on if entry.on in blueprint.emit else ""


def _make_strategy(entry: StrategyConfig, registry: Registry) -> Strategy:
    made = registry.strategies.get(entry.strategy or "")
    key = f"strategies.{entry.name}"
    if made is None:
        expected = known_names("Python strategies", sorted(registry.strategies), entry.strategy)
        raise ConfigError("configuration", f"{key}.strategy", entry.strategy, expected)
    unknown = sorted(set(entry.params) - set(made.defaults))
    if unknown:
        hint = did_you_mean(unknown[0], made.defaults)
        expected = f"{hint}it takes: {', '.join(made.defaults) or 'none'}"
        raise ConfigError("configuration", f"{key}.params", unknown[0], expected)
    try:
        return made(entry.params)
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise PluginError(made.__module__, f"{entry.name} cannot be made: {error}") from error


def _watches(entry: StrategyConfig, strategy: Strategy) -> list[Watch]:
    if entry.on in SAMPLE_CLOCKS:
        return []
    uses = strategy.indicators().items()
    return [Watch(entry.on, f"{entry.name}/{alias}", use) for alias, use in uses]


def _rulebook(config: Config) -> Rulebook:
    return load_rulebook(config.risk.market.rulebook)


def _rule_facts(blueprint: Blueprint) -> list[StrategyFacts]:
    return [
        _facts(entry, rule.spec.version, rule.params, blueprint)
        for entry, rule in zip(blueprint.rules, blueprint.plan.rules, strict=True)
    ]


def _python_facts(blueprint: Blueprint) -> list[StrategyFacts]:
    return [
        _facts(entry, strategy.version, strategy.params, blueprint)
        for entry, strategy in blueprint.python
    ]


def _facts(
    entry: StrategyConfig, version: str, params: Mapping[str, Any], blueprint: Blueprint
) -> StrategyFacts:
    """Return a strategy's facts; its parameters include the bar it stands on, and its model."""
    model = model_of(entry, blueprint.models)
    on = entry.on or (model.config.on if model is not None else "")
    clock = [bar.model_dump(mode="json") for bar in blueprint.config.bars if bar.name == on]
    told = {
        "is": entry.rule or entry.strategy or SCORE.name,
        "on": clock or on,
        "params": dict(params),
        **told_of(entry, model),
    }
    parameters = orjson.dumps(told, default=str, option=orjson.OPT_SORT_KEYS).decode()
    return StrategyFacts(entry.name, version, parameters, entry.valid_for, entry.instruments)
