"""Every compiled rule against its plain twin, its uncompiled self, and by example."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import kernel_runs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_runs import Outputs, Records, gap, tick
from reference.rule_twin import TWINS, Proposed

from engine.core.records import CANDIDATE, TickKind
from strategies.bar_spec import BarKind, BarSpec
from strategies.kernel import Kernel
from strategies.plan import KernelPlan, RuleInstance, RuleRequest, Watch, make_plan
from strategies.registry import load_registry

EACH = BarSpec("each", BarKind.TICK, size=2)
SHORT: Mapping[str, Mapping[str, float]] = {
    "macd_cross": {"fast": 3, "slow": 6, "signal": 3},
    "macd_rsi": {"fast": 3, "slow": 6, "signal": 3, "rsi_length": 5, "overbought": 60.0},
    "kdj_macd": {"length": 5, "fast": 3, "slow": 6, "signal": 3, "zone": 60.0, "patience": 2},
    "bollinger_reversion": {"length": 8, "width": 1.5},
    "zscore_reversion": {"length": 8, "entry": 1.5, "rearm": 0.4},
    "donchian_breakout": {"length": 5},
    "flow_momentum": {"length": 6, "entry": 0.4, "rearm": 0.2},
}
ALIAS = {"macd_cn": "macd"}
Fired = list[tuple[int, int]]


@pytest.fixture(scope="module")
def compiled() -> Kernel:
    registry = load_registry()
    rules = [RuleRequest(name, name, "each", params) for name, params in SHORT.items()]
    shape = make_plan(registry, [EACH], rules)
    watches = [
        Watch("each", f"{rule.name}/{ALIAS.get(use.indicator, use.indicator)}", use)
        for rule in shape.rules
        for use in rule.spec.uses(rule.params)
    ]
    kernel = Kernel(make_plan(registry, [EACH], rules, watches), 1, frozenset(["each"]))
    kernel.warm_up()
    return kernel


def series(closes: Sequence[float], flows: Sequence[float] = ()) -> Records:
    """Make two snapshots a bar; flow above 0 is all bought and adds to the bid, below sold."""
    parts = []
    for at, close in enumerate(closes):
        flow = flows[at] if at < len(flows) else 0.0
        for half, price in enumerate((close - 0.25, close)):
            parts.append(
                tick(
                    TickKind.SNAPSHOT, 1 + 2 * at + half, price=price, size=1.0,
                    side=1 if flow > 0 or (flow == 0 and half) else -1,
                    bid=close - 1, ask=close + 1, bid_size=3 + flow, ask_size=3.0,
                )
            )  # fmt: skip
    return np.concatenate(parts)


def rule_of(plan: KernelPlan, name: str) -> RuleInstance:
    return next(rule for rule in plan.rules if rule.name == name)


def rows_of(kernel: Kernel, out: Outputs, name: str) -> tuple[list[dict[str, float]], list[int]]:
    """Return the rows on which a rule's indicators are all ready, and which bars they are."""
    columns = [column for column, _, _ in kernel.plan.columns("each")]
    mine = [(at, c.removeprefix(name + "/")) for at, c in enumerate(columns) if name + "/" in c]
    rows, places = [], []
    for place, bar in enumerate(out.bars):
        values = {short: float(out.values[place, at]) for at, short in mine}
        if not any(map(math.isnan, values.values())):
            prices = {field: float(bar[field]) for field in ("high", "low", "close")}
            main = {f"{k}.line": v for k, v in values.items() if k == "macd"}
            main |= {f"{k}.k": v for k, v in values.items() if k == "kdj"}
            rows.append({**prices, **values, **main})
            places.append(place)
    return rows, places


def candidates_of(kernel: Kernel, out: Outputs, name: str) -> Records:
    number = [rule.name for rule in kernel.plan.rules].index(name)
    found: Records = out.candidates[out.candidates["strategy"] == number]
    return found


def expected_of(kernel: Kernel, out: Outputs, name: str) -> list[Proposed]:
    rows, places = rows_of(kernel, out, name)
    params = rule_of(kernel.plan, name).params
    return [one._replace(at=places[one.at]) for one in TWINS[name](rows, params)]


def proposed(kernel: Kernel, out: Outputs, name: str) -> list[Proposed]:
    """Return what the kernel proposed, by bar."""
    bar_at = {int(row): place for place, row in enumerate(out.rows)}
    return [
        Proposed(bar_at[c["row"].item()], *(c[f].item() for f in Proposed._fields[1:]))
        for c in candidates_of(kernel, out, name)
    ]


def interpreted(kernel: Kernel, out: Outputs, name: str) -> list[Proposed]:
    """Run the uncompiled function over the kernel's own bars and indicator values."""
    rule = rule_of(kernel.plan, name)
    decide = getattr(rule.spec.decide, "py_func", rule.spec.decide)
    state, params = np.zeros(1, rule.spec.state_dtype), np.zeros(1, rule.spec.param_dtype)
    for key, value in rule.params.items():
        params[key] = value
    inputs = [np.zeros(1, one.spec.state_dtype) for one in rule.inputs]
    made = []
    for place, bar in enumerate(out.bars):
        fill(kernel.plan, inputs, rule, out.values[place])
        if any(math.isnan(one[out_name][0]) for one, spec in zip(inputs, rule.inputs, strict=True)
               for out_name in spec.spec.outputs):  # fmt: skip
            continue
        c = np.zeros(1, CANDIDATE)
        if decide(state[0], params[0], bar, c[0], *(one[0] for one in inputs)):
            made.append(Proposed(place, *(c[0][f].item() for f in Proposed._fields[1:])))
    return made


