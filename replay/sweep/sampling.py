"""Which parameters come next: Optuna's samplers, asked so that the answer can be had again.

A trial's parameters follow from its number, the seed and, with TPE, the trials told and under way
when it was asked for. Samplers are made anew for every trial, with a seed of its own: a sweep that
was stopped goes on as if it had not been.
"""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from replay.sweep.dimension import Choices, Dimension, Scalar
from replay.sweep.space import SearchSpace


class SamplerName(StrEnum):
    """How parameters are chosen."""

    GRID = "grid"
    """Every point once, in a shuffled order."""
    RANDOM = "random"
    TPE = "tpe"
    """By a tree-structured Parzen estimator: where good trials were so far."""


class Asker:
    """Hands out parameters and learns from results; a study in memory, owned by one thread.

    Args:
        space: What varies.
        sampler: How it is chosen.
        seed: The same seed, the same trials.
        maximise: Whether greater values are better.
    """

    def __init__(
        self, space: SearchSpace, sampler: SamplerName, seed: int, *, maximise: bool
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._dimensions = space.dimensions
        self._distributions = distributions(space)
        self._kind = sampler
        self._seed = seed
        self._grid = self._make_grid() if sampler is SamplerName.GRID else None
        self._plain = RandomSampler(seed=seed)
        direction = StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, sampler=self._plain)
        self._asked = 0

    def ask(self) -> dict[str, Scalar]:
        """Return the parameters of the next trial."""
        self._study.sampler = self._sampler_of(self._asked)
        trial = self._study.ask(self._distributions)
        self._asked += 1
        return {one.key: _exact(one, trial.params[one.key]) for one in self._dimensions}

    def recall(self, params: Mapping[str, Scalar]) -> None:
        """Take the next trial's parameters from an earlier run instead of asking."""
        running = create_trial(
            state=TrialState.RUNNING, params=dict(params), distributions=self._distributions
        )
        self._study.add_trial(running)
        self._asked += 1

    def tell(self, number: int, value: float | None) -> None:
        """Learn what came of a trial; None: it gave no value, which is as bad as can be."""
        self._study.sampler = self._plain
        if value is None:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, value)

    def _sampler_of(self, number: int) -> BaseSampler:
        if self._grid is not None:
            return self._grid
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._kind is SamplerName.TPE:
            return TPESampler(seed=seed)
        return RandomSampler(seed=seed)

    def _make_grid(self) -> GridSampler:
        return GridSampler({one.key: one.listed() for one in self._dimensions}, seed=self._seed)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the dimensions as Optuna describes them."""
    return {dimension.key: _distribution(dimension) for dimension in space.dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        step = 1 if dimension.step is None else int(dimension.step)
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _exact(dimension: Dimension, value: Scalar) -> Scalar:
    """Return the value without the rounding that steps leave: 0.3, not 0.30000000000000004."""
    if isinstance(dimension, Choices) or dimension.step is None or dimension.whole:
        return value
    steps = round((float(value) - dimension.low) / dimension.step)
    return dimension.at(steps)
