"""A backtest over 511 A-shares: it equals its twin, and keeps the market's rules on every fill."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datafiles import data_file
from reference.backtest_twin import Market, Matrix, read_market, trade_breakouts

from engine.composition import Blueprint, resolve
from engine.config import Config
from feeds.importers.options import ImportOptions
from feeds.importers.run import ImportKind, import_files
from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult
from replay.backtest.run import backtest

pytestmark = [pytest.mark.data, pytest.mark.slow]
LENGTH = 20
SHARES = "cn_a_share_daily/daily_raw_511_symbols.parquet"
OFF = {"max_position": 0, "max_gross": 0, "max_signals": 0, "max_signals_per_strategy": 0}


def blueprint(**tables: Any) -> Blueprint:
    strategy = {"name": "breakout", "rule": "donchian_breakout", "on": "tick",
                "params": {"length": LENGTH}}  # fmt: skip
    return resolve(Config.model_validate({"strategies": [strategy], **tables}))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    log = tmp_path_factory.mktemp("shares") / "shares.hql"
    report = import_files(ImportKind.TUSHARE_DAILY, (data_file(SHARES),), log, ImportOptions())
    made = Prepared.load([log])
    assert made.records == report.rows == pq.read_metadata(data_file(SHARES)).num_rows
    return made


@pytest.fixture(scope="module")
def market() -> Market:
    return read_market(data_file(SHARES))


@pytest.fixture(scope="module")
def busy(prepared: Prepared) -> BacktestResult:
    """All that is signalled is ordered: the simulator alone keeps the market's rules."""
    limits = {"limits": OFF, "market": {"price_limits": False, "settlement": False}}
    sizing = {"cash": 1e9, "sizing": {"by": "cash", "amount": 50_000}}
    return backtest(prepared, blueprint(risk=limits, backtest=sizing))


def dates(ts_ns: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return Beijing's date of times, yyyymmdd."""
    days = (np.asarray(ts_ns) + 8 * 3600 * 10**9).astype("datetime64[ns]").astype("datetime64[D]")
    return np.array([int(str(day).replace("-", "")) for day in days], np.int64)


def bars_of_fills(
    result: BacktestResult, market: Market
) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Return each fill's daily bar, column by column."""
    rows = np.searchsorted(market.days, dates(result.fills["ts"]))
    place = {symbol: column for column, symbol in enumerate(market.symbols)}
    columns = np.array([place[result.symbols[i]] for i in result.fills["instrument"]])
    names = ("open", "high", "low", "close", "pre_close")
    return {name: getattr(market, name)[rows, columns] for name in names}, result.fills


def test_a_breakout_strategy_equals_its_twin_to_the_last_trade(
    prepared: Prepared, market: Market
) -> None:
    twin = trade_breakouts(market, LENGTH, 100_000.0, 1e9)
    free = {"limits": OFF, "market": {"price_limits": False, "settlement": False}}
    trading = {"cash": 1e9, "order_life": "2000d"}
    result = backtest(prepared, blueprint(risk=free, backtest=trading))
    result.check()
    found = [
        (
            result.symbols[t["instrument"]],
            int(dates([t["ts_entry"]])[0]),
            0 if t["open"] else int(dates([t["ts_exit"]])[0]),
            t["quantity"],
            t["price_entry"],
            t["price_exit"],
            t["pnl"],
        )
        for t in result.trades
    ]
    assert result.signals == twin.signals > 1_000
    assert result.unfilled == twin.missed
    assert len(result.fills) == twin.fills
    found.sort()
    twin.trades.sort()
    assert [one[:4] for one in found] == [one[:4] for one in twin.trades]
    numbers = [np.array([one[4:] for one in trades]) for trades in (found, twin.trades)]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-12, atol=1e-6)
    np.testing.assert_allclose(result.equity["equity"], twin.equity, rtol=0, atol=1e-4)


def test_rows_trades_and_money_reconcile(busy: BacktestResult, prepared: Prepared) -> None:
    busy.check()
    assert busy.records == prepared.records
    assert len(busy.equity) == 326
    assert len(busy.trades) > 1_000
    bought = busy.fills[busy.fills["side"] > 0]
    assert len(bought) == len(busy.trades)
    paid = float((bought["price"] * bought["quantity"]).sum())
    assert busy.equity["bought"].sum() == pytest.approx(paid)


def test_no_fill_is_on_a_locked_limit_or_a_suspended_day(
    busy: BacktestResult, market: Market
) -> None:
    bars, fills = bars_of_fills(busy, market)
    assert not np.isnan(bars["open"]).any(), "a fill on a day without a bar"
    up = (np.rint(bars["pre_close"] * 100).astype(np.int64) * 110 + 50) // 100 / 100
    down = (np.rint(bars["pre_close"] * 100).astype(np.int64) * 90 + 50) // 100 / 100
    buys = fills["side"] > 0
    locked_up = (bars["low"] > up - 0.005) & buys
    locked_down = (bars["high"] < down + 0.005) & ~buys
    assert not locked_up.any()
    assert not locked_down.any()
    one_price = bars["high"] == bars["low"]
    assert not (one_price & buys & (bars["close"] > bars["pre_close"])).any()
    assert not (one_price & ~buys & (bars["close"] < bars["pre_close"])).any()
    assert ((fills["price"] >= bars["low"] - 1e-9) & (fills["price"] <= bars["high"] + 1e-9)).all()
    assert {"LIMIT_UP", "ONE_PRICE"} <= set(busy.unfilled)


