"""Backtests on ticks: the next tick after the order came, the side it meets, sessions, slippage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backtest_rig import (
    MONDAY,
    OPEN,
    S,
    daily,
    flat,
    orders,
    quotes,
    settings,
    shares,
    trade,
    trade_prepared,
)

from engine.core.records import Board, Instruments, TickFlag, TickKind, Ticks, instrument_row
from feeds.log_writer import LogWriter
from replay.backtest.prepared import Prepared

BUY, SELL = 1, -1
NAN = float("nan")


def coin(**fields: Any) -> Instruments:
    return instrument_row("BTC.X", board=Board.CRYPTO, tick_size=0.01, **fields)


def book(count: int = 8, step_s: float = 1.0) -> Ticks:
    """Return quotes a second apart: bid 100, 101, …, ask 0.10 above."""
    bids = [100.0 + i for i in range(count)]
    return quotes([i * step_s for i in range(count)], bids, [bid + 0.10 for bid in bids])


@pytest.mark.parametrize(("latency", "row"), [("0s", 3), ("1s", 3), ("1001ms", 4), ("3500ms", 6)])
def test_an_order_meets_the_first_tick_after_it_came(
    tmp_path: Path, latency: str, row: int
) -> None:
    ticks = book()
    result = trade(tmp_path, ticks, orders((2, BUY)), settings(latency=latency), coin())
    assert result.fills["price"].tolist() == [ticks["ask"][row]]
    assert result.fills["ts"].tolist() == [ticks["ts_recv"][row]]
    assert result.fills["ts_signal"].tolist() == [ticks["ts_recv"][2]]


def test_ticks_of_one_moment_fill_in_their_order_and_never_the_one_that_signalled(
    tmp_path: Path,
) -> None:
    ticks = book(4, step_s=0.0)
    result = trade(tmp_path, ticks, orders((1, BUY)), settings(), coin())
    assert result.fills["price"].tolist() == [ticks["ask"][2]]


def test_a_buyer_pays_the_ask_and_a_seller_gets_the_bid(tmp_path: Path) -> None:
    config = settings(fees=False, sizing={"by": "shares", "amount": 2})
    result = trade(tmp_path, book(), orders((0, BUY), (3, SELL)), config, coin())
    assert result.fills["price"].tolist() == pytest.approx([101.10, 104.0])
    assert result.trades["pnl"].tolist() == pytest.approx([2 * 2.9])


def test_without_a_book_the_next_trade_fills(tmp_path: Path) -> None:
    ticks = book()
    ticks["kind"] = TickKind.TRADE
    ticks["price"], ticks["size"] = ticks["bid"], 5
    for name in ("bid", "ask"):
        ticks[name] = NAN
    ticks["flags"] = 0
    result = trade(tmp_path, ticks, orders((0, BUY)), settings(), coin())
    assert result.fills["price"].tolist() == [101.0]


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        (TickFlag.HALTED, "HALTED"),
        (TickFlag.AUCTION, "AUCTION"),
        (TickFlag.OUT_OF_SESSION, "OUT_OF_SESSION"),
        (TickFlag.ODD_CONDITION, "IRREGULAR"),
    ],
)
def test_ticks_that_are_no_market_fill_nothing(tmp_path: Path, flag: TickFlag, why: str) -> None:
    ticks = book()
    ticks["flags"][1:] |= np.uint16(flag)
    result = trade(tmp_path, ticks, orders((0, BUY)), settings(), coin())
    assert result.unfilled == {why: 1}


def test_a_share_locked_at_its_limit_has_nobody_to_sell_it(tmp_path: Path) -> None:
    """The ask is gone and the bid stands at 11.00, ten per cent above 10.00; then it opens."""
    ticks = quotes([0, 1, 2, 3], [10.5, 11.0, 11.0, 10.9], [10.51, NAN, NAN, 10.91])
    share = shares(pre_close=10.0)
    result = trade(tmp_path, ticks, orders((0, BUY)), settings(), share)
    assert result.fills["price"].tolist() == [10.91]
    still = trade(tmp_path, ticks[:3].copy(), orders((0, BUY)), settings(), share)
    assert still.unfilled == {"LIMIT_UP": 1}
    falling = quotes([0, 1, 2], [9.5, 9.5, NAN], [9.51, 9.51, 9.0])
    config = settings(settlement=False)
    result = trade(tmp_path, falling, orders((0, BUY), (1, SELL)), config, share)
    assert result.unfilled == {"LIMIT_DOWN": 1}
    free = settings(settlement=False, price_limits=False)
    result = trade(tmp_path, falling, orders((0, BUY), (1, SELL)), free, share)
    assert result.unfilled == {"NO_PRICE": 1}


def test_a_share_without_a_reference_is_not_traded(tmp_path: Path) -> None:
    result = trade(tmp_path, book(), orders((0, BUY)), settings(), shares())
    assert result.unfilled == {"NO_REFERENCE": 1}


def test_what_was_bought_today_is_not_sold_today(tmp_path: Path) -> None:
    ticks = quotes([0, 1, 2, 3], [10.0] * 4, [10.01] * 4)
    result = trade(tmp_path, ticks, orders((0, BUY), (2, SELL)), settings(), shares(pre_close=10.0))
    assert result.fills["side"].tolist() == [BUY]
    assert result.unfilled == {"T_PLUS_1": 1}


def test_ticks_outside_the_venues_hours_fill_nothing(tmp_path: Path) -> None:
    """Shanghai breaks for lunch at 11:30, and its closing auction begins at 14:57."""
    lunch, auction = 2.0 * 3600, 5.45 * 3600 + 30
    share = shares(pre_close=10.0)
    for offset, continuous, whole in ((60.0, 1, 1), (lunch + 60, 0, 0), (auction, 0, 1)):
        ticks = quotes([offset, offset + 1], [10.0] * 2, [10.01] * 2)
        for sessions, filled in (("continuous", continuous), ("whole", whole), ("off", 1)):
            result = trade(tmp_path, ticks, orders((0, BUY)), settings(sessions=sessions), share)
            assert len(result.fills) == filled, (offset, sessions)
            assert filled or result.unfilled == {"OUT_OF_SESSION": 1}


def test_a_position_ends_when_it_was_held_for_long_enough(tmp_path: Path) -> None:
    config = settings(max_hold="3s", sizing={"by": "shares", "amount": 1})
    result = trade(tmp_path, book(), orders((0, BUY)), config, coin())
    held = result.fills["ts"][1] - result.fills["ts"][0]
    assert held == 3 * S
    assert (result.signals, result.filled) == (1, 1)
    assert result.notes == {"own_orders": 1, "own_orders_filled": 1}


def test_a_reversal_ends_one_trade_and_begins_another(tmp_path: Path) -> None:
    config = settings(direction="long_short", fees=False, sizing={"by": "shares", "amount": 1})
    result = trade(tmp_path, book(), orders((0, BUY), (2, SELL), (4, BUY)), config, coin())
    assert result.fills["side"].tolist() == [BUY, SELL, SELL, BUY, BUY]
    assert result.fills["trade"].tolist() == [0, 0, 1, 1, 2]
    assert result.trades["side"].tolist() == [1, -1, 1]
    assert result.trades["pnl"].tolist() == pytest.approx([1.9, -2.1, 107.05 - 105.10])
    assert result.filled == 3


@pytest.mark.parametrize(
    ("slippage", "price"),
    [
        ({"model": "ticks", "amount": 3}, 101.13),
        ({"model": "bps", "amount": 10}, 101.21),
        ({"model": "spread", "amount": 0.5}, 101.15),
        ({"model": "impact", "amount": 1, "volatility": 0.02, "volume": 400}, 102.12),
    ],
)
def test_slippage_moves_the_price_against_the_order(
    tmp_path: Path, slippage: dict[str, Any], price: float
) -> None:
    """The impact of 1 of 400 units at 2 % a day is 2 % / 20, ten basis points of 101.10 each."""
    config = settings(slippage=slippage, sizing={"by": "shares", "amount": 1}, fees=False)
    if slippage["model"] == "impact":
        config = settings(slippage=slippage, sizing={"by": "shares", "amount": 100}, fees=False)
    result = trade(tmp_path, book(), orders((0, BUY)), config, coin())
    fill = result.fills[0]
    assert fill["price"] == pytest.approx(price)
    assert fill["slippage"] == pytest.approx((fill["price"] - 101.10) * fill["quantity"])


def test_the_impact_model_without_a_finished_day_fills_nothing(tmp_path: Path) -> None:
    config = settings(slippage={"model": "impact", "amount": 1})
    assert trade(tmp_path, book(), orders((0, BUY)), config, coin()).unfilled == {"NO_ESTIMATE": 1}
    days = daily([flat(0, 10.0), flat(1, 10.2, 10.0), flat(2, 10.2), flat(3, 10.2)])
    result = trade(tmp_path, days, orders((2, BUY)), config)
    assert result.fills["price"][0] > 10.2


@pytest.mark.parametrize(
    ("sizing", "units"),
    [
        ({"by": "shares", "amount": 7}, 7),
        ({"by": "cash", "amount": 1_011}, 10),
        ({"by": "equity", "amount": 0.5}, 49),
        ({"by": "equity", "amount": 1.0}, 98),
    ],
)
def test_sizes_are_whole_lots_that_the_account_can_pay(
    tmp_path: Path, sizing: dict[str, Any], units: int
) -> None:
    config = settings(cash=10_000, sizing=sizing, fees=False)
    result = trade(tmp_path, book(), orders((0, BUY)), config, coin(lot=1.0))
    assert result.fills["quantity"].tolist() == [units]
    assert result.equity["cash"].min() >= 0


def test_an_order_that_cannot_be_paid_is_shrunk_or_refused(tmp_path: Path) -> None:
    config = settings(cash=1_000, sizing={"by": "shares", "amount": 50})
    result = trade(tmp_path, book(), orders((0, BUY)), config, coin(lot=1.0))
    assert result.fills["quantity"].tolist() == [9.0]
    poor = settings(cash=100, sizing={"by": "shares", "amount": 50})
    refused = trade(tmp_path, book(), orders((0, BUY)), poor, coin(lot=1.0))
    assert refused.unfilled == {"NO_CASH": 1}
    borrowed = settings(cash=1_000, sizing={"by": "shares", "amount": 50}, leverage=10)
    result = trade(tmp_path, book(), orders((0, BUY)), borrowed, coin(lot=1.0))
    assert result.fills["quantity"].tolist() == [50.0]


def test_a_fill_takes_no_more_than_its_part_of_what_is_shown(tmp_path: Path) -> None:
    config = settings(participation=0.01, fees=False)
    result = trade(tmp_path, book(), orders((0, BUY)), config, coin(lot=1.0))
    assert result.fills["quantity"].tolist() == [5.0]
    tiny = settings(participation=0.001, fees=False)
    refused = trade(tmp_path, book(), orders((0, BUY)), tiny, coin(lot=1.0))
    assert refused.unfilled == {"NO_VOLUME": 1}


def test_orders_that_are_on_their_way_are_not_doubled(tmp_path: Path) -> None:
    config = settings(latency="2s", sizing={"by": "shares", "amount": 1})
    given = orders((0, BUY), (1, BUY), (3, BUY), (4, SELL), (5, BUY))
    result = trade(tmp_path, book(), given, config, coin())
    assert result.fills["side"].tolist() == [BUY]
    assert result.unfilled == {"ALREADY_HELD": 2, "ALREADY_ORDERED": 1, "REPLACED": 1}


def test_after_a_gap_the_book_is_not_what_it_was(tmp_path: Path) -> None:
    """The records 4 to 6 are lost; the trade after them fills, and not the ask of before."""
    ticks = book(6)
    ticks["kind"][4], ticks["price"][4], ticks["size"][4] = TickKind.TRADE, 90.0, 1
    with LogWriter(tmp_path / "gap.hql", coin(), epoch=5) as writer:
        writer.write_ticks(ticks[:4])
        writer.next_seq += 3
        writer.write_ticks(ticks[4:])
    prepared = Prepared.load([tmp_path / "gap.hql"])
    records = prepared.segments[0].records
    assert records["kind"][4] == TickKind.GAP
    result = trade_prepared(prepared, orders((3, BUY)), settings())
    assert result.fills["price"].tolist() == [90.0]


def test_a_crossed_book_sells_nothing_below_its_bid(tmp_path: Path) -> None:
    """The quote after the signal is crossed; the trade after it fills at its own price."""
    ticks = quotes([0, 1, 2], [100.0, 103.0, 100.0], [100.1, 99.0, 100.1])
    ticks["flags"][1] = TickFlag.CROSSED
    ticks["kind"][2], ticks["price"][2], ticks["size"][2] = TickKind.TRADE, 101.0, 1
    result = trade(tmp_path, ticks, orders((0, BUY)), settings(), coin())
    assert result.fills["price"].tolist() == [101.0]


def test_the_account_is_the_same_however_full_its_tables_get(tmp_path: Path) -> None:
    """More fills than the tables begin with."""
    count = 6_000
    ticks = book(count, step_s=0.5)
    ticks["bid"] = 100 + np.arange(count) % 7
    ticks["ask"] = ticks["bid"] + 0.1
    given = orders(*((row, BUY if row % 4 == 0 else SELL) for row in range(0, count - 2, 2)))
    config = settings(sizing={"by": "shares", "amount": 1})
    result = trade(tmp_path, ticks, given, config, coin())
    assert len(result.fills) == len(given)
    assert len(result.trades) == (len(given) + 1) // 2
    assert result.fills["trade"].tolist() == [i // 2 for i in range(len(given))]


def test_the_day_an_account_stood_still_has_a_row(tmp_path: Path) -> None:
    result = trade(tmp_path, daily([flat(0, 10.0), flat(1, 10.0)]), orders())
    assert result.equity["day"].tolist() == [20190610, 20190611]
    assert result.equity["equity"].tolist() == [1e6, 1e6]
    assert result.equity["ts"][0] == MONDAY + OPEN + 5.5 * 3600 * S
