"""A recording and a configuration to sweep over, and trials that replay instead of trading."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_cases import RULES, market_instruments, market_ticks

from engine.composition import Blueprint
from engine.config import Config
from feeds.log_writer import LogWriter
from replay.player import play
from replay.sweep.dimension import parse_dimension
from replay.sweep.ledger import Ledger, open_ledger
from replay.sweep.objective import Objective
from replay.sweep.pools import InlinePool, Pool, Wanted
from replay.sweep.sampling import Asker, SamplerName, distributions
from replay.sweep.space import SearchSpace, make_space
from replay.sweep.sweep import run_sweep, window_of
from replay.sweep.trial import Outcome, Played, Task

FAST, SLOW = "strategies.fast.params.fast", "strategies.fast.params.slow"
GRID = (f"{FAST}=2:6:2", f"{SLOW}=6:12:3")
SIGNALS = Objective("signals")
TRADED = Config.model_validate(
    {
        **RULES,
        "bars": [{"name": "100ms", "kind": "time", "interval": "100ms"}],
        "strategies": [{**RULES["strategies"][0], "on": "100ms"}, RULES["strategies"][1]],
        "backtest": {"sessions": "off", "sizing": {"by": "shares", "amount": 10}},
    }
)
"""What backtests over ``write_market`` trade often by."""


def write_market(path: Path, count: int = 4_000) -> Path:
    """Write a log of random ticks."""
    with LogWriter(path, market_instruments(), epoch=5) as writer:
        writer.write_ticks(market_ticks(count))
    return path


def space_of(*params: str, tree: Mapping[str, Any] | None = None) -> SearchSpace:
    """Return a space over ``RULES``, or another configuration."""
    config = Config.model_validate(RULES if tree is None else tree)
    return make_space(config, [parse_dimension(param) for param in params])


def play_signals(log: Path, blueprint: Blueprint) -> Played:
    """Count a replay's signals; what they made on two days is made up of the count."""
    result = play([log], blueprint)
    returns = result.signals / 1e4, -result.signals / 3e4
    return Played({"signals": float(result.signals)}, (20240102, 20240103), returns, result.digest)


def task_of(*params: str, tree: Mapping[str, Any] | None = None) -> Task:
    """Return trials that replay."""
    return Task(space_of(*params, tree=tree), play_signals)


class ShuffledPool:
    """Gives one outcome at a time, the newest trial's first: the worst order for a sweep."""

    def __init__(self, task: Task, recording: Any, size: int = 3) -> None:
        self.size = size
        self.most = 0
        self._inline = InlinePool(task, recording)
        self._queue: list[Wanted] = []

    def submit(self, wanted: Wanted) -> None:
        self._queue.append(wanted)
        self.most = max(self.most, len(self._queue))

    def take(self) -> list[Outcome]:
        self._inline.submit(self._queue.pop())
        return self._inline.take()

    def close(self) -> None:
        self._inline.close()


def sweep(
    task: Task,
    pool: Pool,
    ledger: Ledger,
    sampler: SamplerName = SamplerName.GRID,
    trials: int = 9,
    window: int | None = None,
    seed: int = 1,
) -> list[Outcome]:
    """Run a sweep for the most signals, and close the pool."""
    asker = Asker(task.space, sampler, seed, maximise=True)
    width = window_of(sampler, pool.size) if window is None else window
    try:
        return run_sweep(asker, ledger, pool, SIGNALS, trials=trials, window=width)
    finally:
        pool.close()


def ledger_of(
    space: SearchSpace, place: Path | str | None = None, *, resume: bool = False, **about: Any
) -> Ledger:
    """Begin a study or take it up."""
    return open_ledger(
        None if place is None else str(place), "sweep", {"of": "tests", **about},
        distributions(space), maximise=True, resume=resume,
    )  # fmt: skip


def facts(outcomes: list[Outcome]) -> list[Any]:
    """Return what must be the same wherever trials ran."""
    return [
        (o.number, o.params, repr(o.metrics), o.days, o.returns, o.digest, o.error)
        for o in outcomes
    ]


def wait_forever(log: Path, blueprint: Blueprint) -> Played:
    """Be at work until somebody ends this process."""
    while True:
        time.sleep(60)


def end_at_four(recording: object, blueprint: Blueprint) -> Played:
    """End this process where fast is 4; elsewhere there is one signal."""
    if blueprint.config.strategies[0].params["fast"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Played({"signals": 1.0})