def fill(plan: KernelPlan, inputs: Sequence[Records], rule: RuleInstance, values: Any) -> None:
    for at, (_, instance, output) in enumerate(plan.columns("each")):
        for record, wanted in zip(inputs, rule.inputs, strict=True):
            if instance is wanted:
                record[output] = values[at]


def run(kernel: Kernel, records: Records) -> Outputs:
    kernel_runs.reset(kernel)
    return kernel_runs.run(kernel, records)


def check(kernel: Kernel, out: Outputs) -> None:
    for name in SHORT:
        mine, expected = proposed(kernel, out, name), expected_of(kernel, out, name)
        assert [one[:2] for one in mine] == [one[:2] for one in expected], name
        for one, twin in zip(mine, expected, strict=True):
            assert one == pytest.approx(twin, rel=1e-9, abs=1e-12, nan_ok=True), name


def walk(count: int = 400, seed: int = 7) -> Records:
    rng = np.random.default_rng(seed)
    closes = 100.0 + np.cumsum(rng.choice((-1.0, -0.25, 0.0, 0.25, 1.0), count))
    flows = np.clip(np.cumsum(rng.normal(0, 0.6, count)) * 0.5, -2, 2)
    return series(closes.tolist(), flows.tolist())


def test_every_rule_has_a_twin() -> None:
    assert set(TWINS) == set(load_registry().rules) == set(SHORT)


def test_every_rule_fires_where_its_twin_does_on_a_long_walk(compiled: Kernel) -> None:
    out = run(compiled, walk())
    check(compiled, out)
    for name in SHORT:
        sides = set(candidates_of(compiled, out, name)["side"].tolist())
        assert sides == {1, -1}, f"the walk does not try {name} on both sides"


@given(
    closes=st.lists(st.integers(380, 420).map(lambda p: p / 4), min_size=20, max_size=80),
    flows=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=20, max_size=80),
)
def test_every_rule_fires_where_its_twin_does(
    compiled: Kernel, closes: list[float], flows: list[float]
) -> None:
    check(compiled, run(compiled, series(closes, flows)))


def test_uncompiled_functions_propose_exactly_the_same(compiled: Kernel) -> None:
    out = run(compiled, walk(seed=8))
    for name in SHORT:
        mine, theirs = proposed(compiled, out, name), interpreted(compiled, out, name)
        assert np.array(mine).tobytes() == np.array(theirs).tobytes(), name
        assert mine


def test_strength_and_confidence_lie_within_their_bounds(compiled: Kernel) -> None:
    found = run(compiled, walk(seed=9)).candidates
    assert len(found) > 50
    assert ((found["strength"] >= 0) & (found["strength"] <= 1)).all()
    assert ((found["confidence"] >= 0.5) & (found["confidence"] <= 1)).all()
    assert ((found["edge_bps"] >= 0) | np.isnan(found["edge_bps"])).all()


@pytest.mark.parametrize("name", SHORT)
def test_no_rule_acts_while_an_indicator_is_not_ready(compiled: Kernel, name: str) -> None:
    rule = rule_of(compiled.plan, name)
    warm_up = max(one.spec.warm_up(one.params) for one in rule.inputs)
    jumps = [100.0 + (20.0 if at % 4 < 2 else -20.0) for at in range(warm_up - 1)]
    flows = [2.0, -2.0] * warm_up
    once = series(jumps, flows)
    out = run(compiled, np.concatenate([once, gap(1000), once, gap(2000), once]))
    assert len(out.bars) == 3 * (warm_up - 1)
    assert len(candidates_of(compiled, out, name)) == 0


def fired(kernel: Kernel, name: str, closes: Sequence[float], flows: Any = ()) -> Fired:
    out = run(kernel, series(closes, flows))
    return [(one.at, one.side) for one in proposed(kernel, out, name)]


def test_breakout_is_proposed_once_and_again_after_the_middle(compiled: Kernel) -> None:
    closes = [100.0, 101.0] * 5 + [103.0, 104.0, 105.0, 102.0, 106.0]
    assert fired(compiled, "donchian_breakout", closes) == [(10, 1), (14, 1)]


def test_bollinger_waits_until_the_close_is_back_inside(compiled: Kernel) -> None:
    closes = [100.0, 101.0] * 5 + [105.0, 108.0, 103.5]
    assert fired(compiled, "bollinger_reversion", closes) == [(12, -1)]


def test_reversions_edge_is_the_way_to_the_mean(compiled: Kernel) -> None:
    closes = [100.0, 101.0] * 5 + [105.0]
    out = run(compiled, series(closes))
    mean = sum(closes[-8:]) / 8
    (one,) = proposed(compiled, out, "zscore_reversion")
    assert one.edge_bps == pytest.approx((105.0 - mean) / 105.0 * 1e4)


def test_flat_prices_make_no_proposal(compiled: Kernel) -> None:
    assert len(run(compiled, series([100.0] * 60)).candidates) == 0


def test_flow_is_not_followed_against_the_book(compiled: Kernel) -> None:
    out = run(compiled, series([100.0] * 30, [1.0] * 10 + [0.5] * 20))
    assert [one.side for one in proposed(compiled, out, "flow_momentum")] == [1]
