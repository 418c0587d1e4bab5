"""Worlds made of seeds: whatever befalls them, nothing is lost untold and nothing comes twice."""

import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from simulation.planted import BUGS, planted
from simulation.scenario import KINDS, make_scenario
from simulation.world import World, run_seed

pytestmark = pytest.mark.flaky(reruns=0)
"""The same seed gives the same world: to run one that failed again would only hide it."""
FAST_SEEDS = 50
SLOW_SEEDS = 2_000
PART = 100
"""Seeds of one test of the slow suite, so that several processes share them."""
BUG_SEEDS = 60
SOON_FOUND = {"resend_is_off_by_one", "resume_skips_one", "rows_are_forgotten"}
"""Planted bugs that the first few seeds find."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave the processes' own logs out: there are thousands of lives."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(seed: int, *, trace: bool = False) -> World:
    """Run a seed; tell how to run it again if it fails."""
    try:
        return run_seed(seed, trace=trace)
    except AssertionError as error:
        again = f".venv/bin/pytest tests/simulation --seed {seed}"
        raise AssertionError(f"seed {seed}: {error}\nonce more: {again}") from error


def test_one_seed_holds(request: pytest.FixtureRequest) -> None:
    chosen = request.config.getoption("--seed", None)
    if chosen is None:
        pytest.skip("no --seed given")
    world = run(chosen, trace=True)
    print(*(world.trace or ()), sep="\n")  # noqa: T201 # it was asked for


@pytest.mark.parametrize("first", range(0, FAST_SEEDS, 10))
def test_worlds_hold(first: int) -> None:
    for seed in range(first, first + 10):
        run(seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SLOW_SEEDS, PART))
def test_many_worlds_hold(first: int) -> None:
    figures: Counter[str] = Counter()
    began_s = time.process_time()
    for seed in range(first, first + PART):
        figures.update(run(seed).figures())
    took_s = (time.process_time() - began_s) / PART
    print(  # noqa: T201 - the figure
        f"\nFIGURE simulation: seeds {first} to {first + PART - 1}: "
        + ", ".join(f"{what} {count:,}" for what, count in figures.items())
        + f", {took_s:.3f} s of processor time a world"
    )


def test_a_seed_gives_the_same_world_twice() -> None:
    one, two = (run(7, trace=True) for _ in range(2))
    assert one.trace == two.trace
    assert one.loop.turns == two.loop.turns
    assert list(one.checks.ids) == list(two.checks.ids)
    assert one.network.counters == two.network.counters


def test_seeds_bring_every_misfortune_and_every_kind_of_settings() -> None:
    scenarios = [make_scenario(seed) for seed in range(FAST_SEEDS)]
    assert {one.what for s in scenarios for one in s.happenings} >= set(KINDS)
    assert {one.models for one in scenarios} == {one.unruly for one in scenarios} == {True, False}
    for key in ("ring_frames", "output_hwm", "spool"):
        assert len({one.tree["gateway"][key] for one in scenarios}) > 1, key
    for key in ("hold_bytes", "ring_bytes", "device_queue"):
        assert len({getattr(one, key) for one in scenarios}) > 1, key


@pytest.mark.parametrize(
    "bug",
    [
        bug if bug in SOON_FOUND else pytest.param(bug, marks=pytest.mark.slow)
        for bug in sorted(BUGS)
    ],
)
def test_a_planted_bug_is_found(bug: str) -> None:
    with planted(bug):
        for seed in range(BUG_SEEDS):
            try:
                run_seed(seed)
            except AssertionError:
                print(f"\nFIGURE simulation: {bug} found by seed {seed}")  # noqa: T201 - the figure
                return
    pytest.fail(f"{bug} was not found in {BUG_SEEDS} seeds")
