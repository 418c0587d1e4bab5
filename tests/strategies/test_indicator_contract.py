"""What every indicator must keep to, over all that are registered."""

import builtins
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indicator_series import KINDS, Floats, constant, plain, series, small

from engine.core.records import BAR, Bars
from strategies.batch import IndicatorBatch
from strategies.registry import load_registry
from strategies.spec import IndicatorSpec, Params, Use, resolve_params

REGISTRY = load_registry()
SPECS = [REGISTRY.indicators[name] for name in sorted(REGISTRY.indicators)]
every_indicator = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
GUARD = 3
"""Values around a ring that no indicator may read or write."""


def interpreted(function: Any) -> Callable[..., Any]:
    """Return a compiled function as plain Python, and all that it calls."""
    plain_function = getattr(function, "py_func", function)
    known = plain_function.__globals__
    names = {name: known[name] for name in plain_function.__code__.co_names if name in known}
    for name, value in names.items():
        if hasattr(value, "py_func"):
            names[name] = interpreted(value)
    names["__builtins__"] = builtins
    return types.FunctionType(plain_function.__code__, names, plain_function.__name__)


def params_of(spec: IndicatorSpec, given: Params) -> Params:
    return resolve_params(spec.params, given)


def run_interpreted(spec: IndicatorSpec, given: Params, bars: Bars) -> tuple[Floats, Floats]:
    """Run without compilation; return the outputs and the ring with its guards."""
    params = params_of(spec, given)
    state = np.zeros(1, spec.state_dtype)
    for output in spec.outputs:
        state[output] = np.nan
    record = np.zeros(1, spec.param_dtype)
    for name, value in params.items():
        record[name] = value
    length = spec.ring(params)
    ring = np.full(length + 2 * GUARD, np.nan)
    ring[GUARD : GUARD + length] = 0.0
    update = interpreted(spec.update)
    out = np.full((len(spec.outputs), len(bars)), np.nan)
    for k in range(len(bars)):
        update(state[0], record[0], ring, GUARD, bars[k])
        if state[0]["ready"]:
            out[:, k] = [state[0][output] for output in spec.outputs]
    return out, ring


def run_compiled(spec: IndicatorSpec, given: Params, bars: Bars) -> Floats:
    return IndicatorBatch([Use(spec.name, given)], REGISTRY).run(bars)


@every_indicator
def test_it_says_what_it_is(spec: IndicatorSpec) -> None:
    params = params_of(spec, {})
    assert spec.title
    assert spec.formula
    assert spec.reference
    assert all(param.doc for param in spec.params.values())
    assert len(set(spec.outputs)) == len(spec.outputs) > 0
    assert set(spec.needs) <= set(BAR.names or ())
    assert spec.warm_up(params) >= 1
    assert spec.ring(params) >= 0
    assert not {name for name, _ in spec.state} & {*spec.outputs, "ready"}


@every_indicator
@pytest.mark.parametrize("default", [True, False], ids=["default", "small"])
def test_it_is_ready_exactly_after_its_warm_up(spec: IndicatorSpec, default: bool) -> None:
    given = {} if default else small(spec.name)
    if spec.name == "vpin":
        given = {**given, "bucket_volume": 100.0}
    warm_up = spec.warm_up(params_of(spec, given))
    values = run_compiled(spec, given, plain(warm_up + 20))
    assert np.isnan(values[:, : warm_up - 1]).all()
    assert np.isfinite(values[:, warm_up - 1 :]).all()


@every_indicator
@pytest.mark.parametrize("kind", KINDS)
def test_its_outputs_are_finite_once_it_is_ready(spec: IndicatorSpec, kind: str) -> None:
    values = run_compiled(spec, small(spec.name), series(kind, 400, 3))
    known = ~np.isnan(values)
    assert (known.all(axis=0) | ~known.any(axis=0)).all()
    assert np.isfinite(values[known]).all()


@every_indicator
@pytest.mark.parametrize("kind", ["walk", "stairs", "unknown", "ticks"])
def test_it_keeps_to_its_ring_and_compiles_to_the_same_bits(spec: IndicatorSpec, kind: str) -> None:
    bars = series(kind, 60, 7)
    slow, ring = run_interpreted(spec, small(spec.name), bars)
    assert np.isnan(ring[:GUARD]).all()
    assert np.isnan(ring[len(ring) - GUARD :]).all()
    assert run_compiled(spec, small(spec.name), bars).tobytes() == slow.tobytes()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(KINDS), count=st.integers(0, 30))
