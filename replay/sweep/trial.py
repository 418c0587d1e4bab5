"""One trial: parameters in, what a backtest with them came to out; nothing of Optuna or processes.

A bench has the recording loaded and runs trial after trial. Kernels are built without shared
indicators, so that parameters are data: after the first trial nothing is compiled.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numba.core import event

from engine.composition import Blueprint, resolve
from engine.core.errors import CheckFailedError, UserError
from replay.sweep.dimension import Scalar
from replay.sweep.space import SearchSpace
from strategies.kernel_cache import share_modules

_COMPILE = "numba:compile"


@dataclass(frozen=True, slots=True)
class Played:
    """What a backtest came to.

    Attributes:
        metrics: By name; NaN where there is no such number, as without trades.
        days: Trading days, yyyymmdd.
        returns: The account's return on each of them, as a fraction.
        digest: Of everything that was traded.
    """

    metrics: dict[str, float]
    days: tuple[int, ...] = ()
    returns: tuple[float, ...] = ()
    digest: str = ""


Play = Callable[[Any, Blueprint], Played]
"""Runs one backtest over a recording that is loaded already."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all trials have in common but the recording; plain values, so that it travels.

    Attributes:
        space: What varies, over the configuration.
        play: Runs one backtest; a function that can be imported.
    """

    space: SearchSpace
    play: Play


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trial.

    Attributes:
        number: From 0, in the order of asking.
        params: What it set.
        metrics: As ``Played``; empty if the parameters were refused.
        days: As ``Played``.
        returns: As ``Played``.
        digest: As ``Played``.
        error: Why there is no result, or nothing.
        compiled: Functions that had to be compiled for it.
        wall_s: How long it took.
    """

    number: int
    params: dict[str, Scalar]
    metrics: dict[str, float] = field(default_factory=dict)
    days: tuple[int, ...] = ()
    returns: tuple[float, ...] = ()
    digest: str = ""
    error: str = ""
    compiled: int = 0
    wall_s: float = 0.0


class Bench:
    """Runs the trials of one task, one after the other, in this process.

    Args:
        task: What to run.
        recording: What it plays, loaded; nobody writes to it.
    """

    def __init__(self, task: Task, recording: Any) -> None:
        self._task = task
        self._recording = recording
        share_modules()

    def run(self, number: int, params: dict[str, Scalar]) -> Outcome:
        """Run one trial.

        Parameters that the configuration refuses are an outcome, too, and so is a backtest that
        does not add up.
        """
        began = time.perf_counter()
        with count_compiled() as compiled:
            try:
                blueprint = resolve(self._task.space.config_at(params), share=False)
                played = self._task.play(self._recording, blueprint)
            except (UserError, CheckFailedError) as error:
                wall_s = time.perf_counter() - began
                return Outcome(number, params, error=str(error), wall_s=wall_s)
        return Outcome(
            number, params, played.metrics, played.days, played.returns, played.digest,
            compiled=len(compiled), wall_s=time.perf_counter() - began,
        )  # fmt: skip


@contextmanager
def count_compiled() -> Iterator[list[Any]]:
    """Give a list that grows by one with every function that numba compiles meanwhile."""
    compiled: list[Any] = []

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            compiled.append(event.data["dispatcher"])

        def on_end(self, event: Any) -> None:
            pass

    listener = Listener()
    event.register(_COMPILE, listener)
    try:
        yield compiled
    finally:
        event.unregister(_COMPILE, listener)


def digest_of(*tables: bytes) -> str:
    """Return a short hash of tables' bytes."""
    digest = hashlib.sha256()
    for table in tables:
        digest.update(len(table).to_bytes(8, "little"))
        digest.update(table)
    return digest.hexdigest()[:32]
