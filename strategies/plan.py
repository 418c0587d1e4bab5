"""What the kernel is to contain: bars, indicators, feature windows and rules, all resolved.

Pure. Two rules that ask for the same indicator with the same parameters on the same clock share
one instance, and so does a model's feature. Without sharing every use has an instance of its own,
and the plan's structure, so the compiled code, is the same whatever the parameters are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from engine.core.errors import ConfigError
from engine.core.records import BAR
from engine.core.suggest import known_names
from strategies.bar_spec import BarSpec
from strategies.bars import BAR_PARAMS, BAR_STATE
from strategies.model_spec import MAX_FEATURES, MAX_WINDOW, FeatureColumn, ModelWindow
from strategies.registry import Registry
from strategies.sample import MARKET
from strategies.score_rule import SCORE
from strategies.spec import SAMPLE_CLOCKS, IndicatorSpec, Params, RuleSpec, Use, resolve_params
from strategies.windows import WINDOW_PARAMS, WINDOW_STATE


@dataclass(frozen=True, slots=True)
class IndicatorInstance:
    """One indicator with parameters on a clock; ``field`` is its name in state and parameters."""

    spec: IndicatorSpec
    params: Params
    clock: str
    field: str
    ring_offset: int


@dataclass(frozen=True, slots=True)
class ModelInstance:
    """One model's feature windows; ``field`` is their name in state and parameters.

    ``columns``: each feature with the indicator and the output that it reads.
    """

    name: str
    clock: str
    window: int
    field: str
    columns: tuple[tuple[FeatureColumn, IndicatorInstance, str], ...]


@dataclass(frozen=True, slots=True)
class RuleInstance:
    """One configured compiled strategy.

    ``model``: the index of the model whose score its candidates wait for, -1 for none. Where
    ``spec`` is SCORE the strategy is that model's alone; else it is a rule that the model confirms.
    """

    name: str
    spec: RuleSpec
    params: Params
    clock: str
    field: str
    inputs: tuple[IndicatorInstance, ...]
    model: int = -1


@dataclass(frozen=True, slots=True)
class RuleRequest:
    """What a configuration says of one compiled strategy.

    Either ``rule`` with a ``clock``, and ``confirm`` where a model is to confirm what it proposes;
    or ``model`` alone, whose clock it is on.
    """

    name: str
    rule: str
    clock: str
    params: Mapping[str, object] = field(default_factory=dict)
    confirm: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """Indicator outputs to hand out with every closed bar of a clock."""

    clock: str
    name: str
    use: Use


@dataclass(frozen=True)
class KernelPlan:
    """Everything the generated kernel holds, in order."""

    bars: tuple[BarSpec, ...]
    indicators: tuple[IndicatorInstance, ...]
    rules: tuple[RuleInstance, ...]
    watches: tuple[tuple[Watch, IndicatorInstance], ...] = ()
    models: tuple[ModelInstance, ...] = ()
    ring_width: int = 1
    state_dtype: np.dtype[np.void] = field(default_factory=lambda: np.dtype("V1"))
    param_dtype: np.dtype[np.void] = field(default_factory=lambda: np.dtype("V1"))

    def watched(self, clock: str) -> list[tuple[Watch, IndicatorInstance]]:
        """Return the watches of one clock; their outputs fill its columns in order."""
        return [pair for pair in self.watches if pair[0].clock == clock]

    def columns(self, clock: str) -> list[tuple[str, IndicatorInstance, str]]:
        """Return (name, indicator, output) of each value column of one clock."""
        columns = []
        for watch, instance in self.watched(clock):
            for index, output in enumerate(instance.spec.outputs):
                name = watch.name if index == 0 else f"{watch.name}.{output}"
                columns.append((name, instance, output))
        return columns

    @property
    def width(self) -> int:
        """Most value columns of any clock, at least 1."""
        clocks = {watch.clock for watch, _ in self.watches}
        return max([1, *(len(self.columns(clock)) for clock in clocks)])


class _Planner:
    """Numbers the indicators as they are asked for."""

    def __init__(
        self, registry: Registry, clocks: Sequence[str], source: str, *, share: bool
    ) -> None:
        self.registry = registry
        self.clocks = clocks
        self.source = source
        self.share = share
        self.by_key: dict[object, IndicatorInstance] = {}
        self.models: list[ModelInstance] = []
        self.ring_width = 0

    def clock(self, key: str, name: str) -> str:
        if name not in self.clocks:
            self.refuse(key, name, known_names("clocks", self.clocks, name))
        return name

    def indicator(self, key: str, use: Use, clock: str) -> IndicatorInstance:
        spec = self.registry.indicators.get(use.indicator)
        if spec is None:
            known = sorted(self.registry.indicators)
            self.refuse(key, use.indicator, known_names("indicators", known, use.indicator))
        params = self.params(key, spec.params, use.params)
        clock = self.clock(key, use.on or clock)
        identity: object = (spec.name, tuple(params.items()), clock)
        if not self.share:
            identity = len(self.by_key)
        if identity not in self.by_key:
            name = f"i{len(self.by_key)}"
            instance = IndicatorInstance(spec, params, clock, name, self.ring_width)
            self.by_key[identity] = instance
            self.ring_width += spec.ring(params)
        return self.by_key[identity]

    def watch(self, key: str, watch: Watch) -> IndicatorInstance:
        return self.indicator(key, watch.use, self.clock(key, watch.clock))

    def model(self, key: str, wanted: ModelWindow) -> None:
        clock = self.clock(f"{key}.on", wanted.clock)
        names = [column.name for column in wanted.features]
        if not 1 <= wanted.window <= MAX_WINDOW:
            self.refuse(f"{key}.window", wanted.window, f"1 to {MAX_WINDOW} rows")
        if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) < len(names):
            self.refuse(f"{key}.features", names, f"1 to {MAX_FEATURES}, each name once")
        columns = tuple(self.column(key, column, clock) for column in wanted.features)
        own = f"w{len(self.models)}"
        self.models.append(ModelInstance(wanted.name, clock, wanted.window, own, columns))

    def column(
        self, key: str, column: FeatureColumn, clock: str
    ) -> tuple[FeatureColumn, IndicatorInstance, str]:
        key = f"{key}.features.{column.name}"
        instance = self.indicator(key, column.use, clock)
        outputs = instance.spec.outputs
        output = column.output or outputs[0]
        if output not in outputs:
            self.refuse(f"{key}.output", output, known_names("outputs", outputs, output))
        return column, instance, output

    def model_number(self, key: str, name: str) -> int:
        names = [model.name for model in self.models]
        if name not in names:
            self.refuse(key, name, known_names("models", names, name))
        return names.index(name)

    def score(self, key: str, request: RuleRequest, index: int) -> RuleInstance:
        number = self.model_number(f"{key}.model", request.model)
        params = self.params(f"{key}.params", SCORE.params, request.params)
        clock = self.models[number].clock
        if request.clock not in ("", clock):
            self.refuse(f"{key}.on", request.clock, f"its model is on {clock!r}; leave it out")
        return RuleInstance(request.name, SCORE, params, clock, f"s{index}", (), number)

    def rule(self, key: str, request: RuleRequest, index: int) -> RuleInstance:
        if request.model:
            return self.score(key, request, index)
        spec = self.registry.rules.get(request.rule)
        if spec is None:
            known = sorted(self.registry.rules)
            self.refuse(f"{key}.rule", request.rule, known_names("rules", known, request.rule))
        params = self.params(f"{key}.params", spec.params, request.params)
        clock = self.clock(f"{key}.on", request.clock)
        inputs = tuple(self.indicator(key, use, clock) for use in spec.uses(params))
        asks = request.confirm
        number = self.model_number(f"{key}.confirm", asks) if asks else -1
        return RuleInstance(request.name, spec, params, clock, f"s{index}", inputs, number)

    def refuse(self, key: str, found: object, expected: str) -> NoReturn:
        raise ConfigError(self.source, key, found, expected)

    def params(self, key: str, declared: Mapping, given: Mapping[str, object]) -> Params:  # type: ignore[type-arg]  # of Param
        try:
            return resolve_params(declared, given)
        except ValueError as error:
            raise ConfigError(self.source, key, dict(given), str(error)) from None


def make_plan(
    registry: Registry,
    bars: Sequence[BarSpec],
    rules: Sequence[RuleRequest],
    watches: Sequence[Watch] = (),
    source: str = "configuration",
    models: Sequence[ModelWindow] = (),
    *,
    share: bool = True,
) -> KernelPlan:
    """Resolve names and parameters, share indicators and lay out state.

    Args:
        registry: What there is.
        bars: Bar specifications, names unique.
        rules: Compiled strategies in the order of the configuration.
        watches: Indicators wanted outside the kernel.
        source: The configuration's name, for errors.
        models: What to keep of features for models, names unique; their order numbers them.
        share: Let uses of the same indicator be one instance.

    Raises:
        ConfigError: an unknown indicator, rule, model, clock or parameter, or a bad value.
    """
    clocks = [*SAMPLE_CLOCKS, *(bar.name for bar in bars)]
    planner = _Planner(registry, clocks, source, share=share)
    for wanted in models:
        planner.model(f"models.{wanted.name}", wanted)
    made = [planner.rule(f"strategies.{r.name}", r, i) for i, r in enumerate(rules)]
    pairs = [(w, planner.watch(f"indicators.{w.name}", w)) for w in watches]
    indicators = tuple(planner.by_key.values())
    return KernelPlan(
        bars=tuple(bars),
        indicators=indicators,
        rules=tuple(made),
        watches=tuple(pairs),
        models=tuple(planner.models),
        ring_width=max(1, planner.ring_width),
        state_dtype=_state_dtype(bars, indicators, made, planner.models),
        param_dtype=_param_dtype(bars, indicators, made, planner.models),
    )


def _state_dtype(
    bars: Sequence[BarSpec],
    indicators: Sequence[IndicatorInstance],
    rules: Sequence[RuleInstance],
    models: Sequence[ModelInstance],
) -> np.dtype[np.void]:
    fields: list[tuple[str, np.dtype[np.void]]] = [("m", MARKET), ("x", BAR)]
    fields += [(f"b{index}", BAR_STATE) for index in range(len(bars))]
    fields += [(i.field, i.spec.state_dtype) for i in indicators]
    fields += [(r.field, r.spec.state_dtype) for r in rules]
    fields += [(m.field, WINDOW_STATE) for m in models]
    return np.dtype(fields, align=True)


def _param_dtype(
    bars: Sequence[BarSpec],
    indicators: Sequence[IndicatorInstance],
    rules: Sequence[RuleInstance],
    models: Sequence[ModelInstance],
) -> np.dtype[np.void]:
    fields: list[tuple[str, object]] = [
        ("ring_width", "i8"),
        ("pause", "i8"),
        ("instruments", "i8"),
    ]
    fields += [(f"b{index}", BAR_PARAMS) for index in range(len(bars))]
    fields += [(i.field, i.spec.param_dtype) for i in indicators]
    fields += [(r.field, r.spec.param_dtype) for r in rules]
    fields += [(m.field, WINDOW_PARAMS) for m in models]
    return np.dtype(fields, align=True)
