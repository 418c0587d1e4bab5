"""Small tables of feature rows for tests of the demo model's training."""

import numpy as np

from models.demo_tcn.outcomes import Rows
from models.demo_tcn.recipe import FEATURES, NS


def random_rows(
    count: int, instruments: int = 2, seed: int = 1, breaks: tuple[int, ...] = ()
) -> Rows:
    """Make ``count`` rows a second apart for each instrument.

    Args:
        count: Rows of each.
        instruments: How many.
        seed: Of features and prices.
        breaks: Rows, counted within an instrument, before which its window starts again.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 4e-4, (instruments, count))
    number = np.arange(count)
    starts = np.zeros(count, np.int64)
    for at in breaks:
        starts[at:] = at
    return Rows(
        ts_ns=np.tile((number + 100) * NS, instruments),
        instrument=np.repeat(np.arange(instruments, dtype=np.uint32), count),
        features=rng.normal(size=(instruments * count, len(FEATURES))).astype(np.float32),
        mid=100.0 * np.exp(steps.cumsum(axis=1)).reshape(-1),
        run=np.tile(number - starts + 1, instruments),
    )
