"""What a sweep varies: read, found in the configuration, tried, and refused with a reason."""

from typing import Any

import pytest
from pipeline_cases import RULES
from sweep_cases import FAST, GRID, SLOW, space_of

from engine.config import Config, load_config
from engine.core.errors import ConfigError
from replay.sweep.dimension import MAX_VALUES, Choices, Range, parse_dimension
from replay.sweep.space import make_space

DOTTED: dict[str, Any] = {
    "bars": [{"name": "1.5s", "kind": "time", "interval": "1500ms"}],
    "strategies": [
        {"name": name, "rule": "macd_cross", "on": "1.5s"} for name in ("v1", "v1.fast", "off")
    ],
}
DOTTED["strategies"][2]["enabled"] = False


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("a.b=5:50", Range("a.b", 5, 50, 1)),
        (" a.b = 5 : 50 : 5 ", Range("a.b", 5, 50, 5)),
        ("a=5:52:5", Range("a", 5, 50, 5)),
        ("a=0.1:2", Range("a", 0.1, 2.0)),
        ("a=0:1:0.25", Range("a", 0.0, 1.0, 0.25)),
        ("a=0.1:0.35:0.1", Range("a", 0.1, 0.3, 0.1)),
        ("a=1:1000:log", Range("a", 1, 1000, None, True)),
        ("a=1e-3:1.0:log", Range("a", 1e-3, 1.0, None, True)),
        ("a=7:7", Range("a", 7, 7, 1)),
        ("a=1s,2s", Choices("a", ("1s", "2s"))),
        ("a=1, 2.5, true, x", Choices("a", (1, 2.5, True, "x"))),
        ("a=on", Choices("a", ("on",))),
    ],
)
def test_range_is_read(text: str, dimension: object) -> None:
    parsed = parse_dimension(text)
    assert parsed == dimension
    assert parse_dimension(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "give KEY=LOW:HIGH"),
        ("=1:2", "give KEY=LOW:HIGH"),
        ("a=", "give KEY=LOW:HIGH"),
        ("a=1:2:3:4", "give KEY=LOW:HIGH"),
        ("a=50:5", "the range is empty: 50 is above 5"),
        ("a=5:50:0", "a step is above 0"),
        ("a=5:50:-5", "a step is above 0"),
        ("a=0:5:log", "begins above 0"),
        ("a=x:5", "'x' is not a number"),
        ("a=1:inf", "'inf' is not a number"),
        ("a=nan:1", "'nan' is not a number"),
        ("a=true:5", "'true' is not a number"),
        ("a=1,,2", "empty choice"),
        ("a=1,2,1", "a choice is given twice"),
    ],
)
def test_range_that_makes_no_sense_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"command line: --param") as caught:
        parse_dimension(text)
    assert told in str(caught.value)


def test_listed_values_have_no_rounding() -> None:
    assert parse_dimension("a=0.1:0.7:0.1").listed() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert parse_dimension("a=5:9:2").listed() == [5, 7, 9]
    assert parse_dimension("a=x,2").listed() == ["x", 2]
    with pytest.raises(ConfigError, match="too many to list"):
        parse_dimension(f"a=0:{MAX_VALUES}").listed()


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("strategies.fats.params.fast=2:3", "did you mean 'fast'?"),
        ("strategies.fast.params.fst=2:3", "did you mean 'fast'?"),
        ("strategies.fast.params.fast=0:3", "0 is not within 1 and"),
        ("strategies.fast.params.fast=2:2000000", "2000000 is not within 1 and"),
        ("strategies.fast.params.fast=2.5:3.5", "2.5 is not a whole number"),
        ("strategies.fast.params.fast=a,b", "'a' is not a number"),
        ("strategies.fast.params=1:2", "give a key within it"),
        ("strategies.fast.parms.fast=1:2", "did you mean 'params'?"),
        ("strategies.fast.on.x=1:2", "strategies.fast.on is a value"),
        ("strategies.fast.on=1s,2s", "clocks are: tick, trade, quote, 1s"),
        ("strategies.fast.name=a,b", "give a key within it"),
        ("strategies.fast=1:2", "give a key within it"),
        ("strategies=1:2", "give a key within it"),
        ("bars.1s.interval=5,10", "without a unit"),
        ("risk.limits.cool_dwon=1s,2s", "did you mean 'cool_down'?"),
        ("risk.liquidity.max_spread_bps=-5.0:5.0", "greater than or equal to 0"),
        ("stream.port=1:3", "tables a sweep can vary are"),
        ("strategy.fast.params.fast=2:3", "did you mean 'strategies'?"),
    ],
)
def test_key_or_value_that_the_configuration_lacks_is_refused(param: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"command line: --param") as caught:
        space_of(param)
    assert told in str(caught.value)


def test_key_is_given_once_and_there_is_one() -> None:
    with pytest.raises(ConfigError, match="give each key once"):
        space_of(f"{FAST}=2:3", f"{FAST}=4:5")
    with pytest.raises(ConfigError, match="say what to vary"):
        space_of()


def test_names_with_dots_are_told_apart() -> None:
    space = space_of("strategies.v1.fast.params.fast=2:3", "bars.1.5s.interval=1s,2s", tree=DOTTED)
    config = space.config_at({"strategies.v1.fast.params.fast": 3, "bars.1.5s.interval": "2s"})
    assert [entry.params for entry in config.strategies] == [{}, {"fast": 3}, {}]
    assert config.bars[0].interval == 2 * 10**9


def test_strategy_that_is_off_is_not_varied_unless_it_is_switched() -> None:
    with pytest.raises(ConfigError, match=r"set strategies\.off\.enabled to true"):
        space_of("strategies.off.params.fast=2:3", tree=DOTTED)
    space = space_of(
        "strategies.off.params.fast=2:3", "strategies.off.enabled=true,false", tree=DOTTED
    )
    assert space.config_at({"strategies.off.enabled": True}).active_strategies[-1].name == "off"


def test_nothing_but_the_key_changes() -> None:
    config = Config.model_validate(RULES)
    space = space_of(*GRID)
    assert space.config_at({}) == config
    changed = space.config_at({FAST: 5})
    assert changed.strategies[0].params == {"fast": 5, "slow": 6}
    assert changed.model_copy(update={"strategies": config.strategies}) == config
    assert space.config_at({}) == config


def test_default_configuration_can_be_swept() -> None:
    config = load_config(["configs/replay.toml"])
    space = make_space(config, [parse_dimension("strategies.macd_5s.params.fast=5:20")])
    assert space.config_at({}) == config


def test_grid_has_an_end_and_a_bound() -> None:
    assert space_of(*GRID).points() == 9
    with pytest.raises(ConfigError, match="a grid needs a step"):
        space_of("strategies.fast.params.min_histogram_bps=0.1:2.5").points()
    with pytest.raises(ConfigError, match="a grid of 1000000 points"):
        space_of(f"{FAST}=1:1000", f"{SLOW}=2:1001").points()


def test_fingerprint_is_of_what_trials_have_in_common() -> None:
    first = space_of(f"{FAST}=2:3").fingerprint()
    other = {**RULES, "strategies": [{**RULES["strategies"][0], "params": {"fast": 9, "slow": 6}},
                                     RULES["strategies"][1]]}  # fmt: skip
    assert space_of(f"{FAST}=2:3", tree=other).fingerprint() == first
    assert space_of(f"{SLOW}=6:7", tree=other).fingerprint() != first
    elsewhere = {**RULES, "stream": {"port": 1}}
    assert space_of(f"{FAST}=2:3", tree=elsewhere).fingerprint() == first
