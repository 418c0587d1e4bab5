"""Backtests over days of ticks whose definitions change: references, limits, ex-right days."""

from pathlib import Path

import numpy as np
import pytest
from backtest_rig import DAY, orders, quotes, settings, shares, trade_segments

from engine.core.records import Board, Instruments, Ticks, instrument_row
from feeds.log_writer import LogWriter
from replay.backtest.prepared import Prepared

BUY, SELL = 1, -1


def on_day(day: int, bids: list[float]) -> Ticks:
    """Return quotes a second apart, a fen wide."""
    ticks = quotes(list(range(len(bids))), bids, [bid + 0.01 for bid in bids])
    ticks["ts_event"] += day * DAY
    ticks["ts_recv"] += day * DAY
    return ticks


def written(path: Path, *days: tuple[Instruments | None, Ticks]) -> Prepared:
    first = days[0][0]
    assert first is not None
    with LogWriter(path / "days.hql", first, epoch=3) as writer:
        for number, (definition, ticks) in enumerate(days):
            if number and definition is not None:
                writer.define(definition)
            writer.write_ticks(ticks)
    return Prepared.load([path / "days.hql"])


def test_a_new_reference_below_the_last_price_is_an_ex_right_day(tmp_path: Path) -> None:
    """Ten for ten: 10.00 becomes 5.00; 1,000 shares become 2,000, and T+1 lets all of them go."""
    prepared = written(
        tmp_path,
        (shares(pre_close=10.0), on_day(0, [9.99, 9.99, 9.995])),
        (shares(pre_close=5.0), on_day(1, [5.0, 5.0, 5.0])),
    )
    config = settings(fees=False)
    result = trade_segments(prepared, [orders((0, BUY)), orders((0, SELL))], config)
    assert result.fills["quantity"].tolist() == [1_000.0, 2_000.0]
    assert result.notes == {"ex_right_days": 1}
    assert result.trades["pnl"][0] == pytest.approx(0.0, abs=1e-6)


def test_limits_follow_the_days_definition(tmp_path: Path) -> None:
    """11.00 is the limit of 10.00, and far from that of 10.90."""
    locked = on_day(1, [11.0, 11.0])
    locked["ask"], locked["ask_size"] = np.nan, 0
    days = on_day(0, [10.85, 10.9])
    for reference, why in ((10.0, "LIMIT_UP"), (10.9, "NO_PRICE")):
        prepared = written(
            tmp_path / str(reference), (shares(pre_close=11.0), days),
            (shares(pre_close=reference), locked),
        )  # fmt: skip
        result = trade_segments(prepared, [orders(), orders((0, BUY))], settings())
        assert result.unfilled == {why: 1}


def test_yesterdays_definition_is_no_reference_for_today(tmp_path: Path) -> None:
    prepared = written(
        tmp_path, (shares(pre_close=10.0), on_day(0, [10.0, 10.0])), (None, on_day(1, [10.0, 10.0]))
    )
    result = trade_segments(prepared, [orders((0, BUY), (2, SELL))], settings())
    assert result.fills["side"].tolist() == [BUY]
    assert result.unfilled == {"NO_REFERENCE": 1}
    assert result.notes == {"days_without_reference": 1}


def test_limits_that_a_definition_states_count_on_any_board(tmp_path: Path) -> None:
    """A future is worth its multiplier, and is not sold below its stated limit."""
    future = instrument_row(
        "IF2101.CFFEX", board=Board.FUTURES, calendar="XSHG", tick_size=0.2, lot=1.0,
        multiplier=300.0, pre_close=5000.0, limit_up=5500.0, limit_down=4500.0,
        day_offset_s=28_800,
    )  # fmt: skip
    ticks = on_day(0, [5000.0, 5000.2, 5010.2, 4500.0])
    ticks["ask"] = ticks["bid"] + 0.2
    ticks["bid"][3], ticks["bid_size"][3], ticks["ask"][3] = np.nan, 0, 4500.0
    config = settings(cash=1e8, fees=False, sizing={"by": "shares", "amount": 2})
    prepared = written(tmp_path, (future, ticks))
    result = trade_segments(prepared, [orders((0, BUY), (1, SELL))], config)
    assert result.trades["pnl"][0] == pytest.approx((5010.2 - 5000.4) * 2 * 300)
    locked = trade_segments(prepared, [orders((0, BUY), (2, SELL))], config)
    assert locked.unfilled == {"LIMIT_DOWN": 1}
