"""What forecasts of three classes are worth: plain measures over arrays, no model in sight.

Classes are 0 down, 1 flat, 2 up throughout; probabilities have shape (N, 3).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

DOWN: Final = 0
UP: Final = 2
_LEAST: Final = 1e-12


def log_loss(probability: Floats, classes: Classes) -> float:
    """Return the mean negative log of the probability given to what happened, in nats."""
    given = probability[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(given, _LEAST)).mean())


def accuracy(probability: Floats, classes: Classes) -> float:
    """Return how often the likeliest class is the one that happened; of equals the first."""
    return float((probability.argmax(axis=1) == classes).mean())


def auc(score: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a positive outranks a negative.

    Ties count half (Mann and Whitney, 1947). NaN where one of the two does not occur.
    """
    values, at, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - 0.5 * (counts - 1.0))[at]
    ones = int(positive.sum())
    zeros = len(values[at]) - ones
    if ones == 0 or zeros == 0:
        return float("nan")
    return float((ranks[positive].sum() - 0.5 * ones * (ones + 1)) / (ones * zeros))


def sides(probability: Floats, min_probability: float) -> npt.NDArray[np.int64]:
    """Return what would be proposed: +1, -1, or 0 where neither is likely enough."""
    up = (probability[:, UP] >= min_probability) & (probability[:, UP] > probability[:, DOWN])
    down = (probability[:, DOWN] >= min_probability) & (probability[:, DOWN] > probability[:, UP])
    return up.astype(np.int64) - down.astype(np.int64)


def block_error(values: Floats, blocks: npt.NDArray[np.int64]) -> float:
    """Return the standard error of a mean whose neighbours are not independent.

    Values of one block are summed first; blocks longer than the dependence count as independent
    (cluster-robust standard error; Liang and Zeger, 1986). NaN for fewer than two blocks.
    """
    _, at = np.unique(blocks, return_inverse=True)
    sums = np.bincount(at, values - values.mean()) if len(values) else np.zeros(0)
    if len(sums) < 2:
        return float("nan")
    scale = len(sums) / (len(sums) - 1)
    return float(np.sqrt(scale * (sums**2).sum()) / len(values))


def describe(
    probability: Floats, classes: Classes, move_bps: Floats, minute: Classes, min_probability: float
) -> dict[str, float]:
    """Measure forecasts.

    Args:
        probability: Shape (N, 3), rows sum to 1.
        classes: What happened, shape (N,).
        move_bps: By how much the mid moved, shape (N,).
        minute: Which minute each lies in, shape (N,): the blocks of the standard error.
        min_probability: A side is traded from this probability on.

    Returns:
        ``log_loss`` in nats, ``accuracy``, ``auc_up`` and ``auc_down`` against the rest, and
        ``traded``, the share of all on which a side would be taken. Where that is any:
        ``traded_hits``, how often the class was that side's, ``traded_move_bps``, the mean move on
        the side taken, before any cost, and its standard error ``traded_move_error_bps``.
    """
    side = sides(probability, min_probability)
    taken = side != 0
    found = {
        "log_loss": log_loss(probability, classes),
        "accuracy": accuracy(probability, classes),
        "auc_up": auc(probability[:, UP], classes == UP),
        "auc_down": auc(probability[:, DOWN], classes == DOWN),
        "traded": float(taken.mean()),
    }
    if taken.any():
        gained = (side * move_bps)[taken]
        found["traded_hits"] = float((classes == 1 + side)[taken].mean())
        found["traded_move_bps"] = float(gained.mean())
        found["traded_move_error_bps"] = block_error(gained, minute[taken])
    return found
