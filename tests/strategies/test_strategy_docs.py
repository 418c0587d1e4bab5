"""The page about strategies says what rules and settings say of themselves, and its code works."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indicator_series import walk

from engine.composition import resolve
from engine.config import Config
from engine.core.settings import Settings
from strategies.batch import IndicatorBatch
from strategies.config import BarConfig, StrategyConfig
from strategies.python_strategy import MAX_PROPOSALS, Bar, Strategy
from strategies.registry import Registry, load_registry
from strategies.spec import RuleSpec, Use, resolve_params

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RULES = load_registry().rules
GIVEN = {"instrument", "spec", "close", "indicators"}
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) to (.+?) \| (.+?) \|$", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def section_of(rule: str) -> str:
    return PAGE.partition(f"### {rule}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


@pytest.mark.parametrize("spec", RULES.values(), ids=lambda spec: spec.name)
def test_the_page_has_every_rule_as_it_is(spec: RuleSpec) -> None:
    told = section_of(spec.name)
    params = ", ".join(f"{name}={param.default}" for name, param in spec.params.items())
    uses = spec.uses(resolve_params(spec.params, {}))
    assert f"**`{spec.name}({params})`** {spec.title}. Version {spec.version}; reads" in told
    assert all(f"`{use.indicator}`" in told for use in uses)
    assert all(f"\n- {fact}: " in told for fact in ("strength", "confidence", "edge"))


@pytest.mark.parametrize("spec", RULES.values(), ids=lambda spec: spec.name)
def test_the_page_has_every_parameter_with_default_bounds_and_meaning(spec: RuleSpec) -> None:
    rows = ROW.findall(section_of(spec.name))
    told = {
        name: (default, number(low), number(high), doc) for name, default, low, high, doc in rows
    }
    assert told == {
        name: (str(param.default), float(param.low), float(param.high), param.doc)
        for name, param in spec.params.items()
    }


@pytest.mark.parametrize("model", [BarConfig, StrategyConfig])
def test_the_page_has_every_key(model: type[Settings]) -> None:
    table = "bars" if model is BarConfig else "strategies"
    told = PAGE.partition(f"### `[[{table}]]`\n")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE) == list(model.model_fields)


def test_the_page_has_every_callback_and_the_bound_on_proposals() -> None:
    callbacks = [name for name in vars(Strategy) if name.startswith("on_")]
    assert re.findall(r"^\| `(on_\w+)\(", PAGE, re.MULTILINE)[: len(callbacks)] == callbacks
    assert f"at most {MAX_PROPOSALS} times" in PAGE


def test_its_configuration_is_valid() -> None:
    text, _ = blocks(PAGE, "toml")
    tree = tomllib.loads(text)
    assert tree.pop("plugins") == ["my_rules.py"]
    plugin = ROOT / "docs" / "examples" / "my_indicator_and_rule.py"
    blueprint = resolve(Config.model_validate({**tree, "plugins": [plugin]}))
    assert [rule.name for rule in blueprint.plan.rules] == ["breakout-slow"]
    assert [entry.name for entry, _ in blueprint.python] == ["pullback"]


def load_block(text: str, path: Path) -> Registry:
    path.write_text(text, encoding="utf-8")
    return load_registry([path])


def test_its_python_strategy_buys_the_dip_once_its_mean_is_ready(tmp_path: Path) -> None:
    (code,) = blocks(PAGE, "python")
    dip = load_block(code, tmp_path / "page_strategy.py").strategies["dip"]({})
    assert dip.indicators()["mean"] == Use("sma", {"length": 50})
    facts: dict[str, Any] = dict.fromkeys(set(Bar.__struct_fields__) - GIVEN, 0)
    for close, known in ((99.0, {"mean": 100.0}), (99.9, {"mean": 100.0}), (1.0, {})):
        dip.on_bar(Bar(instrument="A.X", spec="5s", close=close, indicators=known, **facts))
    assert [(one.side, one.edge_bps) for one in dip.take_proposals()] == [(1, 20.0)]


def test_the_indicator_shown_to_contributors_is_talibs_momentum(tmp_path: Path) -> None:
    talib = pytest.importorskip("talib")
    code = next(block for block in blocks(CONTRIBUTING, "python") if "IndicatorSpec" in block)
    registry = load_block(code, tmp_path / "contributed_indicator.py")
    bars = walk(500, seed=3)
    for length in (1, 10, 37):
        (mine,) = IndicatorBatch([Use("momentum", {"length": length})], registry).run(bars)
        expected = talib.MOM(np.ascontiguousarray(bars["close"]), length)
        np.testing.assert_allclose(mine, expected, rtol=1e-9, equal_nan=True)
        warm_up = registry.indicators["momentum"].warm_up({"length": length})
        assert np.flatnonzero(~np.isnan(mine))[0] == warm_up - 1
