"""The simulator's arithmetic against the rulebook's decimals: fees, price limits, lots."""

from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import Config
from engine.core.records import Board
from engine.risk.rulebook import load_rulebook
from replay.backtest.rule_table import make_rules
from replay.backtest.sim_price import charge_nb, limits_nb, on_grid_nb, whole_lots_nb

RULEBOOK = load_rulebook()
BOARDS = (Board.CN_MAIN, Board.CN_MAIN_ST, Board.CN_CHINEXT, Board.CN_STAR, Board.CN_BEIJING)
TABLES = make_rules(BOARDS, RULEBOOK, Config())
EPOCH = date(1970, 1, 1)


def row_of(board: Board, day: date) -> int:
    rows = TABLES.boards[TABLES.numbers[board]]
    first = int(rows["first"])
    since = TABLES.rules["since"][first : int(rows["stop"])]
    return first + int(np.searchsorted(since, (day - EPOCH).days, side="right")) - 1


@given(
    st.sampled_from(BOARDS),
    st.dates(date(1995, 1, 1), date(2027, 1, 1)),
    st.sampled_from(("buy", "sell")),
    st.integers(1, 300_000),
    st.integers(1, 400_000),
)
def test_fees_are_the_rulebooks_to_the_fen(
    board: Board, day: date, side: str, lots: int, price_fen: int
) -> None:
    notional = Decimal(lots) * 100 * Decimal(price_fen) / 100
    row = row_of(board, day)
    count = TABLES.rules[row]["buy_fees" if side == "buy" else "sell_fees"]
    charged = charge_nb(TABLES.fees[row, int(side == "sell")], count, float(notional))
    expected = RULEBOOK.charge("buy" if side == "buy" else "sell", board, day, notional)
    assert Decimal(repr(round(sum(charged), 2))) == expected
    assert sum(charged) == pytest.approx(float(expected), rel=1e-15)


@given(
    st.sampled_from(BOARDS),
    st.dates(date(1997, 1, 1), date(2027, 1, 1)),
    st.integers(1, 500_000),
)
def test_limit_prices_are_the_rulebooks(board: Board, day: date, price_fen: int) -> None:
    rule = TABLES.rules[row_of(board, day)]
    expected = RULEBOOK.limit_prices(price_fen / 100, board, day)
    assert bool(rule["limited"]) == (expected is not None)
    if expected is not None:
        assert limits_nb(price_fen / 100, 0.01, rule["up_ppm"], rule["down_ppm"]) == expected


@given(st.integers(1, 10**7), st.sampled_from((0.2, 0.01, 0.001, 0.5)))
def test_a_reference_between_two_ticks_is_rounded_as_decimals_are(fine: int, tick: float) -> None:
    reference = float(Decimal(fine) * Decimal(repr(tick)) / 10)
    limits = RULEBOOK.limits(Board.CN_MAIN, date(2019, 6, 10))
    assert limits is not None
    found = limits_nb(reference, tick, 100_000, 100_000)
    assert found == pytest.approx(limits.prices(reference, tick), rel=1e-12)


@given(st.floats(0, 1e6), st.integers(1, 500), st.integers(1, 500))
def test_whole_lots_are_the_largest_legal_size(wanted: float, minimum: int, step: int) -> None:
    found = whole_lots_nb(wanted, float(minimum), float(step))
    if found == 0:
        assert wanted < minimum
    else:
        assert (found - minimum) % step == 0
        assert found <= wanted * (1 + 1e-9) + 1e-6
        assert found + step > wanted


@pytest.mark.parametrize(
    ("price", "side", "expected"),
    [
        (10.0, 1, 10.0),
        (10.0, -1, 10.0),
        (10.0001, 1, 10.01),
        (10.0099, -1, 10.0),
        (0.001, -1, 0.01),
    ],
)
def test_slipped_prices_stand_on_the_grid_on_the_losing_side(
    price: float, side: int, expected: float
) -> None:
    assert on_grid_nb(price, 0.01, side) == expected
