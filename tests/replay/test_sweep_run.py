"""Sweeps: the same trials in any order of completion, stopped or not, and all of them kept."""

from pathlib import Path

import pytest
from pipeline_cases import RULES
from sweep_cases import (
    FAST,
    GRID,
    SIGNALS,
    SLOW,
    ShuffledPool,
    facts,
    ledger_of,
    sweep,
    task_of,
    write_market,
)

from replay.sweep.ledger import Ledger
from replay.sweep.pools import InlinePool
from replay.sweep.sampling import SamplerName
from replay.sweep.trial import Outcome

WIDE = (f"{FAST}=2:40", f"{SLOW}=5:80", "strategies.fast.params.min_histogram_bps=0.01:5:log")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("logs") / "market.hql")


def ran(
    log: Path, ledger: Ledger | None = None, *, sampler: SamplerName, trials: int, window: int
) -> list[Outcome]:
    task = task_of(*WIDE)
    kept = ledger or ledger_of(task.space)
    return sweep(task, InlinePool(task, log), kept, sampler, trials, window)


def test_grid_holds_every_point_once(log: Path) -> None:
    task = task_of(*GRID)
    outcomes = sweep(task, InlinePool(task, log), ledger_of(task.space), trials=9)
    assert [outcome.number for outcome in outcomes] == list(range(9))
    points = {(outcome.params[FAST], outcome.params[SLOW]) for outcome in outcomes}
    assert points == {(fast, slow) for fast in (2, 4, 6) for slow in (6, 9, 12)}
    assert len({outcome.digest for outcome in outcomes}) == 9


@pytest.mark.parametrize("sampler", list(SamplerName))
def test_order_of_completion_changes_nothing(log: Path, sampler: SamplerName) -> None:
    task = task_of(*(GRID if sampler is SamplerName.GRID else WIDE))
    trials = 9 if sampler is SamplerName.GRID else 24
    inline = InlinePool(task, log)
    plain = sweep(task, inline, ledger_of(task.space), sampler, trials, window=3)
    shuffled = ShuffledPool(task, log)
    other = sweep(task, shuffled, ledger_of(task.space), sampler, trials, window=3)
    assert shuffled.most == 3
    assert facts(plain) == facts(other)


def test_window_matters_to_tpe_alone(log: Path) -> None:
    for sampler in (SamplerName.RANDOM, SamplerName.TPE):
        pair = [ran(log, sampler=sampler, trials=20, window=window) for window in (1, 5)]
        assert (facts(pair[0]) == facts(pair[1])) is (sampler is SamplerName.RANDOM)


def test_seed_matters(log: Path) -> None:
    task = task_of(*WIDE)
    drawn = [
        sweep(task, InlinePool(task, log), ledger_of(task.space), SamplerName.RANDOM, 3, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert facts(drawn[0]) == facts(drawn[1])
    assert drawn[0][0].params != drawn[2][0].params


@pytest.mark.parametrize("sampler", list(SamplerName))
@pytest.mark.parametrize("suffix", ["db", "journal"])
def test_stopped_sweep_goes_on_as_if_it_had_not_been(
    log: Path, tmp_path: Path, sampler: SamplerName, suffix: str
) -> None:
    task = task_of(*(GRID if sampler is SamplerName.GRID else WIDE))
    trials = 9 if sampler is SamplerName.GRID else 22
    whole = sweep(task, InlinePool(task, log), ledger_of(task.space), sampler, trials, window=3)
    place = tmp_path / f"sweep.{suffix}"
    for so_far in (4, 7, trials):
        ledger = ledger_of(task.space, place, resume=so_far > 4)
        outcomes = sweep(task, InlinePool(task, log), ledger, sampler, so_far, window=3)
        assert len(outcomes) == so_far
        ledger.close()
    assert facts(outcomes) == facts(whole)


def test_new_parameters_compile_nothing(log: Path) -> None:
    task = task_of(*WIDE, "bars.1s.interval=1s,2s,5s", "risk.limits.cool_down=0s,1s")
    outcomes = sweep(
        task, InlinePool(task, log), ledger_of(task.space), SamplerName.RANDOM, trials=12
    )
    assert len({repr(outcome.params) for outcome in outcomes}) == 12
    assert [outcome.compiled for outcome in outcomes[1:]] == [0] * 11
    assert sum(outcome.metrics["signals"] for outcome in outcomes) > 0


@pytest.mark.slow
def test_parameters_that_coincide_compile_nothing(log: Path) -> None:
    tree = {
        **RULES,
        "strategies": [
            {"name": name, "rule": "macd_cross", "on": "1s"} for name in ("fast", "other")
        ],
    }
    task = task_of(f"{FAST}=5,12,15", tree=tree)
    outcomes = sweep(task, InlinePool(task, log), ledger_of(task.space), trials=3)
    assert 12 in [outcome.params[FAST] for outcome in outcomes]
    assert [outcome.compiled for outcome in outcomes[1:]] == [0, 0]


@pytest.mark.slow
def test_first_trial_of_a_new_kernel_is_seen_to_compile(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEQIS_CACHE_DIR", str(tmp_path / "cache"))
    task = task_of(f"{FAST}=2:4")
    outcomes = sweep(task, InlinePool(task, log), ledger_of(task.space), trials=3)
    compiled = [outcome.compiled for outcome in outcomes]
    assert compiled[0] > 0
    assert compiled[1:] == [0, 0]


def test_refused_parameters_are_a_trial_too(log: Path) -> None:
    tree = {**RULES, "strategies": [RULES["strategies"][0]]}
    task = task_of("strategies.fast.on=1s,trade", f"{FAST}=2,3", tree=tree)
    bad = task_of("strategies.fast.on=1s,trade", f"{FAST}=2,3", tree=tree)
    bad.space.tree["strategies"][0]["params"]["fsat"] = 3
    ledger = ledger_of(task.space)
    outcomes = sweep(bad, InlinePool(bad, log), ledger, trials=4)
    assert len(outcomes) == 4
    assert all("did you mean 'fast'" in outcome.error for outcome in outcomes)
    assert SIGNALS.ranked(outcomes) == []


def test_best_comes_first_and_the_earlier_of_equals() -> None:
    outcomes = [
        Outcome(number, {}, {"signals": value})
        for number, value in enumerate([3.0, float("nan"), 7.0, 7.0, float("inf"), -1.0])
    ]
    assert [one.number for one in SIGNALS.ranked(outcomes)] == [2, 3, 0, 5]
