"""The warm-up of all built-in indicators, or of those that a configuration uses."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.composition import Blueprint, resolve
from engine.config import Config
from replay.analysis.lookahead_tape import Tape, load_tape
from replay.analysis.warmup import TOLERANCE, History, measure_history, samples_for
from replay.analysis.warmup_samples import busiest, samples_of
from replay.analysis.warmup_series import made_series
from strategies.batch import label_of
from strategies.plan import IndicatorInstance
from strategies.registry import load_registry
from strategies.spec import Use
from strategies.use_text import parse_use

_Wanted = tuple[Use, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class WarmupOptions:
    """What is measured.

    Attributes:
        indicators: As text, ``rsi(length=14)``; none: the configuration's own, or all there are.
        on: Clock of ``indicators`` in a log.
        instrument: Symbol whose samples are taken; "": the one with the most records.
        tolerance: From which disagreement on it counts, in spreads of the output.
        samples: Length of the series; None: by the longest warm-up.
    """

    indicators: tuple[str, ...] = ()
    on: str = "tick"
    instrument: str = ""
    tolerance: float = TOLERANCE
    samples: int | None = None


@dataclass(frozen=True)
class WarmupReport:
    """What was measured, and on what."""

    source: str
    tolerance: float
    histories: list[History]
    strategies: dict[str, int | None] = field(default_factory=dict)
    """Samples that a strategy's slowest indicator needs; None where one never settles."""
    bad_input: dict[str, int] = field(default_factory=dict)
    """What is wrong with the logs, by reason."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "source": self.source,
            "tolerance": self.tolerance,
            "indicators": [one.as_dict() for one in self.histories],
            "strategies": self.strategies,
            "bad_input": self.bad_input,
        }


def analyze_warmup(
    logs: Sequence[Path], config: Config | None, options: WarmupOptions | None = None
) -> WarmupReport:
    """Measure how much history indicators need.

    Args:
        logs: Tick logs whose samples are taken; none: a made series.
        config: Whose indicators and bars; None for all built-in indicators.
        options: What is measured.

    Raises:
        ConfigError, PluginError, BundleError: the configuration or an indicator cannot be used.
        InputFileError, LogError: a log cannot be read, or has too few samples.
    """
    options = options or WarmupOptions()
    blueprint = None if config is None else resolve(config)
    registry = load_registry(config.plugins if config else ())
    if blueprint is None or options.indicators or not blueprint.plan.indicators:
        texts = options.indicators or sorted(registry.indicators)
        uses = [parse_use(text, registry, "--indicator") for text in texts]
        groups: dict[str, list[_Wanted]] = {options.on: [(use, ()) for use in uses]}
    else:
        groups = _of_plan(blueprint)
    own = config or Config()
    tape = load_tape(logs, own.engine.burst) if logs else None
    made: list[History] = []
    for clock, wanted in groups.items():
        uses = [use for use, _ in wanted]
        count = options.samples or samples_for(uses, registry)
        if tape is None:
            samples = made_series(count)
        else:
            at = busiest(tape, options.instrument)
            specs = [bar.spec() for bar in own.bars]
            samples = samples_of(tape, at, clock, specs, registry, count)
        clock_told = clock if tape is not None or (blueprint and not options.indicators) else ""
        found = measure_history(uses, registry, samples, options.tolerance, clock_told)
        made += [replace(one, used_by=_users(one, wanted)) for one in found]
    return WarmupReport(
        source=_source(logs, tape, options),
        tolerance=options.tolerance,
        histories=made,
        strategies=_by_strategy(made),
        bad_input={} if tape is None else tape.bad_input,
    )


def _source(logs: Sequence[Path], tape: Tape | None, options: WarmupOptions) -> str:
    if tape is None:
        return "a made random walk"
    symbol = tape.symbols[busiest(tape, options.instrument)]
    return f"{symbol} in {', '.join(map(str, logs))}"


def _of_plan(blueprint: Blueprint) -> dict[str, list[_Wanted]]:
    """Return the indicators of a configuration by clock, with who reads them."""
    groups: dict[str, list[_Wanted]] = {}
    for one in blueprint.plan.indicators:
        use = Use(one.spec.name, one.params)
        groups.setdefault(one.clock, []).append((use, _readers(blueprint, one)))
    return groups


def _readers(blueprint: Blueprint, wanted: IndicatorInstance) -> tuple[str, ...]:
    plan = blueprint.plan
    read = {model.name for model in plan.models for _, one, _ in model.columns if one is wanted}
    names = [rule.name for rule in plan.rules if wanted in rule.inputs]
    asking = [rule for rule in plan.rules if rule.model >= 0]
    names += [rule.name for rule in asking if plan.models[rule.model].name in read]
    names += [watch.name.partition("/")[0] for watch, one in plan.watches if one is wanted]
    return tuple(dict.fromkeys(names))


def _users(history: History, wanted: Sequence[_Wanted]) -> tuple[str, ...]:
    return next(names for use, names in wanted if label_of(use) == history.indicator)


def _by_strategy(histories: Sequence[History]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for one in histories:
        for name in one.used_by:
            before = found.get(name, 0)
            never = before is None or one.needed is None
            found[name] = None if never else max(before or 0, one.needed or 0)
    return found
