"""The plan: what is shared, how state is laid out, and what a wrong wish is told."""

import math
from typing import Any

import pytest

from engine.core.errors import ConfigError
from strategies.bar_spec import BarKind, BarSpec
from strategies.codegen import generate
from strategies.model_spec import MAX_WINDOW, FeatureColumn, ModelWindow, read_columns
from strategies.plan import KernelPlan, RuleRequest, Watch, make_plan
from strategies.registry import Registry, load_registry
from strategies.score_rule import SCORE
from strategies.spec import Param, Use, resolve_params

BARS = (
    BarSpec("1s", BarKind.TIME, interval_ns=10**9),
    BarSpec("100t", BarKind.TICK, size=100),
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def macd(name: str, clock: str = "1s", **params: float) -> RuleRequest:
    return RuleRequest(name, "macd_cross", clock, params)


def plan_of(registry: Registry, *rules: RuleRequest, watches: tuple[Watch, ...] = ()) -> KernelPlan:
    return make_plan(registry, BARS, rules, watches, "my.toml")


def error_of(registry: Registry, *rules: RuleRequest, watch: Watch | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan_of(registry, *rules, watches=(watch,) if watch else ())
    assert caught.value.file == "my.toml"
    return caught.value


def test_rules_share_an_indicator_with_equal_parameters_on_one_clock(registry: Registry) -> None:
    plan = plan_of(registry, macd("a"), macd("b", min_histogram_bps=3.0))
    assert len(plan.indicators) == 1
    assert plan.rules[0].inputs == plan.rules[1].inputs


def test_parameter_left_out_is_the_same_as_its_default_given(registry: Registry) -> None:
    assert len(plan_of(registry, macd("a"), macd("b", fast=12)).indicators) == 1


def test_other_clock_or_parameters_mean_another_instance(registry: Registry) -> None:
    plan = plan_of(registry, macd("a"), macd("b", "tick"), macd("c", fast=5))
    assert [one.field for one in plan.indicators] == ["i0", "i1", "i2"]
    assert [one.clock for one in plan.indicators] == ["1s", "tick", "1s"]


def test_without_sharing_the_code_is_the_same_whatever_the_parameters(registry: Registry) -> None:
    pairs = [(macd("a"), macd("b")), (macd("a", fast=5), macd("b", slow=60))]
    plans = [make_plan(registry, BARS, pair, share=False) for pair in pairs]
    assert [len(plan.indicators) for plan in plans] == [2, 2]
    assert generate(plans[0]) == generate(plans[1])
    shared = [make_plan(registry, BARS, pair) for pair in pairs]
    assert generate(shared[0]) != generate(shared[1])


def test_watch_shares_with_a_rule(registry: Registry) -> None:
    plan = plan_of(registry, macd("a"), watches=(Watch("1s", "m", Use("macd")),))
    assert plan.watches[0][1] is plan.rules[0].inputs[0]
    assert [name for name, _, _ in plan.columns("1s")] == ["m", "m.signal", "m.histogram"]
    assert plan.columns("100t") == []
    assert plan.width == 3


def test_histories_do_not_overlap(registry: Registry) -> None:
    uses = [Use("sma", {"length": 5}), Use("sma", {"length": 7}), Use("sma", {"length": 1})]
    watches = tuple(Watch("1s", f"w{i}", use) for i, use in enumerate(uses))
    plan = plan_of(registry, watches=watches)
    assert [one.ring_offset for one in plan.indicators] == [0, 5, 12]
    assert plan.ring_width == 13


def test_use_may_name_a_clock_of_its_own(registry: Registry) -> None:
    plan = plan_of(registry, watches=(Watch("1s", "slow", Use("sma", {}, on="100t")),))
    assert plan.indicators[0].clock == "100t"


def model(*columns: FeatureColumn, **fields: Any) -> ModelWindow:
    columns = columns or (FeatureColumn("macd", Use("macd")),)
    return ModelWindow(**{"name": "m", "clock": "1s", "features": columns, "window": 8, **fields})


def test_models_feature_shares_with_a_rule(registry: Registry) -> None:
    wanted = model(FeatureColumn("a", Use("macd"), "histogram"), FeatureColumn("b", Use("macd")))
    plan = make_plan(registry, BARS, [macd("r")], models=[wanted])
    (one,) = plan.models
    assert len(plan.indicators) == 1
    assert [(c.name, i is plan.rules[0].inputs[0], o) for c, i, o in one.columns] == [
        ("a", True, "histogram"),
        ("b", True, "line"),
    ]
    assert (one.name, one.clock, one.window, one.field) == ("m", "1s", 8, "w0")


def test_feature_may_name_a_clock_of_its_own(registry: Registry) -> None:
    wanted = model(FeatureColumn("slow", Use("sma", {}, on="100t")))
    plan = make_plan(registry, BARS, [], models=[wanted])
    assert plan.indicators[0].clock == "100t"


def test_strategies_know_their_model_by_its_place(registry: Registry) -> None:
    rules = [
        RuleRequest("plain", "macd_cross", "1s"),
        RuleRequest("score", "", "", {"every": 4}, model="b"),
        RuleRequest("confirmed", "macd_cross", "tick", confirm="a"),
    ]
    models = [model(name="a", clock="tick"), model(name="b", clock="100t")]
    plan = make_plan(registry, BARS, rules, models=models)
    assert [rule.model for rule in plan.rules] == [-1, 1, 0]
    assert [rule.clock for rule in plan.rules] == ["1s", "100t", "tick"]
    assert plan.rules[1].spec is SCORE
    assert plan.rules[1].params["every"] == 4
    assert [one.field for one in plan.models] == ["w0", "w1"]


def test_plan_without_models_has_no_field_of_them(registry: Registry) -> None:
    plan = plan_of(registry, macd("a"))
    assert plan.models == ()
    names = [*(plan.state_dtype.names or ()), *(plan.param_dtype.names or ())]
    assert not [name for name in names if name.startswith("w")]


@pytest.mark.parametrize(
    ("wanted", "key", "allowed"),
    [
        (model(clock="2s"), "models.m.on", "clocks are: tick, trade, quote, 1s, 100t"),
        (model(window=0), "models.m.window", "1 to 4096 rows"),
        (model(window=MAX_WINDOW + 1), "models.m.window", "1 to 4096 rows"),
        (model(features=()), "models.m.features", "1 to 256, each name once"),
        (model(*[FeatureColumn("x", Use("sma"))] * 2), "models.m.features", "each name once"),
        (model(FeatureColumn("x", Use("smaa"))), "models.m.features.x", "indicators are: "),
        (
            model(FeatureColumn("x", Use("sma", {"n": 1}))),
            "models.m.features.x",
            "it takes: length",
        ),
        (model(FeatureColumn("x", Use("sma", {}, on="2s"))), "models.m.features.x", "clocks are"),
        (model(FeatureColumn("x", Use("macd"), "hist")), "models.m.features.x.output", "histogram"),
    ],
)
def test_wrong_model_is_told_the_key_and_what_is_allowed(
    registry: Registry, wanted: ModelWindow, key: str, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        make_plan(registry, BARS, [], (), "my.toml", [wanted])
    assert (caught.value.file, caught.value.key) == ("my.toml", key)


@pytest.mark.parametrize(
    ("request_", "key", "allowed"),
    [
        (RuleRequest("a", "", "", model="n"), "strategies.a.model", "models are: m"),
        (
            RuleRequest("a", "macd_cross", "1s", confirm="n"),
            "strategies.a.confirm",
            "models are: m",
        ),
        (RuleRequest("a", "", "tick", model="m"), "strategies.a.on", "its model is on '1s'"),
        (
            RuleRequest("a", "", "", {"evry": 1}, model="m"),
            "strategies.a.params",
            "min_margin, every",
        ),
        (RuleRequest("a", "", "", {"every": 0}, model="m"), "strategies.a.params", "within 1 and"),
    ],
)
def test_wrong_wish_for_a_model_is_told_the_key_and_what_is_allowed(
    registry: Registry, request_: RuleRequest, key: str, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        make_plan(registry, BARS, [request_], models=[model()])
    assert caught.value.key == key


def test_wish_for_a_model_where_there_is_none_is_told_so(registry: Registry) -> None:
    error = error_of(registry, RuleRequest("a", "", "", model="m"))
    assert "models are: none" in str(error)


def test_features_written_as_text_are_read_in_order(registry: Registry) -> None:
    found = read_columns(
        [("a", "rsi(length=3)", ""), ("b", " macd ", "signal")], registry, "a manifest"
    )
    assert found == (
        FeatureColumn("a", Use("rsi", {"length": 3})),
        FeatureColumn("b", Use("macd"), "signal"),
    )
    with pytest.raises(ConfigError, match="did you mean 'rsi'") as caught:
        read_columns([("a", "rsi_", "")], registry, "a manifest")
    assert caught.value.file == "a manifest"


WATCH = Watch("1s", "w", Use("sma"))


@pytest.mark.parametrize(
    ("request_", "key", "found", "allowed"),
    [
        (RuleRequest("a", "macd_crss", "1s"), "strategies.a.rule", "macd_crss", "macd_cross"),
        (RuleRequest("a", "macd_cross", "2s"), "strategies.a.on", "2s", "tick, trade, quote, 1s"),
        (
            macd("a", fat=1),
            "strategies.a.params",
            {"fat": 1},
            "'fat'; did you mean 'fast'? it takes: fast, slow",
        ),
        (macd("a", fast=0), "strategies.a.params", {"fast": 0}, "'fast': 0 is not within 1 and"),
    ],
)
def test_wrong_rule_is_told_the_key_and_what_is_allowed(
    registry: Registry, request_: RuleRequest, key: str, found: object, allowed: str
) -> None:
    error = error_of(registry, request_)
    assert (error.key, error.found) == (key, found)
    assert allowed in str(error)


@pytest.mark.parametrize(
    ("watch", "found", "allowed"),
    [
        (Watch("1s", "w", Use("smaa")), "smaa", "sma"),
        (Watch("2s", "w", Use("sma")), "2s", "1s, 100t"),
        (Watch("2s", "w", Use("sma", {}, on="1s")), "2s", "1s, 100t"),
        (Watch("1s", "w", Use("sma", {}, on="2s")), "2s", "1s, 100t"),
        (Watch("1s", "w", Use("sma", {"length": 1.5})), {"length": 1.5}, "whole number"),
    ],
)
def test_wrong_watch_is_told_the_key_and_what_is_allowed(
    registry: Registry, watch: Watch, found: object, allowed: str
) -> None:
    error = error_of(registry, watch=watch)
    assert (error.key, error.found) == ("indicators.w", found)
    assert allowed in str(error)


@pytest.mark.parametrize("value", [True, "5", None, math.nan, math.inf, -math.inf, 2.5, 0, 11])
def test_value_that_is_not_of_the_parameters_kind_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="parameter 'n'"):
        resolve_params({"n": Param(5, 1, 10, "some number")}, {"n": value})


def test_whole_float_becomes_an_int_and_an_int_a_float() -> None:
    declared = {"n": Param(5, 1, 10, "a count"), "x": Param(0.5, 0.0, 2.0, "a share")}
    values = resolve_params(declared, {"n": 7.0, "x": 1})
    assert values == {"n": 7, "x": 1.0}
    assert [type(value) for value in values.values()] == [int, float]
