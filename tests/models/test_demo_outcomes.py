"""What followed each row: looked up by time, never beyond what the rows know."""

import demo_rows
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.demo_tcn.outcomes import UNKNOWN, choose, classify, instruments_of, mean_moves
from models.demo_tcn.recipe import BAND_BPS, FEATURES, HORIZON_S, WINDOW
from models.demo_tcn.stretches import STRETCH, cut


def test_a_move_at_the_band_is_flat_and_beyond_it_is_not() -> None:
    moves = np.array([-BAND_BPS - 0.01, -BAND_BPS, 0.0, BAND_BPS, BAND_BPS + 0.01, np.nan])
    assert classify(moves).tolist() == [0, 1, 1, 1, 2, UNKNOWN]


def test_move_is_from_the_row_to_the_last_row_until_the_horizon() -> None:
    made = choose(demo_rows.random_rows(200))
    mid = made.rows.mid
    expected = 1e4 * (mid[50 + HORIZON_S] / mid[50] - 1.0)
    assert made.move_bps[50] == pytest.approx(expected)
    assert made.before_bps[50 + HORIZON_S] == pytest.approx(expected)


def test_a_second_without_a_row_takes_the_mid_before_it() -> None:
    whole = demo_rows.random_rows(200, 1)
    lacking = whole._replace(
        **{name: np.delete(getattr(whole, name), 70, axis=0) for name in whole._fields}
    )
    expected = 1e4 * (whole.mid[69] / whole.mid[70 - HORIZON_S] - 1.0)
    assert choose(lacking).move_bps[70 - HORIZON_S] == pytest.approx(expected)


def test_nothing_is_known_beyond_the_last_row_or_before_the_first() -> None:
    made = choose(demo_rows.random_rows(100))
    for part in instruments_of(made.rows):
        assert np.isnan(made.move_bps[part][-HORIZON_S:]).all()
        assert np.isfinite(made.move_bps[part][:-HORIZON_S]).all()
        assert np.isnan(made.before_bps[part][:HORIZON_S]).all()
        assert np.isfinite(made.before_bps[part][HORIZON_S:]).all()


def test_forecasts_need_a_whole_window_and_a_known_outcome() -> None:
    made = choose(demo_rows.random_rows(100, 1, breaks=(60,)))
    expected = [*range(HORIZON_S, 60), *range(60 + WINDOW - 1, 100 - HORIZON_S)]
    assert made.ends.tolist() == expected


def test_windows_end_at_their_rows() -> None:
    made = choose(demo_rows.random_rows(100))
    windows = made.windows(made.ends)
    assert windows.shape == (len(made.ends), WINDOW, len(FEATURES))
    assert (windows[:, -1] == made.rows.features[made.ends]).all()
    assert (windows[3, 0] == made.rows.features[made.ends[3] - WINDOW + 1]).all()


def test_outcomes_of_an_instrument_do_not_depend_on_the_others() -> None:
    together = choose(demo_rows.random_rows(150, 3))
    part = instruments_of(together.rows)[1]
    rows = together.rows
    own = rows._replace(**{name: getattr(rows, name)[part] for name in rows._fields})
    alone = choose(own)
    assert np.array_equal(alone.move_bps, together.move_bps[part], equal_nan=True)
    assert (alone.ends + part.start).tolist() == [
        end for end in together.ends.tolist() if part.start <= end < part.stop
    ]


def test_mean_moves_have_the_signs_of_their_classes() -> None:
    down, flat, up = mean_moves(choose(demo_rows.random_rows(500)))
    assert down < -BAND_BPS < flat < BAND_BPS < up


@settings(max_examples=25)
@given(st.integers(60, 400), st.integers(0, 59))
def test_stretches_hold_every_forecast_once_with_its_window(count: int, at_break: int) -> None:
    made = choose(demo_rows.random_rows(count, 2, breaks=(at_break,) if at_break else ()))
    if not len(made.ends):
        return
    mean, scale = np.full(len(FEATURES), 0.5), np.full(len(FEATURES), 2.0)
    stretches = cut(made, mean, scale)
    assert stretches.features.shape[1:] == (len(FEATURES), STRETCH + WINDOW - 1)
    which, where = np.nonzero(stretches.classes != UNKNOWN)
    assert stretches.classes[which, where].tolist() == made.classes[made.ends].tolist()
    found = np.stack(
        [stretches.features[s, :, t : t + WINDOW].T for s, t in zip(which, where, strict=True)]
    )
    assert found == pytest.approx((made.windows(made.ends) - 0.5) * 2.0, abs=1e-6)
