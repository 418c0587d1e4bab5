from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datafiles import data_file
from hypothesis import given
from hypothesis import strategies as st
from reference.risk_twin import limit_prices_in_cents
from risk_cases import RULEBOOK

from engine.core.errors import ConfigError
from engine.core.records import Board
from engine.risk.rulebook import load_rulebook, parse_rulebook

TODAY = date(2024, 6, 5)
BOARDS = [board for board in Board if board.name.startswith("CN_")]


@pytest.mark.parametrize(
    ("board", "day", "pct"),
    [
        (Board.CN_MAIN, date(1996, 12, 15), None),
        (Board.CN_MAIN, date(1996, 12, 16), 10),
        (Board.CN_MAIN_ST, date(2026, 7, 5), 5),
        (Board.CN_MAIN_ST, date(2026, 7, 6), 10),
        (Board.CN_CHINEXT, date(2020, 8, 23), 10),
        (Board.CN_CHINEXT, date(2020, 8, 24), 20),
        (Board.CN_STAR, date(2019, 7, 22), 20),
        (Board.CN_BEIJING, date(2021, 11, 15), 30),
        (Board.CRYPTO, TODAY, None),
        (Board.OTHER, TODAY, None),
    ],
)
def test_price_limit_changes_on_its_day(board: Board, day: date, pct: int | None) -> None:
    limits = RULEBOOK.limits(board, day)
    found = None if limits is None else (limits.up_frac, limits.down_frac)
    assert found == (None if pct is None else (Decimal(pct) / 100, Decimal(pct) / 100))


@pytest.mark.parametrize(
    ("board", "day", "days_listed", "expected"),
    [
        (Board.CN_MAIN, date(2019, 1, 25), 1, (3.49, 7.85)),
        (Board.CN_MAIN, date(2019, 1, 25), 2, (4.91, 6.0)),
        (Board.CN_MAIN, date(2019, 1, 25), None, (4.91, 6.0)),
        (Board.CN_MAIN, date(2023, 4, 10), 5, None),
        (Board.CN_MAIN, date(2023, 4, 10), 6, (4.91, 6.0)),
        (Board.CN_STAR, date(2019, 7, 22), 1, None),
        (Board.CN_BEIJING, date(2021, 11, 15), 1, None),
        (Board.CN_BEIJING, date(2021, 11, 16), 2, (3.82, 7.09)),
    ],
)
def test_first_days_of_a_listing_have_limits_of_their_own(
    board: Board, day: date, days_listed: int | None, expected: tuple[float, float] | None
) -> None:
    assert RULEBOOK.limit_prices(5.45, board, day, days_listed=days_listed) == expected


def test_limit_price_is_rounded_half_up_in_decimal_arithmetic() -> None:
    # In binary 10.05 * 1.1 is below 11.055, and rounding that would give 11.05.
    assert RULEBOOK.limit_prices(10.05, Board.CN_MAIN, TODAY) == (9.05, 11.06)


def test_limit_price_is_at_least_one_tick_away() -> None:
    assert RULEBOOK.limit_prices(0.04, Board.CN_MAIN, TODAY) == (0.03, 0.05)
    assert RULEBOOK.limit_prices(0.01, Board.CN_MAIN, TODAY) == (0.01, 0.02)


def test_limit_price_keeps_to_the_tick_given() -> None:
    assert RULEBOOK.limit_prices(1.005, Board.CN_MAIN, TODAY, tick_size=0.001) == (0.905, 1.106)


@given(st.sampled_from(BOARDS), st.integers(1, 10**7))
def test_limit_prices_equal_those_of_whole_number_arithmetic(board: Board, cents: int) -> None:
    limits = RULEBOOK.limits(board, TODAY)
    assert limits is not None
    percent = int(limits.up_frac * 100)
    expected = tuple(c / 100 for c in limit_prices_in_cents(cents, percent))
    assert RULEBOOK.limit_prices(cents / 100, board, TODAY) == expected


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_previous_close_that_is_no_price_is_an_error(price: float) -> None:
    with pytest.raises(ValueError, match="must be prices"):
        RULEBOOK.limit_prices(price, Board.CN_MAIN, TODAY)


def test_lots_of_the_boards() -> None:
    found = {board: RULEBOOK.lot(board, TODAY) for board in BOARDS}
    assert {
        b: (int(lot.minimum), int(lot.step)) for b, lot in found.items() if lot is not None
    } == {
        Board.CN_MAIN: (100, 100),
        Board.CN_MAIN_ST: (100, 100),
        Board.CN_CHINEXT: (100, 100),
        Board.CN_STAR: (200, 1),
        Board.CN_BEIJING: (100, 1),
    }
    assert RULEBOOK.lot(Board.CRYPTO, TODAY) is None


