"""What is allowed for the way to a device's thread and back."""

import numpy as np

from runtime.hop import Hop


def hop_of(*times_ns: int) -> Hop:
    hop = Hop()
    for time_ns in times_ns:
        hop.note(time_ns)
    return hop


def test_nothing_is_allowed_before_the_first() -> None:
    assert Hop().allowance_ns() == 0


def test_a_steady_hop_is_allowed_as_it_is() -> None:
    hop = hop_of(*[50_000] * 300)
    assert abs(hop.mean_ns - 50_000) < 10
    assert abs(hop.allowance_ns() - 50_000) < 100
    assert abs(hop.allowance_ns(0.5) - 25_000) < 100


def test_a_hop_that_varies_is_allowed_more_than_its_mean() -> None:
    times = np.random.default_rng(3).exponential(60_000, 2_000).astype(int)
    hop = hop_of(*times.tolist())
    covered = np.mean(times <= hop.allowance_ns())
    assert 0.85 < covered < 0.99


def test_one_pause_of_the_machine_is_not_taken_for_the_hop() -> None:
    assert hop_of(*[50_000] * 100, 10**10).mean_ns < 50_000 + 1_000_000 / 16
