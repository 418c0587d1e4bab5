"""Backtests by the market's rules: limits, suspensions, T+1, lots, fees, ex-right days."""

from pathlib import Path

import numpy as np
import pytest
from backtest_rig import (
    DAY,
    MONDAY,
    OPEN,
    Day,
    daily,
    flat,
    locked,
    orders,
    settings,
    shares,
    trade,
)

from engine.core.records import Board

BUY, SELL = 1, -1


def test_a_round_trip_pays_its_fees_to_the_fen(tmp_path: Path) -> None:
    """Bought 1,000 at 12.34: commission 3.085, so the least, 5; transfer fee 0.2468.
    Sold at 12.88: commission 3.22, so 5; stamp duty 12.88; transfer fee 0.2576."""
    days = [flat(0, 12.30), flat(1, 12.34), flat(2, 12.50), flat(3, 12.88)]
    result = trade(tmp_path, daily(days), orders((0, BUY), (2, SELL)))
    bought, sold = result.fills
    assert (bought["commission"], bought["tax"], bought["transfer_fee"]) == (5.0, 0.0, 0.25)
    assert (sold["commission"], sold["tax"], sold["transfer_fee"]) == (5.0, 12.88, 0.26)
    assert (bought["price"], sold["price"]) == (12.34, 12.88)
    assert bought["ts"] == MONDAY + DAY + OPEN
    assert result.trades["pnl"][0] == pytest.approx(540.0 - 5.25 - 18.14, abs=1e-9)
    assert result.equity["cash"][-1] == pytest.approx(1_000_516.61, abs=1e-9)


def test_half_a_fen_goes_up_and_todays_lower_rates_count(tmp_path: Path) -> None:
    """30,000 at 10.01 is 300,300: commission 75.075; transfer fee at 0.1 bps 3.003.
    Sold at 10.55, 316,500: commission 79.125, stamp duty at 5 bps 158.25, transfer fee 3.165."""
    first = int(np.datetime64("2024-06-03", "ns").astype(np.int64))
    days = [flat(0, 10.0), flat(1, 10.01), flat(2, 10.5), flat(3, 10.55)]
    config = settings(sizing={"by": "shares", "amount": 30_000})
    result = trade(tmp_path, daily(days, first), orders((0, BUY), (2, SELL)), config)
    bought, sold = result.fills
    assert (bought["commission"], bought["tax"], bought["transfer_fee"]) == (75.08, 0.0, 3.0)
    assert (sold["commission"], sold["tax"], sold["transfer_fee"]) == (79.13, 158.25, 3.17)


def test_stamp_duty_is_halved_for_what_is_sold_from_its_day_on(tmp_path: Path) -> None:
    """Two holdings of 1,000 at 12.87, 12,870: commission 3.2175, so 5; transfer fee 0.1287.
    Sold on Friday 2023-08-25: stamp duty at 10 bps 12.87. On Monday the 28th, at 5 bps: 6.435."""
    first = int(np.datetime64("2023-08-23", "ns").astype(np.int64))
    days = [flat(day, 12.87, instrument=i) for day in (0, 1, 2, 5) for i in (0, 1)]
    given = orders((0, BUY, 0), (1, BUY, 1), (2, SELL, 0), (5, SELL, 1))
    result = trade(tmp_path, daily(days, first), given, instruments=shares(2))
    paid = result.fills[["commission", "tax", "transfer_fee"]].tolist()
    assert paid == [(5.0, 0.0, 0.13), (5.0, 0.0, 0.13), (5.0, 12.87, 0.13), (5.0, 6.44, 0.13)]
    sold = (result.fills["ts"][2:] - OPEN).astype("datetime64[ns]").astype("datetime64[D]")
    assert [str(day) for day in sold] == ["2023-08-25", "2023-08-28"]
    assert result.trades["cost"].tolist() == pytest.approx([23.13, 16.70], abs=1e-9)
    assert result.equity["cash"][-1] == pytest.approx(999_960.17, abs=1e-9)


