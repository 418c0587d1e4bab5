"""The documentation's own indicator and rule: they load, run and do what they say."""

import tomllib
from itertools import pairwise
from pathlib import Path

import kernel_runs
import numpy as np
import pytest
from kernel_runs import trade

from strategies.bar_spec import BarKind, BarSpec
from strategies.config import BarConfig, StrategyConfig
from strategies.kernel import Kernel
from strategies.plan import RuleRequest, Watch, make_plan
from strategies.registry import Registry, load_registry
from strategies.spec import Use

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "docs" / "examples" / "my_indicator_and_rule.py"
LENGTH = 4


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry([PLUGIN])


def efficiency(closes: list[float]) -> float:
    steps = [abs(b - a) for a, b in pairwise(closes)]
    return abs(closes[-1] - closes[0]) / sum(steps) if sum(steps) else 0.0


def test_it_runs_in_the_kernel_as_it_says(registry: Registry) -> None:
    each = BarSpec("each", BarKind.TICK, size=1)
    rule = RuleRequest("mine", "clean_trend", "each", {"length": LENGTH, "entry": 0.6})
    watch = Watch("each", "er", Use("efficiency_ratio", {"length": LENGTH}))
    kernel = Kernel(make_plan(registry, [each], [rule], [watch]), 1, frozenset(["each"]))
    kernel.warm_up()
    rng = np.random.default_rng(2)
    prices = (100.0 + np.cumsum(rng.choice((-1.0, 0.0, 1.0), 200))).tolist()
    out = kernel_runs.run(kernel, np.concatenate([trade(i, p) for i, p in enumerate(prices)]))
    ratios = {at: efficiency(prices[at - LENGTH : at + 1]) for at in range(LENGTH, len(prices))}
    assert np.isnan(out.values[:LENGTH, 0]).all()
    np.testing.assert_allclose(out.values[LENGTH:, 0], list(ratios.values()), rtol=1e-12)
    expected = [
        (at, 1 if prices[at] > prices[at - LENGTH] else -1)
        for at, ratio in ratios.items()
        if ratio >= 0.6 > ratios.get(at - 1, 0.0)
    ]
    made = out.candidates[["row", "side"]].tolist()
    assert made == expected
    assert len(expected) > 5


def test_configuration_in_its_docstring_is_valid(registry: Registry) -> None:
    text = registry.rules["clean_trend"].decide.__module__
    source = PLUGIN.read_text()
    example = source.split('"""')[1].partition("built in:")[2]
    found = tomllib.loads("\n".join(line.strip() for line in example.splitlines()))
    assert text.startswith("heqis_plugin_")
    assert [(ROOT / path).resolve() for path in found["plugins"]] == [PLUGIN]
    bars = [BarConfig(**one).spec() for one in found["bars"]]
    wishes = [StrategyConfig(**one) for one in found["strategies"]]
    rules = [RuleRequest(w.name, w.rule or "", w.on, w.params) for w in wishes]
    assert len(make_plan(registry, bars, rules).indicators) == 1
