"""Agreement with TA-Lib to 1e-9 on every bar where both are defined, and on where that begins."""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
from indicator_series import Floats, constant, ohlc, series, walk

from engine.core.records import Bars
from strategies.batch import IndicatorBatch
from strategies.registry import load_registry
from strategies.spec import Use

talib = pytest.importorskip("talib", reason="the dev extra brings TA-Lib")
REGISTRY = load_registry()

Peer = Callable[[Bars], Any]
PEERS: Final[dict[str, tuple[dict[str, int], Peer, float]]] = {
    "sma": ({"length": 20}, lambda b: [talib.SMA(b["close"], 20)], 0),
    "ema": ({"length": 20}, lambda b: [talib.EMA(b["close"], 20)], 0),
    "wma": ({"length": 20}, lambda b: [talib.WMA(b["close"], 20)], 0),
    "macd": ({}, lambda b: talib.MACD(b["close"]), 0),
    "rsi": ({"length": 14}, lambda b: [talib.RSI(b["close"], 14)], 100),
    "bollinger": ({"length": 20}, lambda b: _bands(b), 0),
    "atr": ({"length": 14}, lambda b: [talib.ATR(b["high"], b["low"], b["close"], 14)], 0),
    "adx": ({"length": 14}, lambda b: _directions(b), 100),
    "cci": ({"length": 14}, lambda b: [talib.CCI(b["high"], b["low"], b["close"], 14)], 100),
    "obv": ({}, lambda b: [talib.OBV(b["close"], b["volume"])], 0),
    "donchian": ({"length": 20}, lambda b: _channel(b), 0),
    "roc": ({"length": 10}, lambda b: [talib.ROC(b["close"], 10)], 100),
    "kdj": ({}, lambda b: _stochastic(b), 100),
}
"""Parameters, TA-Lib's outputs in the order of ours (fewer if it has fewer), and the scale of an
oscillator; 0 means the price."""

SETTLED: Final = {"kdj": 120}
"""From this bar on another seed no longer shows."""


def _bands(bars: Bars) -> list[Floats]:
    upper, middle, lower = talib.BBANDS(bars["close"], 20, 2.0, 2.0, 0)
    return [middle, upper, lower]


def _channel(bars: Bars) -> list[Floats]:
    return [talib.MAX(bars["high"], 20), talib.MIN(bars["low"], 20)]


def _directions(bars: Bars) -> list[Floats]:
    names = ("ADX", "PLUS_DI", "MINUS_DI")
    return [getattr(talib, n)(bars["high"], bars["low"], bars["close"], 14) for n in names]


def _stochastic(bars: Bars) -> list[Floats]:
    exponential = 1
    arrays = (bars["high"], bars["low"], bars["close"])
    return list(talib.STOCH(*arrays, 9, 5, exponential, 5, exponential))


@cache
def batch(name: str) -> IndicatorBatch:
    return IndicatorBatch([Use(name, PEERS[name][0])], REGISTRY)


def ours_of(name: str, bars: Bars) -> Floats:
    one = batch(name)
    one.reset()
    return one.run(bars)


def theirs_of(name: str, bars: Bars) -> list[Floats]:
    packed = {field: np.ascontiguousarray(bars[field]) for field in bars.dtype.names or ()}
    return list(PEERS[name][1](packed))  # type: ignore[arg-type]  # a mapping by field does


def assert_agree(name: str, bars: Bars) -> None:
    """Relative 1e-9, and for values near zero a rounding error of what was subtracted."""
    scale = PEERS[name][2] or float(np.max(np.abs(bars["close"])))
    for ours, theirs in zip(ours_of(name, bars), theirs_of(name, bars), strict=False):
        both = ~np.isnan(ours) & ~np.isnan(theirs)
        both[: SETTLED.get(name, 0)] = False
        np.testing.assert_allclose(
            ours[both], theirs[both], rtol=1e-9, atol=1e-12 * scale, err_msg=name
        )


def first_defined(values: Floats) -> int:
    return int(np.argmax(~np.isnan(values)))


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("start", [1e-3, 1.0, 100.0, 6e4, 1e8])
def test_a_random_walk_at_any_price_agrees(name: str, start: float) -> None:
    assert_agree(name, walk(3000, 11, start=start))


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("kind", ["jumps", "stairs", "ticks"])
def test_an_odd_series_agrees(name: str, kind: str) -> None:
    if name == "kdj" and kind == "stairs":
        pytest.skip("windows without a range: TA-Lib takes 0, here K and D stand still")
    assert_agree(name, series(kind, 1500, 5))


@pytest.mark.parametrize("name", PEERS)
def test_a_constant_series_agrees(name: str) -> None:
    assert_agree(name, constant(300, 32.0))


@pytest.mark.parametrize("name", PEERS)
def test_the_first_defined_bar_is_the_same(name: str) -> None:
    bars = walk(200, 3)
    ours, theirs = ours_of(name, bars)[0], theirs_of(name, bars)[0]
    if name == "kdj":
        theirs = talib.KDJ(*(np.ascontiguousarray(bars[f]) for f in ("high", "low", "close")))[0]
    assert first_defined(ours) == first_defined(theirs)


@pytest.mark.parametrize("name", PEERS)
def test_a_long_series_of_rounded_prices_agrees_to_its_end(name: str) -> None:
    rng = np.random.default_rng(8)
    closes = np.round(3000 * np.exp(np.cumsum(rng.normal(0, 1e-4, 200_000))), 2)
    bars = ohlc(closes, rng)
    assert_agree(name, bars)


def test_vwap_within_one_session_agrees() -> None:
    if not hasattr(talib, "VWAP"):
        pytest.skip("this TA-Lib has no VWAP")
    bars = walk(2000, 6)
    bars["session"] = 7
    ours = IndicatorBatch([Use("vwap")], REGISTRY).run(bars)[0]
    arrays = (np.ascontiguousarray(bars[f]) for f in ("high", "low", "close", "volume"))
    np.testing.assert_allclose(ours, talib.VWAP(*arrays), rtol=1e-9)


def test_chinese_macd_nears_talibs_line_and_doubles_its_histogram() -> None:
    bars = walk(400, 2)
    chinese = IndicatorBatch([Use("macd_cn")], REGISTRY).run(bars)[:, 300:]
    line, signal, histogram = (row[300:] for row in ours_of("macd", bars))
    np.testing.assert_allclose(chinese[0], line, atol=1e-6)
    np.testing.assert_allclose(chinese[1], signal, atol=1e-6)
    np.testing.assert_allclose(chinese[2], 2 * histogram, atol=1e-6)
