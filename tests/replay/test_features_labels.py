"""Labels: what followed each row over a stated horizon, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.errors import ConfigError
from replay.export.feature_labels import NEVER_NS, UNKNOWN, Labels, make_labels
from replay.export.feature_spec import Horizon, parse_horizon
from strategies.feature_matrix import FeatureMatrix

SECOND = 10**9


def matrix(
    seconds: list[int], who: list[int] | None = None, run: list[int] | None = None,
    session: list[int] | None = None,
) -> FeatureMatrix:  # fmt: skip
    count = len(seconds)
    return FeatureMatrix(
        ts_event=np.array(seconds, np.int64) * SECOND,
        instrument=np.array(who or [0] * count, np.uint32),
        rows=np.zeros((count, 1), np.float32),
        price=np.zeros(count),
        mid=np.zeros(count),
        run=np.array(run or range(1, count + 1), np.int64),
        session=np.array(session or [0] * count, np.int32),
    )


def labels(made: FeatureMatrix, price: list[float], text: str, band: float = 0.0) -> Labels:
    return make_labels(made, np.array(price), parse_horizon(text), band)


def test_a_move_is_to_the_last_price_until_the_horizon() -> None:
    made = labels(matrix([0, 1, 2, 4]), [100.0, 101.0, 99.0, 100.0], "2s")
    assert made.move_bps[:2].tolist() == pytest.approx([-100.0, 1e4 * (99.0 / 101.0 - 1.0)])
    assert made.move_bps[2] == pytest.approx(1e4 * (100.0 / 99.0 - 1.0))
    assert np.isnan(made.move_bps[3])
    assert made.sign.tolist() == [-1, -1, 1, UNKNOWN]
    assert made.until_ns.tolist() == [2 * SECOND, 3 * SECOND, 4 * SECOND, NEVER_NS]


def test_a_horizon_in_rows_counts_the_instruments_own_rows() -> None:
    made = labels(matrix([0, 0, 5, 6, 9, 9], [0, 1] * 3), [1.0, 2.0, 1.1, 2.2, 1.2, 2.0], "2rows")
    assert made.move_bps[:2].tolist() == pytest.approx([2000.0, 0.0])
    assert made.sign.tolist() == [1, 0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
    assert made.until_ns[:2].tolist() == [9 * SECOND, 9 * SECOND]


def test_a_move_within_the_band_has_no_sign() -> None:
    price = [100.0, 100.05, 100.0, 100.051]
    made = labels(matrix([0, 1, 2, 3]), price, "1s", 5.0)
    assert made.sign.tolist() == [0, 0, 1, UNKNOWN]


def test_a_label_over_missing_rows_is_flagged() -> None:
    made = labels(matrix([0, 1, 2, 3, 4], run=[1, 2, 3, 1, 2]), [1.0] * 5, "1s")
    assert made.crosses_break.tolist() == [False, False, True, False, False]
    assert made.usable().tolist() == [True, True, False, True, False]


def test_a_horizon_that_ends_in_a_hole_is_flagged() -> None:
    made = labels(matrix([0, 1, 2, 9, 10, 11], run=[1, 2, 3, 1, 2, 3]), [1.0] * 6, "1500ms")
    assert made.crosses_break.tolist() == [False, True, True, False, False, False]
    night = labels(matrix([0, 1, 2, 9, 10], session=[0, 0, 0, 1, 1]), [1.0] * 5, "1500ms")
    assert night.crosses_session.tolist() == [False, True, True, False, False]
    assert labels(matrix([0, 1, 9], session=[0, 0, 1]), [1.0] * 3, "1s").crosses_session[0] == 0


def test_a_label_on_another_day_is_flagged() -> None:
    made = labels(matrix([0, 1, 2, 3], session=[7, 7, 8, 8]), [1.0] * 4, "1s")
    assert made.crosses_session.tolist() == [False, True, False, False]
    assert made.usable().tolist() == [True, False, True, False]
    assert made.usable(across_days=True).tolist() == [True, True, True, False]


@settings(max_examples=60)
@given(
    steps=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    who=st.integers(1, 3),
    horizon=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_labels_are_those_of_a_plain_search(
    steps: list[int], who: int, horizon: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(steps)
    owner = rng.integers(0, who, len(times))
    price = 100.0 + rng.normal(0.0, 1.0, len(times))
    made = labels(matrix(times.tolist(), owner.tolist()), price.tolist(), f"{horizon}s")
    for at in range(len(times)):
        own = [k for k in range(len(times)) if owner[k] == owner[at]]
        until = times[at] + horizon
        if until > times[own[-1]]:
            assert np.isnan(made.move_bps[at])
            continue
        last = [k for k in own if times[k] <= until][-1]
        first = [k for k in own if times[k] <= times[at]][-1]
        assert made.move_bps[at] == pytest.approx(1e4 * (price[last] / price[first] - 1.0))


@given(cut=st.integers(1, 29), seed=st.integers(0, 99))
def test_a_label_depends_on_nothing_beyond_its_own_end(cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    price = 100.0 + rng.normal(0.0, 1.0, 30)
    other = price.copy()
    other[cut:] += 5.0
    whole = labels(matrix(list(range(30))), price.tolist(), "3s")
    changed = labels(matrix(list(range(30))), other.tolist(), "3s")
    before = whole.until_ns < cut * SECOND
    before &= whole.until_ns != NEVER_NS
    assert whole.move_bps[before].tolist() == changed.move_bps[before].tolist()


@pytest.mark.parametrize("text", ["", "5", "0s", "0rows", "-1s", "rows", "5 years"])
def test_a_horizon_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match='give a time as "5m", or "10rows"'):
        parse_horizon(text)


def test_horizons_are_times_or_rows() -> None:
    assert parse_horizon("5m") == Horizon(300 * SECOND, 0)
    assert parse_horizon("1 row") == Horizon(0, 1)
    assert parse_horizon("10rows").text == "10 rows"
