"""The rule in vectorised pandas: no loop over bars, nothing that one trade could tell the next."""

import time
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from bench.backtest_markets import DailyMarket, TickMarket, daily_frame
from bench.backtest_rules import FILLED, LENGTH, Filled, Played

IMPORTS: Final = "pandas"


class Curve(NamedTuple):
    """A run, and the account by day: pandas Series of money, without the cash begun with."""

    played: Played
    equity: Any


def run_daily(frame: Any, shares: float, commission: float) -> Curve:
    """Trade all symbols of a frame, and value the account at every day's end."""
    began = time.perf_counter()
    by_symbol = frame.groupby("instrument", sort=False)
    channel = by_symbol[["high", "low"]].rolling(LENGTH)
    upper = channel["high"].max().groupby(level=0, sort=False).shift().to_numpy()
    lower = channel["low"].min().groupby(level=0, sort=False).shift().to_numpy()
    close = frame["close"].to_numpy()
    wanted = pd.Series(np.where(close > upper, 1.0, np.where(close < lower, 0.0, np.nan)))
    wanted = wanted.groupby(frame["instrument"], sort=False).ffill().fillna(0.0)
    held = wanted.groupby(frame["instrument"], sort=False).shift(fill_value=0.0)
    before = held.groupby(frame["instrument"], sort=False).shift(fill_value=0.0)
    change = held - before
    value = change * frame["open"] * shares
    cost = value.abs() * commission
    days = frame["opened"].dt.normalize()
    table = pd.DataFrame({"day": days, "flow": -value - cost, "symbol": frame["instrument"]})
    table["value"] = held * close * shares
    worth = table.pivot_table(index="day", columns="symbol", values="value").ffill().sum(axis=1)
    equity = table.groupby("day")["flow"].sum().cumsum() + worth
    at = np.flatnonzero(change.to_numpy())
    trades = frame.iloc[at].assign(side=change.iloc[at], cost=cost.iloc[at])
    seconds = time.perf_counter() - began
    return Curve(Played(seconds, _filled_bars(trades, at)), equity)


def _filled_bars(trades: Any, rows: Any) -> Filled:
    filled = np.zeros(len(trades), FILLED)
    filled["instrument"], filled["row"] = trades["instrument"], rows
    filled["ts"] = trades["opened"].astype("i8")
    filled["side"], filled["price"], filled["cost"] = trades["side"], trades["open"], trades["cost"]
    return filled


def prepare_daily(market: DailyMarket) -> Any:
    """Return the frame that is traded."""
    return daily_frame(market)


def prepare_ticks(market: TickMarket) -> Any:
    """Return rows of ticks with the book as of each."""
    columns = {"bid": market.bid, "ask": market.ask, "mid": market.mid, "quote": market.is_quote}
    return pd.DataFrame({**columns, "ts": market.ticks["ts_recv"]})


def run_ticks(frame: Any, shares: float, commission: float) -> Played:
    """Trade one instrument's ticks, and value the position at every one of them."""
    began = time.perf_counter()
    mid = frame.loc[frame["quote"], "mid"]
    channel = mid.rolling(LENGTH)
    upper, lower = channel.max().shift(), channel.min().shift()
    wanted = pd.Series(np.nan, frame.index)
    wanted[mid.index[mid > upper]] = 1.0
    wanted[mid.index[mid < lower]] = 0.0
    held = wanted.ffill().fillna(0.0).shift(fill_value=0.0)
    change = held.diff().fillna(0.0)
    price = frame["ask"].where(change > 0, frame["bid"])
    value = change * price * shares
    cost = value.abs() * commission
    equity = (-value - cost).cumsum() + held * frame["mid"] * shares
    deepest = (equity.cummax() - equity).max()
    at = np.flatnonzero(change.to_numpy())
    seconds = time.perf_counter() - began
    filled = np.zeros(len(at), FILLED)
    filled["ts"], filled["row"], filled["side"] = frame["ts"].iloc[at], at, change.iloc[at]
    filled["price"], filled["cost"] = price.iloc[at], cost.iloc[at]
    if not deepest >= 0:
        raise ValueError(f"a drawdown of {deepest}")
    return Played(seconds, filled)
