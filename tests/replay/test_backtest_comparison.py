"""The comparison of fills, on which the speed-ups over other engines stand."""

import numpy as np
import pytest
from bench.backtest_rules import FILLED, Filled, MismatchError, by_instrument, check_equal


def fills(*rows: tuple[int, int, int, int, float, float]) -> Filled:
    return np.array(list(rows), FILLED)


BOUGHT = (0, 100, 5, 1, 4.65, 0.11625)
SOLD = (0, 200, 9, -1, 5.28, 0.132)


def test_equal_fills_pass_whatever_row_they_came_from() -> None:
    check_equal("peer", fills(BOUGHT), fills((0, 100, -1, 1, 4.65, 0.11625)), cost_within=0.0)


@pytest.mark.parametrize(
    "other",
    [
        (1, 100, 5, 1, 4.65, 0.11625),
        (0, 101, 5, 1, 4.65, 0.11625),
        (0, 100, 5, -1, 4.65, 0.11625),
        (0, 100, 5, 1, 4.66, 0.11625),
        (0, 100, 5, 1, 4.65, 0.12),
    ],
    ids=["instrument", "time", "side", "price", "commission"],
)
def test_a_fill_that_differs_in_anything_fails(
    other: tuple[int, int, int, int, float, float],
) -> None:
    with pytest.raises(MismatchError, match="fill 1"):
        check_equal("peer", fills(SOLD, BOUGHT), fills(SOLD, other), cost_within=0.0)


def test_a_fill_that_is_missing_fails_and_is_named() -> None:
    with pytest.raises(MismatchError, match="2 fills, peer made 1; the first that differs, 1"):
        check_equal("peer", fills(BOUGHT, SOLD), fills(BOUGHT), cost_within=0.0)


def test_commission_that_is_rounded_to_cents_passes_within_half_a_cent() -> None:
    check_equal("peer", fills(BOUGHT), fills((0, 100, 5, 1, 4.65, 0.12)), cost_within=0.005)


def test_fills_are_ordered_by_instrument_and_keep_their_order_within_it() -> None:
    later = (1, 50, 0, 1, 1.0, 0.0)
    assert by_instrument(fills(later, BOUGHT, SOLD)).tolist() == [BOUGHT, SOLD, later]
