"""Worker processes: the same trials as in one process, and a dead worker is no dead sweep."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from sweep_cases import (
    FAST,
    GRID,
    facts,
    ledger_of,
    play_signals,
    space_of,
    sweep,
    task_of,
    wait_forever,
    write_market,
)

from engine.composition import Blueprint
from replay.sweep.parcel import Parcel, open_parcel
from replay.sweep.pools import InlinePool, ProcessPool, WorkersDiedError
from replay.sweep.sampling import SamplerName
from replay.sweep.trial import Played, Task

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("logs") / "market.hql")


def die_at_four(log: Path, blueprint: Blueprint) -> Played:
    """Kill this process where fast is 4."""
    if blueprint.config.strategies[0].params["fast"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return play_signals(log, blueprint)


def die_once_at_four(log: Path, blueprint: Blueprint) -> Played:
    """Kill this process where fast is 4, the first time."""
    mark = log.with_suffix(".died")
    if blueprint.config.strategies[0].params["fast"] == 4 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return play_signals(log, blueprint)


def die(log: Path, blueprint: Blueprint) -> Played:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Played({})


@pytest.mark.parametrize("sampler", list(SamplerName))
def test_processes_make_the_trials_that_one_makes(log: Path, sampler: SamplerName) -> None:
    task = task_of(*GRID)
    alone = sweep(task, InlinePool(task, log), ledger_of(task.space), sampler, window=2)
    pool = ProcessPool(task, log, 2)
    together = sweep(task, pool, ledger_of(task.space), sampler, window=2)
    assert facts(together) == facts(alone)
    assert [one.compiled for one in together[2:]] == [0] * 7


def test_worker_that_dies_is_replaced_and_its_trial_tried_again(log: Path) -> None:
    space = space_of(f"{FAST}=2:5")
    whole = Task(space, play_signals)
    expected = sweep(whole, InlinePool(whole, log), ledger_of(space), trials=4)
    task = Task(space, die_once_at_four)
    outcomes = sweep(task, ProcessPool(task, log, 2), ledger_of(space), trials=4)
    assert facts(outcomes) == facts(expected)


def test_trial_that_costs_two_workers_is_given_up_and_kept(log: Path) -> None:
    task = Task(space_of(f"{FAST}=2:5"), die_at_four)
    outcomes = sweep(task, ProcessPool(task, log, 2), ledger_of(task.space), trials=4)
    errors = {one.params[FAST]: one.error for one in outcomes}
    assert errors.pop(4) == "its worker ended with status -9, twice"
    assert set(errors.values()) == {""}


def test_workers_that_all_die_end_the_sweep(log: Path) -> None:
    task = Task(space_of(f"{FAST}=2:30"), die)
    with pytest.raises(WorkersDiedError, match="status -9"):
        sweep(task, ProcessPool(task, log, 2), ledger_of(task.space), trials=29)


def test_closing_ends_workers_that_are_busy(log: Path) -> None:
    pool = ProcessPool(Task(space_of(*GRID), wait_forever), log, 2)
    pool.submit((0, {FAST: 2}))
    workers = [worker.process for worker in pool._workers]
    assert all(process.is_alive() for process in workers)
    pool.close()
    assert [process.exitcode for process in workers] == [-signal.SIGKILL] * 2


def test_parcel_is_one_file_that_nobody_can_write_to() -> None:
    rows = np.zeros(1000, np.dtype([("a", "<i8"), ("b", "<f4"), ("c", "u1")], align=True))
    rows["a"] = np.arange(1000)
    parcel = Parcel({"rows": rows, "name": "x", "few": np.arange(3, dtype=np.uint8)})
    content = open_parcel(parcel.path)
    other = open_parcel(parcel.path)
    parcel.close()
    assert not parcel.path.exists()
    assert content["name"] == "x"
    assert np.array_equal(content["rows"], rows)
    assert np.array_equal(other["few"], [0, 1, 2])
    assert content["rows"].dtype == rows.dtype
    assert content["rows"].flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        content["rows"]["a"][0] = 1
