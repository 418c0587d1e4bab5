"""The rule in backtesting.py: one symbol a run, which is all that it can.

A run ends with some thirty statistics. They can be left out here, for HEQIS makes none either.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from bench.backtest_markets import DailyMarket, TickMarket
from bench.backtest_rules import CASH, FILLED, LENGTH, Filled, Played

IMPORTS: Final = "backtesting"


class Job(NamedTuple):
    """One symbol's ``Backtest``, and the times of its rows, ns."""

    instrument: int
    test: Any
    times: Any


def make_strategy(shares: float, quotes: Any = None) -> type:
    """Return the rule as the peer's strategy class.

    Args:
        shares: Of every trade.
        quotes: Rows that are samples, where not all are.
    """
    from backtesting import Strategy

    def extreme(values: Any, how: str) -> Any:
        series = pd.Series(values)
        sampled = series if quotes is None else series[quotes]
        return getattr(sampled.rolling(LENGTH), how)().reindex(series.index).ffill().to_numpy()

    class Breakout(Strategy):  # type: ignore[misc] # untyped base
        def init(self) -> None:
            self.upper = self.I(extreme, self.data.High, "max")
            self.lower = self.I(extreme, self.data.Low, "min")

        def next(self) -> None:
            close = self.data.Close[-1]
            if not self.position:
                if close > self.upper[-2]:
                    self.buy(size=shares)
            elif close < self.lower[-2]:
                self.position.close()

    return Breakout


def _job(instrument: int, frame: Any, strategy: type, commission: float, times: Any) -> Job:
    from backtesting import Backtest

    return Job(instrument, Backtest(frame, strategy, cash=CASH, commission=commission), times)


def prepare_daily(market: DailyMarket, shares: float, commission: float) -> list[Job]:
    """Make a frame and a ``Backtest`` a symbol."""
    strategy = make_strategy(shares)
    jobs = []
    for instrument in range(len(market.symbols)):
        bars = market.of_symbol(instrument)
        names = ("open", "high", "low", "close", "volume")
        columns = {name.title(): bars[name].astype("f8") for name in names}
        frame = pd.DataFrame(columns, index=pd.to_datetime(bars["ts_open"]))
        jobs.append(_job(instrument, frame, strategy, commission, bars["ts_open"]))
    return jobs


def prepare_ticks(market: TickMarket, shares: float, commission: float) -> list[Job]:
    """Make bars of one price, the mid as of each tick: the peer knows no book."""
    columns = dict.fromkeys(("Open", "High", "Low", "Close"), market.mid)
    frame = pd.DataFrame(columns, index=pd.to_datetime(market.ordered))
    strategy = make_strategy(shares, market.is_quote)
    return [_job(0, frame, strategy, commission, market.ticks["ts_recv"])]


@contextmanager
def _quiet(*, statistics: bool) -> Iterator[None]:
    """Leave out progress bars, warnings of open trades and, if so wished, the statistics."""
    from backtesting import backtesting as module

    kept = module._tqdm, module.compute_stats
    module._tqdm = lambda rows, **_: rows
    if not statistics:
        module.compute_stats = lambda trades, **_: {"_trades": trades}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        module._tqdm, module.compute_stats = kept


def run(jobs: Sequence[Job], commission: float, *, statistics: bool = False) -> Played:
    """Run every job."""
    with _quiet(statistics=statistics):
        began = time.perf_counter()
        brokers = [_keeping_broker(job) for job in jobs]
        seconds = time.perf_counter() - began
    parts = [_fills(job, broker, commission) for job, broker in zip(jobs, brokers, strict=True)]
    return Played(seconds, np.concatenate(parts))


def _keeping_broker(job: Job) -> Any:
    """Run a job; return its broker, which also knows the trade that is open at the end."""
    made = []
    make = job.test._broker

    def keep(**arguments: Any) -> Any:
        made.append(make(**arguments))
        return made[-1]

    job.test._broker = keep
    try:
        job.test.run()
    finally:
        job.test._broker = make
    return made[0]


def _fills(job: Job, broker: Any, commission: float) -> Filled:
    rows: list[tuple[int, int, float, float]] = []
    for trade in [*broker.closed_trades, *broker.trades]:
        size = abs(trade.size)
        rows.append((trade.entry_bar, 1, trade.entry_price, size))
        if trade.exit_bar is not None:
            rows.append((trade.exit_bar, -1, trade.exit_price, size))
    filled = np.zeros(len(rows), FILLED)
    filled["instrument"] = job.instrument
    for at, (row, side, price, size) in enumerate(sorted(rows)):
        cost = price * size * commission
        filled[at] = (job.instrument, int(job.times[row]), row, side, price, cost)
    return filled
