"""A whole sweep from its options: checked before anything is loaded, closed whatever happens."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from engine.composition import resolve
from engine.config import Config
from engine.core.errors import ConfigError
from feeds.log_reader import LogReader
from replay.backtest.prepared import Prepared
from replay.sweep.dimension import parse_dimension
from replay.sweep.ledger import WINDOW, open_ledger
from replay.sweep.objective import objective_of
from replay.sweep.played import play_backtest, warm_backtest
from replay.sweep.pools import InlinePool, Pool, ProcessPool
from replay.sweep.ray_pool import Cluster, RayPool
from replay.sweep.sampling import Asker, SamplerName, distributions
from replay.sweep.space import SearchSpace, make_space
from replay.sweep.sweep import run_sweep, window_of
from replay.sweep.trial import Task
from replay.sweep.verdict import Verdict, judge

TRIALS: Final = 100
"""Trials of a sweep that does not say; a grid has all its points."""
MAX_JOBS: Final = 1024
_READ_BYTES: Final = 1 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What a sweep is told besides the recording and the configuration.

    Attributes:
        params: What varies, ``KEY=RANGE`` each.
        sampler: How it is chosen.
        trials: How many there are to be, those kept before among them; None for ``TRIALS``, or all
            points of a grid.
        jobs: Workers; None for one a processor.
        storage: A file or a database's address; None keeps the trials in memory.
        name: The study's name there.
        resume: Go on with it.
        objective: The metric that trials are judged by.
        seed: The same seed, the same trials.
        ray: Address of a Ray cluster; None for this machine.
    """

    params: tuple[str, ...]
    sampler: SamplerName = SamplerName.TPE
    trials: int | None = None
    jobs: int | None = None
    storage: str | None = None
    name: str = "sweep"
    resume: bool = False
    objective: str = "sharpe"
    seed: int = 1
    ray: str | None = None


class Session:
    """One sweep: made and checked, run, closed; a context that closes it.

    Args:
        logs: The recording.
        config: The configuration around what varies.
        options: What to do.
        cores: Processors of this machine.

    Attributes:
        objective: What trials are judged by.
        space: What varies.
        trials: How many there are to be.
        ledger: What is kept.

    Raises:
        UserError: a bad option, key, range or log, or a storage of something else.
    """

    def __init__(self, logs: Sequence[Path], config: Config, options: Options, cores: int) -> None:
        _check(options)
        self.objective = objective_of(options.objective)
        self.space = make_space(config, [parse_dimension(text) for text in options.params])
        self.trials = _trials(options, self.space)
        self._options = options
        self._logs = tuple(logs)
        self._prepared: Prepared | None = None
        self._cluster: Cluster | None = None
        about = _about(options, self.space, logs)
        with ExitStack() as stack:
            self._jobs = options.jobs or cores
            if options.ray is not None:
                self._cluster = Cluster(options.ray, options.jobs)
                stack.callback(self._cluster.close)
                self._jobs = self._cluster.size
            about[WINDOW] = window_of(options.sampler, self._jobs)
            self.ledger = open_ledger(
                options.storage, options.name, about, distributions(self.space),
                maximise=self.objective.maximise, resume=options.resume,
            )  # fmt: skip
            stack.callback(self.ledger.close)
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def bad_input(self) -> dict[str, int]:
        """What was refused in the recording, by reason; nothing before it is loaded."""
        return {} if self._prepared is None else self._prepared.bad_input

    @property
    def missing(self) -> int:
        """Trials that are still to be made."""
        return max(0, self.trials - len(self.ledger.outcomes))

    def load(self, progress: Progress | None = None) -> None:
        """Read the recording; calls ``progress`` with the records done.

        Raises:
            UserError: it cannot be used.
        """
        self._prepared = Prepared.load(self._logs, progress)

    def run(self, progress: Progress | None = None) -> Verdict:
        """Run what is missing, and judge; calls ``progress`` with the trials done.

        Raises:
            HeqisError: a recording that cannot be used, a storage that failed, workers that keep
                dying.
        """
        if not self.missing:
            return self.verdict()
        if self._prepared is None:
            self._prepared = Prepared.load(self._logs)
        options = self._options
        asker = Asker(self.space, options.sampler, options.seed, maximise=self.objective.maximise)
        pool = self._pool(Task(self.space, play_backtest), self._prepared)
        try:
            if pool.size > 1:
                warm_backtest(self._prepared, resolve(self.space.config_at({}), share=False))
            run_sweep(
                asker, self.ledger, pool, self.objective,
                trials=self.trials, window=self.ledger.about[WINDOW], progress=progress,
            )  # fmt: skip
        finally:
            pool.close()
        return self.verdict()

    def verdict(self) -> Verdict:
        """Judge the trials there are."""
        return judge(self.ledger.outcomes, self.objective)

    def close(self) -> None:
        """Let go of the storage, and of a cluster."""
        self._open.close()

    def _pool(self, task: Task, prepared: Prepared) -> Pool:
        jobs = min(self._jobs, self.missing)
        if self._cluster is not None:
            return RayPool(task, prepared, self._cluster, jobs)
        return InlinePool(task, prepared) if jobs == 1 else ProcessPool(task, prepared, jobs)


def identity_of(logs: Sequence[Path]) -> str:
    """Return a hash of recordings' bytes, in their order.

    Raises:
        InputFileError: one that is missing or none.
        LogError: one that is damaged.
    """
    digest = hashlib.sha256()
    for path in logs:
        with LogReader(path) as reader:
            digest.update(reader.size_bytes.to_bytes(8, "little"))
            for name in reader.files:
                with name.open("rb") as file:
                    while block := file.read(_READ_BYTES):
                        digest.update(block)
    return digest.hexdigest()[:32]


def _check(options: Options) -> None:
    """Refuse options that contradict each other or make no sense."""
    if options.resume and options.storage is None:
        fix = "--resume goes on with a study in a --storage; name it"
        raise ConfigError("command line", "--resume", "no --storage", fix)
    for name, value in (("--trials", options.trials), ("--jobs", options.jobs)):
        if value is not None and value < 1:
            raise ConfigError("command line", name, value, "give a number from 1")
    if options.jobs is not None and options.jobs > MAX_JOBS:
        raise ConfigError("command line", "--jobs", options.jobs, f"at most {MAX_JOBS}")
    if options.seed < 0:
        raise ConfigError("command line", "--seed", options.seed, "give a number from 0")


def _trials(options: Options, space: SearchSpace) -> int:
    if options.sampler is not SamplerName.GRID:
        return options.trials or TRIALS
    points = space.points()
    return min(points, options.trials or points)


def _about(options: Options, space: SearchSpace, logs: Sequence[Path]) -> dict[str, Any]:
    """Return what a study is of; whoever goes on with it must be of the same."""
    return {
        "recording": identity_of(logs),
        "configuration": space.fingerprint(),
        "space": sorted(map(str, space.dimensions)),
        "objective": options.objective,
        "sampler": str(options.sampler),
        "seed": options.seed,
    }
