"""Bars of every kind to run indicators over, and small parameters for quick warm-ups."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Bars, empty_bars
from strategies.spec import Params

Floats = npt.NDArray[np.float64]

START_NS: Final = 1_700_000_000_000_000_000
DAY_NS: Final = 86_400 * 10**9

SMALL: Final[Mapping[str, Params]] = {
    "macd": {"fast": 3, "slow": 6, "signal": 4},
    "macd_cn": {"fast": 3, "slow": 6, "signal": 4},
    "kdj": {"length": 5, "k_smooth": 3, "d_smooth": 2},
    "bollinger": {"length": 6, "width": 1.5},
    "vpin": {"bucket_volume": 100.0, "buckets": 5},
    "hawkes": {"beta": 0.5, "events": 5},
    "obv": {},
    "vwap": {},
    "weighted_mid": {},
}
"""Short windows; an indicator that is not here takes ``length=5``."""

KINDS: Final = ("walk", "constant", "jumps", "stairs", "unknown", "ticks")


def small(name: str) -> Params:
    """Return short parameters of an indicator."""
    return SMALL.get(name, {"length": 5})


def ohlc(closes: Floats, rng: np.random.Generator, range_frac: float = 5e-4) -> Bars:
    """Make bars around closes; each opens at the close before it."""
    count = len(closes)
    bars = empty_bars(count)
    opens = np.concatenate([closes[:1], closes[:-1]])
    width = range_frac * np.abs(closes)
    bars["open"] = opens
    bars["close"] = closes
    bars["high"] = np.maximum(opens, closes) + width * rng.random(count)
    bars["low"] = np.minimum(opens, closes) - width * rng.random(count)
    bars["volume"] = rng.integers(1, 400, count)
    bars["ts_event"] = START_NS + np.cumsum(rng.integers(0, 5 * 10**9, count))
    return bars


def with_flow(bars: Bars, rng: np.random.Generator) -> Bars:
    """Add sides, a book and sessions; all sizes are quarters, so that their sums are exact."""
    count = len(bars)
    bars["buy_volume"] = np.round(bars["volume"] * rng.random(count) * 4) / 4
    bars["sell_volume"] = bars["volume"] - bars["buy_volume"]
    bars["trades"] = rng.integers(1, 9, count)
    bars["bid"] = bars["close"] * (1 - 1e-4 * rng.random(count))
    bars["ask"] = bars["close"] * (1 + 1e-4 * rng.random(count))
    bars["bid_size"] = rng.integers(1, 400, count) / 4
    bars["ask_size"] = rng.integers(1, 400, count) / 4
    bars["ofi"] = rng.integers(-400, 400, count) / 4
    bars["session"] = bars["ts_event"] // DAY_NS
    return bars


def walk(count: int, seed: int, start: float = 100.0, step: float = 1e-3) -> Bars:
    """Make a random walk of log prices with everything known."""
    rng = np.random.default_rng(seed)
    closes = start * np.exp(np.cumsum(rng.normal(0.0, step, count)))
    return with_flow(ohlc(closes, rng), rng)


def plain(count: int, seed: int = 1) -> Bars:
    """Make a walk in which every bar trades 100, once, on one side."""
    bars = walk(count, seed)
    buys = np.random.default_rng(seed).random(count) < 0.5
    bars["volume"] = 100.0
    bars["buy_volume"] = np.where(buys, 100.0, 0.0)
    bars["sell_volume"] = np.where(buys, 0.0, 100.0)
    bars["trades"] = 1
    bars["session"] = 0
    return bars


def constant(count: int, price: float = 33.3) -> Bars:
    """Make bars in which nothing moves."""
    bars = plain(count)
    for name in ("open", "high", "low", "close", "bid", "ask"):
        bars[name] = price
    return bars


def series(kind: str, count: int, seed: int) -> Bars:
    """Make bars of one of KINDS.

    ``jumps``: gaps of up to a third; ``stairs``: runs of equal prices; ``unknown``: books, sizes,
    sides and volumes missing here and there; ``ticks``: trades and quotes without a range.
    """
    rng = np.random.default_rng(seed)
    bars = walk(count, seed)
    if kind == "constant":
        return constant(count)
    if kind == "jumps":
        factor = np.exp(np.cumsum(rng.choice([0.0, 0.0, 0.0, -0.3, 0.3], count)))
        for name in ("open", "high", "low", "close", "bid", "ask"):
            bars[name] *= factor
    if kind == "stairs":
        closes = 10.0 + np.cumsum(rng.choice([0.0] * 12 + [-0.01, 0.01], count))
        bars = with_flow(ohlc(closes, rng, range_frac=0.0), rng)
    if kind == "unknown":
        _forget(bars, rng)
    if kind == "ticks":
        _make_ticks(bars, rng)
    return bars


def _forget(bars: Bars, rng: np.random.Generator) -> None:
    count = len(bars)
    bars["bid"][rng.random(count) < 0.2] = np.nan
    bars["ask"][rng.random(count) < 0.2] = np.nan
    no_size = rng.random(count) < 0.2
    bars["bid_size"][no_size] = 0.0
    bars["ask_size"][no_size] = 0.0
    no_side = rng.random(count) < 0.3
    for name in ("buy_volume", "sell_volume"):
        bars[name][no_side] = 0.0
    no_volume = rng.random(count) < 0.3
    for name in ("volume", "buy_volume", "sell_volume"):
        bars[name][no_volume] = 0.0


def _make_ticks(bars: Bars, rng: np.random.Generator) -> None:
    quotes = rng.random(len(bars)) < 0.6
    for name in ("open", "high", "low"):
        bars[name] = bars["close"]
    buys = rng.random(len(bars)) < 0.5
    bars["buy_volume"] = np.where(buys, bars["volume"], 0.0)
    bars["sell_volume"] = np.where(buys, 0.0, bars["volume"])
    bars["trades"] = 1
    bars["ofi"][~quotes] = 0.0
    for name in ("volume", "buy_volume", "sell_volume", "trades"):
        bars[name][quotes] = 0
    back = rng.random(len(bars)) < 0.05
    bars["ts_event"][back] -= 10**9