def test_nothing_is_sold_on_the_day_it_was_bought(busy: BacktestResult) -> None:
    done = busy.trades[busy.trades["open"] == 0]
    assert (dates(done["ts_exit"]) > dates(done["ts_entry"])).all()


def test_every_fee_is_a_whole_number_of_fen(busy: BacktestResult) -> None:
    for name in ("commission", "tax", "transfer_fee"):
        fen = busy.fills[name] * 100
        np.testing.assert_allclose(fen, np.rint(fen), atol=1e-7)
    buys = busy.fills["side"] > 0
    assert not busy.fills["tax"][buys].any()
    assert busy.fills["tax"][~buys].all()


def test_a_trades_drawdown_is_the_deepest_fall_of_its_adjusted_value(
    prepared: Prepared, market: Market
) -> None:
    free = {"limits": OFF, "market": {"price_limits": False, "settlement": False}}
    trading = {"cash": 1e12, "lots": False, "fees": False, "sizing": {"by": "cash", "amount": 1e6}}
    result = backtest(prepared, blueprint(risk=free, backtest=trading))
    place = {symbol: column for column, symbol in enumerate(market.symbols)}
    for trade in result.trades:
        column = place[result.symbols[trade["instrument"]]]
        first, last = (
            int(np.searchsorted(market.days, dates([trade[name]])[0]))
            for name in ("ts_entry", "ts_exit")
        )
        rows = slice(first, last + 1 if trade["open"] else last)
        close, pre = market.close[rows, column], market.pre_close[rows, column]
        there = ~np.isnan(close)
        growth = close[there] / pre[there]
        growth[0] = close[there][0] / trade["price_entry"]
        worth = np.concatenate([[1.0], np.cumprod(growth)])
        if not trade["open"]:
            worth = np.append(worth, 1.0 + trade["return"])
        fall = 1.0 - worth / np.maximum.accumulate(worth)
        assert trade["drawdown"] == pytest.approx(fall.max(), abs=2e-3)


def adjust(market: Market) -> tuple[Matrix, Matrix, Matrix]:
    """Return adjusted opens, adjusted last closes and the number of ex-right days up to each day.

    Adjusted prices follow close over reference, trading day by trading day.
    """
    traded = ~np.isnan(market.close)
    latest = np.maximum.accumulate(np.where(traded, np.arange(len(traded))[:, None], 0))
    last = np.take_along_axis(market.close, latest, axis=0)
    lowered = last[:-1] - market.pre_close[1:] > 0.005
    growth = np.where(traded, market.close / market.pre_close, 1.0)
    closes: Matrix = growth.cumprod(axis=0)
    opens = closes * market.open / market.close
    return opens, closes, np.cumsum(np.pad(lowered, ((1, 0), (0, 0))), axis=0)


def test_trades_across_ex_right_days_earn_what_adjusted_prices_say(
    prepared: Prepared, market: Market
) -> None:
    """From the open at which a trade began to the one at which it ended, or to the last close.

    They are so large that the fraction of a share, paid in cash on an ex-right day, is nothing.
    """
    rule = {"name": "revert", "rule": "zscore_reversion", "on": "tick",
            "params": {"length": 5, "entry": 0.5, "rearm": 0.1}}  # fmt: skip
    sizing = {"cash": 1e12, "lots": False, "sizing": {"by": "cash", "amount": 1e9}}
    tree = {
        "strategies": [rule],
        "risk": {"limits": OFF, "market": {"price_limits": False, "settlement": False}},
        "backtest": {"fees": False, **sizing},
    }
    result = backtest(prepared, resolve(Config.model_validate(tree)))
    result.check()
    trades, is_open = result.trades, result.trades["open"] == 1
    place = {symbol: column for column, symbol in enumerate(market.symbols)}
    column = np.array([place[result.symbols[i]] for i in trades["instrument"]])
    entry, end = (
        np.searchsorted(market.days, dates(trades[name])) for name in ("ts_entry", "ts_exit")
    )
    opens, closes, ex_rights = adjust(market)
    growth = np.where(is_open, closes[-1, column], opens[end, column]) / opens[entry, column]
    earned = 1.0 + trades["pnl"] / (trades["quantity"] * trades["price_entry"])
    np.testing.assert_allclose(earned, growth, rtol=1e-6)
    crossed = ex_rights[np.where(is_open, -1, end), column] > ex_rights[entry, column]
    assert result.notes["ex_right_days"] == ex_rights[-1].sum() > 400
    assert np.count_nonzero(crossed & ~is_open) > 100
    assert np.count_nonzero(crossed & is_open) > 0