@pytest.mark.parametrize(
    ("side", "price", "why"), [(BUY, 11.0, "LIMIT_UP"), (SELL, 9.0, "LIMIT_DOWN")]
)
def test_nothing_trades_on_a_day_locked_at_its_limit(
    tmp_path: Path, side: int, price: float, why: str
) -> None:
    days = [flat(0, 10.0), flat(1, 10.0), locked(2, price, 10.0), flat(3, price)]
    if side == BUY:
        result = trade(tmp_path, daily(days), orders((1, BUY)))
        assert len(result.fills) == 0
        assert result.unfilled == {why: 1}
        return
    result = trade(tmp_path, daily(days), orders((0, BUY), (1, SELL)))
    assert result.fills["side"].tolist() == [BUY, SELL]
    assert result.fills["ts"][1] == MONDAY + 3 * DAY + OPEN, "the exit waits for the next day"
    other = trade(tmp_path, daily(days), orders((0, BUY), (1, SELL)), settings(exit_life="day"))
    assert other.unfilled == {why: 1}


def test_a_buyer_at_the_limit_is_served_once_it_opened(tmp_path: Path) -> None:
    opened = Day(1, 11.0, 11.0, 10.7, 10.9, 10.0)
    result = trade(tmp_path, daily([flat(0, 10.0), opened]), orders((0, BUY)))
    assert result.fills["price"].tolist() == [11.0]


def test_a_day_of_one_price_is_locked_at_whatever_limit_it_is(tmp_path: Path) -> None:
    days = [flat(0, 10.0), locked(1, 10.5, 10.0), flat(2, 10.5)]
    assert trade(tmp_path, daily(days), orders((0, BUY))).unfilled == {"ONE_PRICE": 1}


def test_an_entry_is_given_up_when_its_day_is_suspended(tmp_path: Path) -> None:
    days = [flat(0, 10.0), flat(0, 10.0, instrument=1), flat(1, 10.0, instrument=1),
            flat(2, 10.0), flat(2, 10.0, instrument=1)]  # fmt: skip
    result = trade(tmp_path, daily(days), orders((0, BUY)), instruments=shares(2))
    assert result.unfilled == {"NO_TRADING": 1}
    patient = settings(entry_life="gtc")
    result = trade(tmp_path, daily(days), orders((0, BUY)), patient, shares(2))
    assert result.fills["ts"].tolist() == [MONDAY + 2 * DAY + OPEN]


def test_a_day_without_volume_fills_nothing(tmp_path: Path) -> None:
    halted = flat(1, 10.0)._replace(volume=0.0)
    result = trade(tmp_path, daily([flat(0, 10.0), halted, flat(2, 10.0)]), orders((0, BUY)))
    assert result.unfilled == {"HALTED": 1}


def test_a_day_whose_reference_is_missing_fills_nothing_unless_told_to(tmp_path: Path) -> None:
    days = daily([flat(0, 10.0), flat(1, 10.0)])
    days["pre_close"][1] = np.nan
    result = trade(tmp_path, days, orders((0, BUY)))
    assert result.unfilled == {"NO_REFERENCE": 1}
    assert result.notes == {"days_without_reference": 1}
    assert len(trade(tmp_path, days, orders((0, BUY)), settings(require_reference=False)).fills)


def test_a_price_beyond_the_limits_fills_nothing(tmp_path: Path) -> None:
    days = [flat(0, 10.0), Day(1, 12.0, 12.5, 11.9, 12.4, 10.0)]
    assert trade(tmp_path, daily(days), orders((0, BUY))).unfilled == {"BEYOND_LIMIT": 1}


def test_a_new_share_goes_by_the_limits_of_its_first_day(tmp_path: Path) -> None:
    """A share that was not there on the market's first day may rise 44 %, then 10 %."""
    days = [flat(0, 10.0), flat(1, 10.0), Day(1, 12.0, 14.4, 12.0, 14.4, 10.0, 1), flat(2, 10.0)]
    given = orders((0, BUY, 1))
    config = settings(entry_life="gtc")
    result = trade(tmp_path, daily(days), given, config, shares(2))
    assert result.fills["price"].tolist() == [12.0]


