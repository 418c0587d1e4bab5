"""The batch: names of outputs, buffers of the caller's, errors."""

import numpy as np
import pytest
from indicator_series import walk

from engine.core.errors import ConfigError
from strategies.batch import IndicatorBatch, run_indicators
from strategies.registry import load_registry
from strategies.spec import Use

REGISTRY = load_registry()


def test_outputs_are_named_by_the_use_and_the_output() -> None:
    outputs = run_indicators(walk(50, 1), [Use("rsi", {"length": 5}), Use("macd")], REGISTRY)
    assert list(outputs) == ["rsi(length=5)", "macd", "macd.signal", "macd.histogram"]
    assert all(values.shape == (50,) for values in outputs.values())


def test_one_indicator_twice_with_other_parameters_keeps_apart() -> None:
    bars = walk(50, 1)
    both = run_indicators(bars, [Use("sma", {"length": 3}), Use("sma", {"length": 7})], REGISTRY)
    for length in (3, 7):
        alone = run_indicators(bars, [Use("sma", {"length": length})], REGISTRY)
        name = f"sma(length={length})"
        np.testing.assert_array_equal(both[name], alone[name])


def test_it_writes_into_the_callers_buffer() -> None:
    bars = walk(50, 1)
    batch = IndicatorBatch([Use("obv")], REGISTRY)
    out = np.zeros((1, 50))
    assert batch.run(bars, out) is out
    batch.reset()
    np.testing.assert_array_equal(out, batch.run(bars))


def test_a_buffer_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        IndicatorBatch([Use("obv")], REGISTRY).run(walk(5, 1), np.zeros((2, 5)))


def test_a_strided_view_of_bars_is_read_right() -> None:
    bars = walk(60, 1)
    strided = run_indicators(bars[::2], [Use("ema", {"length": 4})], REGISTRY)
    packed = run_indicators(bars[::2].copy(), [Use("ema", {"length": 4})], REGISTRY)
    np.testing.assert_array_equal(strided["ema(length=4)"], packed["ema(length=4)"])


def test_no_bars_give_no_rows() -> None:
    assert run_indicators(walk(0, 1), [Use("obv")], REGISTRY)["obv"].shape == (0,)


@pytest.mark.parametrize(
    "use", [Use("nothing"), Use("sma", {"width": 3}), Use("sma", {"length": 0})]
)
def test_a_wish_that_cannot_be_met_is_a_configuration_error(use: Use) -> None:
    with pytest.raises(ConfigError):
        IndicatorBatch([use], REGISTRY)


def test_no_indicator_compiles_a_second_time() -> None:
    batch = IndicatorBatch([Use("sma"), Use("kdj")], REGISTRY)
    for count in (1, 2, 100):
        batch.run(walk(count, 1))
    assert len(getattr(batch._run, "signatures", [()])) == 1
