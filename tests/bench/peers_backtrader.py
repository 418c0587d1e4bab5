"""The rule in backtrader: one Cerebro a symbol, which is its fastest way.

Its feeds read row by row in Python. Here whole columns are put into the feed's lines, which is what
its reading comes to, so that its time is that of its engine. Its rows are a second apart: its times
are floats of days, which cannot tell the ticks of one millisecond apart, and it fills no order at
the time at which it was made.
"""

import time
from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import backtrader as bt
import numpy as np
import pandas as pd
from bench.backtest_markets import DailyMarket, TickMarket
from bench.backtest_rules import CASH, FILLED, LENGTH, Filled, Played

IMPORTS: Final = "backtrader"
_DAY_S: Final = 86_400
_EPOCH_DAYS: Final = 719_163
"""Days from the peer's epoch to 1970."""
_LINES: Final = ("close", "low", "high", "open", "volume", "openinterest", "datetime")


class Columns(NamedTuple):
    """One symbol's lines by name, float64, and the times of its rows, ns."""

    instrument: int
    lines: dict[str, Any]
    times: Any
    quotes: Any = None


class ArrayFeed(bt.feed.DataBase):  # type: ignore[misc] # untyped base
    """A feed whose lines are there already."""

    def preload(self) -> None:
        """Put the columns in, where reading would have led."""
        for name in self.getlinealiases():
            getattr(self.lines, name).array = array("d", self.p.dataname[name].tobytes())
        self.home()

    def _load(self) -> bool:
        return False


class QuoteChannel(bt.Indicator):  # type: ignore[misc] # untyped base
    """The channel over those rows of a feed that are quotes."""

    lines: Any = ("upper", "lower")
    params = (("quotes", None),)

    def __init__(self) -> None:
        self.addminperiod(LENGTH)

    def next(self) -> None:
        """Work on whole columns only."""
        raise NotImplementedError

    def once(self, start: int, end: int) -> None:
        """Compute both lines for all rows."""
        mids = pd.Series(np.frombuffer(self.data.close.array))
        window = mids[self.p.quotes].rolling(LENGTH)
        for line, values in ((self.lines.upper, window.max()), (self.lines.lower, window.min())):
            line.array[start:end] = array(
                "d", values.reindex(mids.index).ffill().to_numpy()[start:end].tobytes()
            )


class Breakout(bt.Strategy):  # type: ignore[misc] # untyped base
    """The rule."""

    params = (("shares", 0.0), ("quotes", None))

    def __init__(self) -> None:
        if self.p.quotes is None:
            upper = bt.ind.Highest(self.data.high, period=LENGTH)
            lower = bt.ind.Lowest(self.data.low, period=LENGTH)
        else:
            make: Any = QuoteChannel
            channel = make(self.data, quotes=self.p.quotes)
            upper, lower = channel.upper, channel.lower
        self.upper, self.lower, self.close = upper, lower, self.data.close
        self.fills: list[tuple[int, int, float, float]] = []

    def next(self) -> None:
        """Decide on one row."""
        close = self.close[0]
        if not self.position:
            if close > self.upper[-1]:
                self.buy(size=self.p.shares)
        elif close < self.lower[-1]:
            self.sell(size=self.p.shares)

    def notify_order(self, order: Any) -> None:
        """Note what was filled."""
        if order.status == order.Completed:
            done = order.executed
            side = 1 if order.isbuy() else -1
            self.fills.append((len(self.data) - 1, side, done.price, done.comm))


def prepare_daily(market: DailyMarket) -> list[Columns]:
    """Lay out every symbol's lines."""
    return [
        _columns(instrument, {name: bars[name] for name in _LINES[:5]}, bars["ts_open"])
        for instrument in range(len(market.symbols))
        for bars in [market.of_symbol(instrument)]
    ]


def prepare_ticks(market: TickMarket, rows: int) -> list[Columns]:
    """Make bars of the first rows: the mid, with the ask as the high and the bid as the low."""
    prices = {"open": market.mid, "high": market.ask, "low": market.bid, "close": market.mid}
    lines = {name: values[:rows] for name, values in prices.items()}
    lines["volume"] = market.ticks["size"][:rows]
    times = market.ticks["ts_recv"][:rows]
    return [_columns(0, lines, times)._replace(quotes=market.is_quote[:rows])]


def _columns(instrument: int, lines: dict[str, Any], times: Any) -> Columns:
    whole = {name: np.ascontiguousarray(values, "f8") for name, values in lines.items()}
    whole["openinterest"] = np.zeros(len(times))
    whole["datetime"] = _EPOCH_DAYS + np.arange(len(times)) / _DAY_S
    return Columns(instrument, whole, times)


def run(jobs: Sequence[Columns], shares: float, commission: float, *, book: bool = False) -> Played:
    """Run every job.

    Args:
        jobs: What to trade.
        shares: Of every trade.
        commission: As a fraction of the value.
        book: Buys pay the high of a row and sells get its low, for those are ask and bid.
    """
    made = []
    began = time.perf_counter()
    for job in jobs:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=commission)
        if book:
            cerebro.broker.set_slippage_perc(1.0, slip_open=True, slip_match=True)
        cerebro.adddata(ArrayFeed(dataname=job.lines))
        cerebro.addstrategy(Breakout, shares=shares, quotes=job.quotes)
        made.append(cerebro.run()[0])
    seconds = time.perf_counter() - began
    return Played(seconds, np.concatenate([_fills(*pair) for pair in zip(jobs, made, strict=True)]))


def _fills(job: Columns, strategy: Any) -> Filled:
    filled = np.zeros(len(strategy.fills), FILLED)
    for at, (row, side, price, cost) in enumerate(strategy.fills):
        filled[at] = (job.instrument, int(job.times[row]), row, side, price, cost)
    return filled