def test_compiled_bits_are_pythons_on_any_series(seed: int, kind: str, count: int) -> None:
    bars = series(kind, count, seed)
    for spec in SPECS:
        slow, _ = run_interpreted(spec, small(spec.name), bars)
        assert run_compiled(spec, small(spec.name), bars).tobytes() == slow.tobytes(), spec.name


@every_indicator
def test_it_starts_again_after_a_reset(spec: IndicatorSpec) -> None:
    batch = IndicatorBatch([Use(spec.name, small(spec.name))], REGISTRY)
    bars = series("walk", 50, 2)
    first = batch.run(bars)
    batch.reset()
    assert batch.run(bars).tobytes() == first.tobytes()


BOOK = ("book_imbalance", "order_flow_imbalance", "weighted_mid")


@pytest.mark.parametrize("name", BOOK)
@pytest.mark.parametrize("missing", ["bid", "ask", "sizes"])
def test_a_sample_without_a_book_changes_nothing(name: str, missing: str) -> None:
    bars = series("walk", 40, 9)
    holes = np.insert(bars, [3, 20, 20, 39], bars[[0, 1, 2, 3]])
    odd = np.insert(np.zeros(40, bool), [3, 20, 20, 39], True)
    if missing == "sizes":
        holes["bid_size"][odd] = holes["ask_size"][odd] = 0.0
    else:
        holes[missing][odd] = np.nan
    spec = REGISTRY.indicators[name]
    with_holes = run_compiled(spec, small(name), holes)
    assert with_holes[:, ~odd].tobytes() == run_compiled(spec, small(name), bars).tobytes()
    later = np.flatnonzero(odd)[1:]
    assert (with_holes[:, later] == with_holes[:, later - 1]).all()


@pytest.mark.parametrize("name", ["trade_flow", "vpin", "hawkes"])
def test_volume_of_unknown_sides_never_makes_it_ready(name: str) -> None:
    bars = plain(100)
    bars["buy_volume"] = bars["sell_volume"] = 0.0
    assert np.isnan(run_compiled(REGISTRY.indicators[name], small(name), bars)).all()


@pytest.mark.parametrize("price", [0.1, 33.3, 1e9 / 3])
@pytest.mark.parametrize("moving_first", [False, True])
def test_a_price_that_stands_still_has_exactly_no_deviation(
    price: float, moving_first: bool
) -> None:
    bars = constant(100, price)
    if moving_first:
        bars = np.concatenate([series("walk", 50, 1), bars])
    uses = [Use("bollinger"), Use("zscore"), Use("cci"), Use("realised_volatility")]
    batch = IndicatorBatch(uses, REGISTRY)
    last = dict(zip(batch.columns, batch.run(bars)[:, -1], strict=True))
    for name in ("bollinger.sd", "zscore", "cci", "realised_volatility"):
        assert last[name] == 0.0
    assert last["bollinger.upper"] == last["bollinger"] == last["bollinger.lower"]


@pytest.mark.parametrize("name", ["rsi", "kdj", "adx"])
def test_a_price_that_never_moved_is_no_reading(name: str) -> None:
    assert np.isnan(run_compiled(REGISTRY.indicators[name], {}, constant(200))).all()


def test_a_large_price_long_ago_leaves_no_trace() -> None:
    bars = series("walk", 500, 4)
    after_spike = bars.copy()
    for name in ("open", "high", "low", "close"):
        after_spike[name][100] = 1e12
    uses = [Use(n) for n in ("sma", "wma", "bollinger", "zscore", "cci", "donchian")]
    one = IndicatorBatch(uses, REGISTRY).run(bars)
    other = IndicatorBatch(uses, REGISTRY).run(after_spike)
    np.testing.assert_allclose(one[:, 200:], other[:, 200:], rtol=1e-12, atol=1e-9)


def test_the_vwap_of_a_new_session_waits_for_its_first_trade() -> None:
    bars = plain(4)
    bars["session"] = [1, 1, 2, 2]
    bars["volume"][2] = 0.0
    values = run_compiled(REGISTRY.indicators["vwap"], {}, bars)[0]
    assert np.isnan(values).tolist() == [False, False, True, False]
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    assert values[3] == pytest.approx(typical[3])


def test_vpin_divides_a_trade_over_more_buckets_than_its_window() -> None:
    bars = plain(1)
    bars["buy_volume"], bars["sell_volume"] = 750_000.0, 250_000.0
    spec = REGISTRY.indicators["vpin"]
    values = run_compiled(spec, {"bucket_volume": 100.0, "buckets": 5}, bars)
    assert values[0, 0] == pytest.approx(0.5)
