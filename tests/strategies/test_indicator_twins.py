"""Every indicator against its twin, over every kind of series."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indicator_series import KINDS, series, small, walk
from reference.indicator_twins import TWINS

from engine.core.records import Bars
from strategies.batch import IndicatorBatch
from strategies.registry import Registry, load_registry
from strategies.spec import Use

REGISTRY: Registry = load_registry()
NAMES = sorted(REGISTRY.indicators)
USES = tuple(Use(name, small(name)) for name in NAMES)


@cache
def batch() -> IndicatorBatch:
    return IndicatorBatch(USES, REGISTRY)


def outputs_of(bars: Bars) -> dict[tuple[str, str], np.ndarray]:
    """Run all indicators from their first sample."""
    one = batch()
    one.reset()
    rows = one.run(bars)
    names = [(it.spec.name, output) for _, it, output in one.plan.columns("tick")]
    return dict(zip(names, rows, strict=True))


def tolerance_of(name: str, bars: Bars) -> float:
    """Return the rounding error that near-zero values may have, from what is subtracted."""
    price = float(np.max(np.abs(bars["close"]), initial=0.0))
    if name in {"macd", "macd_cn"}:
        return 1e-13 * price
    if name == "bollinger":
        # The squares of a window that holds a jump are near price²: a dozen roundings of them move
        # a deviation of 1e-4 of the price, the smallest here, by about 12 * 2.2e-16 / 2e-4 of it.
        return 1.3e-11 * price
    return 1e-7 if name in {"cci", "zscore"} else 1e-11


def test_every_indicator_has_a_twin() -> None:
    assert sorted(TWINS) == NAMES


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), count=st.integers(0, 120))
def test_every_output_equals_its_twin(kind: str, seed: int, count: int) -> None:
    bars = series(kind, count, seed)
    ours = outputs_of(bars)
    for name in NAMES:
        twin = TWINS[name](bars, **small(name))
        tolerance = tolerance_of(name, bars)
        for output in REGISTRY.indicators[name].outputs:
            np.testing.assert_allclose(
                ours[name, output],
                twin[output],
                rtol=1e-9,
                atol=tolerance,
                err_msg=f"{name} {kind}",
            )


@pytest.mark.parametrize("start", [1e-6, 1.0, 3e4, 1e9])
def test_default_lengths_equal_their_twins_at_any_price(start: float) -> None:
    bars = walk(600, 5, start=start, step=1e-4)
    ours = IndicatorBatch([Use(name) for name in NAMES], REGISTRY)
    for column, values in zip(ours.plan.columns("tick"), ours.run(bars), strict=True):
        _, instance, output = column
        twin = TWINS[instance.spec.name](bars)[output]
        assert np.array_equal(np.isnan(values), np.isnan(twin))
        tolerance = tolerance_of(instance.spec.name, bars)
        np.testing.assert_allclose(values, twin, rtol=1e-9, atol=tolerance, err_msg=column[0])


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 150), max_size=8).map(sorted),
    kind=st.sampled_from(KINDS),
)
def test_pieces_of_a_series_give_the_same_bits_as_the_whole(
    seed: int, cuts: list[int], kind: str
) -> None:
    bars = series(kind, 150, seed)
    one = batch()
    one.reset()
    whole = one.run(bars)
    one.reset()
    pieces = [one.run(piece) for piece in np.split(bars, cuts)]
    assert np.concatenate(pieces, axis=1).tobytes() == whole.tobytes()