def test_sells_are_whole_and_buys_are_whole_lots(tmp_path: Path) -> None:
    days = [flat(0, 10.0), flat(1, 10.0), flat(2, 6.50, 6.51), flat(3, 6.5)]
    config = settings(sizing={"by": "shares", "amount": 1_234})
    result = trade(tmp_path, daily(days), orders((0, BUY), (2, SELL)), config)
    assert result.fills["quantity"].tolist() == [1_200.0, 1_843.0]
    small = settings(sizing={"by": "cash", "amount": 999})
    assert trade(tmp_path, daily(days), orders((0, BUY)), small).unfilled == {"BELOW_LOT": 1}


def test_star_shares_come_from_200_on_one_by_one(tmp_path: Path) -> None:
    days = [flat(60, 10.0), flat(63, 10.0)]
    star = shares(board=Board.CN_STAR, lot=1.0)
    for amount, wanted in ((199, []), (200, [200.0]), (217, [217.0])):
        config = settings(sizing={"by": "shares", "amount": amount})
        result = trade(tmp_path, daily(days), orders((0, BUY)), config, star)
        assert result.fills["quantity"].tolist() == wanted


@pytest.mark.parametrize("way", ["shares", "cash"])
def test_an_ex_right_day_is_neither_profit_nor_loss(tmp_path: Path, way: str) -> None:
    """Ten new shares for ten and 0.37 in cash: 10.00 becomes 4.815, which is 4.82."""
    days = [flat(0, 10.0), flat(1, 10.0), flat(2, 4.82, 4.82), flat(3, 4.82)]
    config = settings(ex_right=way, fees=False)
    result = trade(tmp_path, daily(days), orders((0, BUY)), config)
    assert result.equity["equity"].tolist() == pytest.approx([1e6] * 4, abs=1e-8)
    assert result.trades["pnl"][0] == pytest.approx(0.0, abs=1e-8)
    assert result.trades["drawdown"][0] == pytest.approx(0.0, abs=1e-9)
    assert result.notes == {"ex_right_days": 1}
    off = trade(tmp_path, daily(days), orders((0, BUY)), settings(ex_right="off", fees=False))
    assert off.trades["pnl"][0] == pytest.approx(-5_180.0)


def test_a_reference_above_the_last_close_is_no_ex_right_day(tmp_path: Path) -> None:
    days = [flat(0, 10.0), flat(1, 10.0), flat(2, 10.5, 10.4)]
    result = trade(tmp_path, daily(days), orders((0, BUY)), settings(fees=False))
    assert result.trades["pnl"][0] == pytest.approx(500.0)
    assert result.notes == {"references_above_the_last_close": 1}


def test_nothing_is_sold_short_where_the_rulebook_forbids_it(tmp_path: Path) -> None:
    days = daily([flat(0, 10.0), flat(1, 10.0), flat(2, 9.0, 10.0), flat(3, 9.0)])
    config = settings(direction="long_short")
    assert trade(tmp_path, days, orders((0, SELL)), config).unfilled == {"SHORT_NOT_ALLOWED": 1}
    free = settings(direction="long_short", settlement=False, fees=False)
    result = trade(tmp_path, days, orders((0, SELL), (2, BUY)), free)
    assert result.fills["side"].tolist() == [SELL, BUY, BUY]
    assert result.trades["pnl"].tolist() == pytest.approx([1_000.0, 0.0])


def test_what_is_bought_in_one_bar_of_a_day_is_not_sold_in_the_next(tmp_path: Path) -> None:
    """T+1 with bars of half an hour: the exit waits for the next morning."""
    bars = daily([flat(0, 10.0)] * 4 + [flat(1, 10.0)] * 2)
    for row in range(6):
        half_hour = (row % 4) * 1_800 * 10**9
        bars["ts_open"][row] += half_hour
        bars["ts_event"][row] = bars["ts_recv"][row] = bars["ts_open"][row] + 1_800 * 10**9
    result = trade(tmp_path, bars, orders((0, BUY), (1, SELL)))
    assert result.fills["ts"].tolist() == bars["ts_open"][[1, 4]].tolist()
    day_order = trade(tmp_path, bars, orders((0, BUY), (1, SELL)), settings(exit_life="day"))
    assert day_order.unfilled == {"T_PLUS_1": 1}
