"""How probable it is that choosing the best of many trials chose luck: PBO by CSCV.

Combinatorially symmetric cross-validation cuts the days into blocks and takes every half of the
blocks as the sample in which a choice is made, the other half as the one in which it is judged.
Reference: Bailey, Borwein, López de Prado, Zhu, "The Probability of Backtest Overfitting", Journal
of Computational Finance 20(4), 2017.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BLOCKS: Final = 16
"""As the authors use: 12,870 ways to halve them."""
_LEAST_ROWS: Final = 4
"""Fewest days of a block; fewer say nothing of a Sharpe ratio."""
_LEAST_TRIALS: Final = 2
_CELLS: Final = 1 << 21
"""Ratios computed at once: 16 MiB."""
_ZERO: Final = 1e-12


@dataclass(frozen=True)
class Overfitting:
    """What came of choosing the best trial in every half of the blocks.

    Attributes:
        pbo: Share of the halves whose best trial was no better than the median in the other.
        logits: Of the chosen trial's relative rank in the other half, shape (C,).
        in_sample: Sharpe ratio of the chosen trial where it was chosen, per day, shape (C,).
        out_of_sample: And where it was not, shape (C,).
        trials: How many there were.
        blocks: Into which the days were cut.
        days_dropped: The oldest, which fill no block.
    """

    pbo: float
    logits: Floats
    in_sample: Floats
    out_of_sample: Floats
    trials: int
    blocks: int
    days_dropped: int

    @property
    def loss_probability(self) -> float:
        """Share of the halves whose best trial lost money in the other."""
        return float((self.out_of_sample < 0.0).mean())

    @property
    def degradation(self) -> float:
        """Slope of the ratio out of sample on the ratio in sample; NaN if that does not vary."""
        finite = np.isfinite(self.in_sample) & np.isfinite(self.out_of_sample)
        chosen, judged = self.in_sample[finite], self.out_of_sample[finite]
        spread = float(((chosen - chosen.mean()) ** 2).sum()) if len(chosen) else 0.0
        if not spread > _ZERO:
            return math.nan
        return float(((chosen - chosen.mean()) * (judged - judged.mean())).sum()) / spread


def usable_blocks(days: int, most: int = BLOCKS) -> int:
    """Return the even number of blocks, at most so many, that the days fill; 0 if not even two."""
    fitting = min(most, days // _LEAST_ROWS)
    return fitting - fitting % 2


def probability_of_overfitting(returns: Floats, blocks: int = BLOCKS) -> Overfitting:
    """Choose the trial of the highest Sharpe ratio in every half, and rank it in the other.

    A trial whose returns do not vary has the ratio 0 if they are zero, and an infinite one of their
    sign if not. Equal trials share the mean of their ranks. Days that fill no block are dropped,
    the oldest first.

    Args:
        returns: A row a day, a column a trial, shape (D, T), finite.
        blocks: Even, at least 2; at least two days each.

    Raises:
        ValueError: fewer than two trials, too few days, an odd number of blocks, or a return that
            is no number.
    """
    days, trials = returns.shape
    _check(returns, blocks)
    rows = days // blocks
    used = returns[days - rows * blocks :].reshape(blocks, rows, trials)
    sums, squares = used.sum(axis=1), (used * used).sum(axis=1)
    halves = _halves(blocks)
    size = max(1, _CELLS // trials)
    parts = [
        _judge(sums, squares, halves[at : at + size], rows) for at in range(0, len(halves), size)
    ]
    ranks, chosen, judged = (np.concatenate(part) for part in zip(*parts, strict=True))
    relative = ranks / (trials + 1)
    logits = np.log(relative / (1.0 - relative))
    return Overfitting(
        float((logits <= _ZERO).mean()), logits, chosen, judged, trials, blocks,
        days - rows * blocks,
    )  # fmt: skip


def _check(returns: Floats, blocks: int) -> None:
    days, trials = returns.shape
    if trials < _LEAST_TRIALS:
        raise ValueError(f"{trials} trials; a choice needs at least two")
    if blocks < 2 or blocks % 2:
        raise ValueError(f"{blocks} blocks; give an even number from 2")
    if days < 2 * blocks:
        raise ValueError(f"{days} days for {blocks} blocks; a block needs at least two")
    if not np.isfinite(returns).all():
        raise ValueError("a return is no number")


def _halves(blocks: int) -> npt.NDArray[np.bool_]:
    """Return every way to take half of the blocks, shape (C, blocks)."""
    picks = list(itertools.combinations(range(blocks), blocks // 2))
    halves = np.zeros((len(picks), blocks), np.bool_)
    np.put_along_axis(halves, np.array(picks), values=True, axis=1)
    return halves


def _judge(
    sums: Floats, squares: Floats, halves: npt.NDArray[np.bool_], rows: int
) -> tuple[Floats, Floats, Floats]:
    """Return the chosen trial's rank out of sample (1 is the worst) and both its ratios."""
    count = rows * (halves.shape[1] // 2)
    inside = _ratios(sums, squares, halves, count)
    outside = _ratios(sums, squares, ~halves, count)
    best = inside.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(inside, best, axis=1)
    judged = np.take_along_axis(outside, best, axis=1)
    slack = _ZERO * np.maximum(1.0, np.abs(np.nan_to_num(judged, posinf=0.0, neginf=0.0)))
    below = (outside < judged - slack).sum(axis=1)
    equal = (outside <= judged + slack).sum(axis=1) - below
    ranks: Floats = below + (equal + 1.0) / 2.0
    return ranks, chosen[:, 0], judged[:, 0]


def _ratios(sums: Floats, squares: Floats, taken: npt.NDArray[np.bool_], count: int) -> Floats:
    """Return every trial's Sharpe ratio over the blocks taken, shape (C, T)."""
    weights = taken.astype(np.float64)
    means = weights @ sums / count
    powers = weights @ squares / count
    variances = powers - means * means
    still = variances <= _ZERO * powers
    deviations = np.sqrt(np.where(still, 1.0, variances) * count / (count - 1))
    flat = np.where(means == 0.0, 0.0, np.copysign(np.inf, means))
    ratios: Floats = np.where(still, flat, means / deviations)
    return ratios
