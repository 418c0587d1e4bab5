"""Puts odd content into a simulated stream on purpose; the same draws at any batch size."""

import numpy as np

from engine.core.records import MAX_INSTRUMENTS, Ticks
from feeds.config import FaultsConfig

_PRICES = ("price", "bid", "ask")


def add_faults(ticks: Ticks, config: FaultsConfig, rng: np.random.Generator) -> Ticks:
    """Return a copy in which some ticks are odd; duplicates make it longer.

    One uniform draw a tick decides, so that the result does not depend on how the stream is cut.

    Args:
        ticks: TICK, shape (N,).
        config: The shares.
        rng: The faults' own generator.
    """
    draws = rng.random(len(ticks))
    made = ticks.copy()
    edge = config.nan
    nan = draws < edge
    for name in _PRICES:
        made[name][nan] = np.nan
    crossed = (draws >= edge) & (draws < edge + config.crossed) & (made["bid"] < made["ask"])
    made["bid"][crossed], made["ask"][crossed] = made["ask"][crossed], made["bid"][crossed]
    edge += config.crossed
    unknown = (draws >= edge) & (draws < edge + config.unknown_instrument)
    made["instrument"][unknown] = MAX_INSTRUMENTS + 1
    edge += config.unknown_instrument
    duplicate = (draws >= edge) & (draws < edge + config.duplicate)
    return np.repeat(made, 1 + duplicate.astype(np.int64))
