"""What is asked next: within the ranges, learned from what was told, the same every time."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from sweep_cases import FAST, SLOW, space_of

from replay.sweep.dimension import Scalar
from replay.sweep.sampling import Asker, SamplerName

HISTOGRAM = "strategies.fast.params.min_histogram_bps"


def hill(params: dict[str, Scalar]) -> float:
    """Be highest where fast is 30 and slow is 50."""
    return -((float(params[FAST]) - 30) ** 2) - (float(params[SLOW]) - 50) ** 2


def climbed(sampler: SamplerName, trials: int = 80) -> list[float]:
    asker = Asker(space_of(f"{FAST}=2:200", f"{SLOW}=5:200"), sampler, 1, maximise=True)
    heights = []
    for number in range(trials):
        heights.append(hill(asker.ask()))
        asker.tell(number, heights[-1])
    return heights


def test_tpe_looks_where_good_trials_were() -> None:
    learned = climbed(SamplerName.TPE)
    drawn = climbed(SamplerName.RANDOM)
    assert sum(learned[40:]) > 0.2 * sum(drawn[40:])
    assert max(learned) > max(drawn)


def late_draws(sampler: SamplerName, value: Callable[[int], float | None]) -> list[int]:
    """Return the last 60 of 120 values of one key, least wanted where values are high."""
    asker = Asker(space_of(f"{FAST}=2:200"), sampler, 1, maximise=False)
    drawn = []
    for number in range(120):
        drawn.append(int(asker.ask()[FAST]))
        asker.tell(number, value(drawn[-1]))
    return drawn[60:]


def test_trial_without_a_value_is_a_bad_one_to_tpe() -> None:
    good = {
        sampler: sum(one <= 60 for one in late_draws(sampler, lambda x: None if x > 60 else 1.0))
        for sampler in (SamplerName.TPE, SamplerName.RANDOM)
    }
    assert good[SamplerName.TPE] > 1.5 * good[SamplerName.RANDOM]


def test_minimum_is_found_as_well() -> None:
    far = {
        sampler: sum(abs(one - 150) for one in late_draws(sampler, lambda x: abs(x - 150.0)))
        for sampler in (SamplerName.TPE, SamplerName.RANDOM)
    }
    assert far[SamplerName.TPE] < 0.6 * far[SamplerName.RANDOM]


@pytest.mark.parametrize("sampler", [SamplerName.RANDOM, SamplerName.TPE])
def test_steps_leave_no_rounding(sampler: SamplerName) -> None:
    asker = Asker(
        space_of(f"{HISTOGRAM}=0.1:0.9:0.1", f"{SLOW}=10:50:20"), sampler, 3, maximise=True
    )
    drawn = []
    for number in range(100):
        drawn.append(asker.ask())
        asker.tell(number, 0.5)
    assert {one[HISTOGRAM] for one in drawn} <= {round(at * 0.1, 1) for at in range(1, 10)}
    assert len({one[HISTOGRAM] for one in drawn}) > 5
    assert {one[SLOW] for one in drawn} == {10, 30, 50}


def test_logarithmic_range_reaches_every_order_alike() -> None:
    asker = Asker(space_of(f"{FAST}=1:999:log"), SamplerName.RANDOM, 3, maximise=True)
    orders = [math.floor(math.log10(float(asker.ask()[FAST]))) for _ in range(300)]
    assert all(75 < orders.count(order) < 125 for order in (0, 1, 2))


def test_grid_comes_shuffled_and_by_its_seed() -> None:
    space = space_of(f"{FAST}=2:21", f"{SLOW}=30,60")
    points = {}
    for seed in (1, 2):
        for again in (0, 1):
            asker = Asker(space, SamplerName.GRID, seed, maximise=True)
            points[seed, again] = [tuple(asker.ask().values()) for _ in range(40)]
    assert points[1, 0] == points[1, 1] != points[2, 0]
    assert set(points[1, 0]) == set(points[2, 0])
    assert len(set(points[1, 0])) == 40
    assert any(after < before for before, after in pairwise(points[1, 0]))


def test_recalled_trials_count_as_asked() -> None:
    space = space_of(f"{FAST}=2:200", f"{SLOW}=5:200")
    for sampler in (SamplerName.RANDOM, SamplerName.TPE):
        first = Asker(space, sampler, 1, maximise=True)
        asked = []
        for number in range(15):
            asked.append(first.ask())
            first.tell(number, hill(asked[-1]))
        other = Asker(space, sampler, 1, maximise=True)
        for number, params in enumerate(asked):
            other.recall(params)
            other.tell(number, hill(params))
        assert other.ask() == first.ask()