def test_shares_settle_the_day_after() -> None:
    for board in BOARDS:
        settlement = RULEBOOK.settlement(board, TODAY)
        assert settlement is not None
        assert (settlement.days, settlement.short) == (1, False)
    assert RULEBOOK.settlement(Board.FUTURES, TODAY) is None


@pytest.mark.parametrize(
    ("side", "day", "bps"),
    [
        ("sell", date(2023, 8, 27), 10 + 0.1 + 2.5),
        ("sell", date(2023, 8, 28), 5 + 0.1 + 2.5),
        ("buy", date(2023, 8, 28), 0.1 + 2.5),
        ("buy", date(2022, 4, 28), 0.2 + 2.5),
        ("buy", date(2008, 9, 18), 10 + 2.5),
        ("buy", date(2008, 9, 19), 2.5),
    ],
)
def test_fees_change_on_their_day(side: str, day: date, bps: float) -> None:
    assert side in ("buy", "sell")
    found = RULEBOOK.fee_bps("buy" if side == "buy" else "sell", Board.CN_MAIN, day)
    assert found == pytest.approx(bps, rel=1e-12)


@pytest.mark.parametrize(
    ("side", "notional", "yuan"),
    [
        ("buy", "10050.00", "5.10"),  # commission 2.51, so 5.00; transfer fee 0.1005
        ("sell", "10050.00", "10.13"),  # the same and stamp duty 5.025, half up 5.03
        ("sell", "1000000.00", "760.00"),
    ],
)
def test_charge_is_to_the_fen_as_by_hand(side: str, notional: str, yuan: str) -> None:
    found = RULEBOOK.charge(
        "buy" if side == "buy" else "sell", Board.CN_MAIN, TODAY, Decimal(notional)
    )
    assert found == Decimal(yuan)


def test_closing_auction_came_to_shanghai_later() -> None:
    before, after = date(2018, 8, 17), date(2018, 8, 20)
    lengths = [
        RULEBOOK.closing_auction_s(Board.CN_MAIN, venue, day)
        for venue in ("SH", "SZ")
        for day in (before, after)
    ]
    assert lengths == [0, 180, 180, 180]


def test_beijing_and_crypto_have_no_auction_entry_of_shenzhen() -> None:
    assert RULEBOOK.closing_auction_s(Board.CRYPTO, "SZ", TODAY) == 0


HEAD = 'market = "M"\ncurrency = "C"\n'
ENTRY = '[[lot]]\nboards = ["CN_MAIN"]\nsince = 2020-01-01\nminimum = 100\nstep = 100\n'


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("market = ", "", "TOML"),
        (HEAD + ENTRY.replace("CN_MAIN", "CN_MIAN"), "lot.0.boards.0", "CN_MIAN"),
        (HEAD + ENTRY.replace("step = 100", "step = 0"), "lot.0.step", "greater than 0"),
        (HEAD + ENTRY + "setp = 1\n", "lot.0.setp", "not permitted"),
        (HEAD + ENTRY.replace("2020-01-01", '"soon"'), "lot.0.since", "soon"),
        (HEAD + ENTRY + ENTRY, "", "two lot entries for CN_MAIN on 2020-01-01"),
        (
            HEAD + '[[listing]]\nboards=["CN_MAIN"]\nsince=2020-01-01\nfirst_days=1\nup_pct=44',
            "listing.0",
            "both",
        ),
    ],
)
def test_broken_rulebook_is_told_with_file_and_key(text: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rulebook(text, "book.toml")
    assert caught.value.key == key
    assert message in str(caught.value)
    assert str(caught.value).startswith("book.toml")


def test_missing_rulebook_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_rulebook(tmp_path / "none.toml")


@pytest.mark.data
def test_recorded_closes_lie_within_their_limits() -> None:
    """511 of the 1,000 symbols whose closes at ±10 % their source counts as 5,164 and 2,301."""
    table = pq.read_table(data_file("cn_a_share_daily/daily_raw_511_symbols.parquet"))
    pre_close, high, low, close = (
        table[name].to_numpy() for name in ("pre_close", "high", "low", "close")
    )
    day = date(2019, 6, 3)
    limits = np.array([RULEBOOK.limit_prices(p, Board.CN_MAIN, day) for p in pre_close.tolist()])
    beyond = (high > limits[:, 1]) | (low < limits[:, 0])
    first_days = [
        RULEBOOK.limit_prices(p, Board.CN_MAIN, day, days_listed=1)
        for p in pre_close[beyond].tolist()
    ]
    assert int((close == limits[:, 1]).sum()) == 2_573
    assert int((close == limits[:, 0]).sum()) == 1_196
    assert [limit[1] for limit in first_days if limit] == close[beyond].tolist()
    assert int(beyond.sum()) == 4
