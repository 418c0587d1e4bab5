"""How much of a Sharpe ratio is skill: probabilistic and deflated (Bailey, López de Prado).

All ratios here are per period of the returns, not annualised, and their kurtosis is that of Pearson
(3 for a normal distribution). References: "The Sharpe Ratio Efficient Frontier", Journal of Risk
15(2), 2012; "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014.
"""

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_NORMAL: Final = NormalDist()
_EULER: Final = 0.5772156649015329
_LEAST_RETURNS: Final = 2
_RELATIVE_ZERO: Final = 1e-12
"""A deviation smaller than this share of the mean is rounding."""


class Moments(NamedTuple):
    """Sharpe ratio of one period, skewness, kurtosis and number of returns."""

    sharpe: float
    skewness: float
    kurtosis: float
    size: int


class Deflated(NamedTuple):
    """A Sharpe ratio among those of all trials that were made.

    Attributes:
        sharpe: Per period.
        trials: How many were made, this one among them.
        hurdle: The highest Sharpe ratio, per period, to be expected of so many trials of no skill.
        probability: That the true ratio is above the hurdle: the deflated Sharpe ratio.
    """

    sharpe: float
    trials: int
    hurdle: float
    probability: float


def moments(returns: Floats) -> Moments:
    """Return what a Sharpe ratio's error depends on.

    The ratio uses the sample's standard deviation (n - 1), skewness and kurtosis are the plain
    moments' (n). All are NaN for fewer than two returns or if the returns do not vary.

    Args:
        returns: Shape (N,).
    """
    size = len(returns)
    if size < _LEAST_RETURNS:
        return Moments(math.nan, math.nan, math.nan, size)
    mean = float(returns.mean())
    deviation = float(returns.std(ddof=1))
    if not deviation > _RELATIVE_ZERO * abs(mean):
        return Moments(math.nan, math.nan, math.nan, size)
    scaled = (returns - mean) / float(returns.std())
    return Moments(mean / deviation, float((scaled**3).mean()), float((scaled**4).mean()), size)


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    Args:
        of: The returns' moments.
        benchmark: Per period.
    """
    if math.isnan(of.sharpe) or math.isnan(benchmark):
        return math.nan
    error = _variance(of)
    distance = (of.sharpe - benchmark) * math.sqrt(of.size - 1)
    if error <= 0.0:
        return 0.5 if distance == 0.0 else float(distance > 0.0)
    return _NORMAL.cdf(distance / math.sqrt(error))


def least_track_record(of: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Return how many returns it takes to say that the ratio is above a benchmark.

    Infinite if the ratio is not above it.
    """
    if math.isnan(of.sharpe):
        return math.nan
    if of.sharpe <= benchmark:
        return math.inf
    return 1.0 + _variance(of) * (_NORMAL.inv_cdf(confidence) / (of.sharpe - benchmark)) ** 2


def _variance(of: Moments) -> float:
    """Return the variance of the ratio's estimate times (size - 1)."""
    ratio = of.sharpe
    return 1.0 - of.skewness * ratio + (of.kurtosis - 1.0) / 4.0 * ratio * ratio


def expected_maximum(variance: float, trials: int) -> float:
    """Return the highest Sharpe ratio to be expected of trials that have no skill.

    Args:
        variance: Of the trials' ratios.
        trials: How many, at least 1; one alone is no choice and gives 0.
    """
    if trials < 1:
        raise ValueError(f"{trials} trials; at least one was made")
    if trials == 1:
        return 0.0
    likely = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    rare = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - _EULER) * likely + _EULER * rare)


def deflated_sharpe(returns: Floats, trial_sharpes: Floats, other_trials: int = 0) -> Deflated:
    """Judge the returns of the trial that was chosen by all that were made.

    Args:
        returns: Of the chosen one, shape (N,).
        trial_sharpes: Of every trial, the chosen one too, per period, shape (T,). One that is NaN,
            because it never traded, counts as a trial of ratio 0.
        other_trials: Trials whose ratios are not known; they are taken to spread as the others.
    """
    of = moments(returns)
    ratios = np.nan_to_num(trial_sharpes, nan=0.0, posinf=0.0, neginf=0.0)
    variance = float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0
    trials = max(1, len(ratios)) + other_trials
    hurdle = expected_maximum(variance, trials)
    return Deflated(of.sharpe, trials, hurdle, probabilistic_sharpe(of, hurdle))
