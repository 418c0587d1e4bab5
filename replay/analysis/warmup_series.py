"""A made series of samples on which any indicator has something to say. Pure, always the same."""

from typing import Final

import numpy as np

from engine.core.records import Bars, empty_bars

SESSION_SAMPLES: Final = 240
"""Samples of one trading day."""
_SEED: Final = 20_240_304
_STEP_NS: Final = 60 * 10**9
_DAY_NS: Final = 86_400 * 10**9


def made_series(count: int) -> Bars:
    """Return one-minute bars of a random walk with volume by side, a book and trading days.

    Returns:
        BAR, shape (count,).
    """
    rng = np.random.default_rng(_SEED)
    bars = empty_bars(count)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, count)))
    open_ = np.concatenate([close[:1], close[:-1]])
    bars["open"], bars["close"] = open_, close
    bars["high"] = np.maximum(open_, close) * (1.0 + 5e-4 * rng.random(count))
    bars["low"] = np.minimum(open_, close) * (1.0 - 5e-4 * rng.random(count))
    bars["volume"] = rng.integers(1, 400, count)
    bars["turnover"] = bars["volume"] * close
    bars["buy_volume"] = np.round(bars["volume"] * rng.random(count))
    bars["sell_volume"] = bars["volume"] - bars["buy_volume"]
    bars["trades"] = rng.integers(1, 9, count)
    bars["count"] = bars["trades"]
    bars["ofi"] = rng.integers(-400, 400, count)
    bars["bid"] = close * (1.0 - 1e-4 * rng.random(count))
    bars["ask"] = close * (1.0 + 1e-4 * rng.random(count))
    bars["bid_size"], bars["ask_size"] = rng.integers(1, 400, (2, count))
    day = np.arange(count) // SESSION_SAMPLES
    bars["session"] = day
    bars["ts_event"] = day * _DAY_NS + (np.arange(count) % SESSION_SAMPLES + 1) * _STEP_NS
    bars["ts_open"] = bars["ts_event"] - _STEP_NS
    bars["ts_recv"] = bars["ts_event"]
    return bars
