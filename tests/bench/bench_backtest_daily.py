"""Backtest of daily bars of 511 shares against pandas, backtesting.py, backtrader, NautilusTrader.

The rule of ``backtest_rules`` on every symbol. All engines get the same bars, prepared in memory in
their own form before a clock starts, and have to trade the same: every fill of every run is
compared in instrument, time, side, price and commission, pandas' account of every day with ours.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from bench import peers_backtesting, peers_backtrader, peers_nautilus, peers_pandas
from bench.backtest_markets import SHARES_FILE, DailyMarket, Imported, import_log, missing
from bench.backtest_rules import (
    CASH,
    COMMISSION,
    SHARES,
    Filled,
    MismatchError,
    Played,
    check_equal,
    round_trips,
)
from bench.backtest_start import add_start
from bench.backtest_turns import Peer, add_figures, prepared, take_turns
from bench.measuring import Outcome, report
from bench.ours_backtest import Ours, filled_of

from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult

TURNS: Final = 5
FEE: Final = COMMISSION["daily"]
HALF_A_CENT: Final = 0.005


class Peers:
    """All peers over the first symbols of a market."""

    def __init__(self, market: DailyMarket, symbols: int) -> None:
        self.market = market.first(symbols)
        self.symbols = symbols

    def all(self) -> list[Peer]:
        """Prepare them."""
        frame, frame_s = prepared(partial(peers_pandas.prepare_daily, self.market))
        jobs, jobs_s = prepared(partial(peers_backtesting.prepare_daily, self.market, SHARES, FEE))
        lines, lines_s = prepared(partial(peers_backtrader.prepare_daily, self.market))
        loaded, loaded_s = prepared(partial(peers_nautilus.prepare_daily, self.market, FEE))
        exact, rounded = partial(self.check, 0.0), partial(self.check, HALF_A_CENT)
        play, count = peers_backtesting.run, len(self.market.bars)
        self.frame = frame
        return [
            Peer("pandas, vectorised", self.run_pandas, self.check_curve, count, frame_s, None),
            Peer("backtesting.py, its loop alone", partial(play, jobs, FEE), exact, count, jobs_s,
                 None),
            Peer("backtesting.py, with its statistics", partial(play, jobs, FEE, statistics=True),
                 exact, count, jobs_s, complete=True),
            Peer("backtrader", partial(peers_backtrader.run, lines, SHARES, FEE),
                 exact, count, lines_s),
            Peer("NautilusTrader", partial(peers_nautilus.run, loaded, SHARES, None),
                 rounded, count, loaded_s),
        ]  # fmt: skip

    def run_pandas(self) -> Played:
        """Keep the account's days for the check."""
        self.curve = peers_pandas.run_daily(self.frame, SHARES, FEE)
        return self.curve.played

    def ours(self, result: BacktestResult) -> Filled:
        """Return our fills in the peers' symbols."""
        filled = filled_of(result)
        return filled[filled["instrument"] < self.symbols]

    def check(self, cost_within: float, result: BacktestResult, theirs: Filled) -> None:
        """Compare fills."""
        check_equal("the peer", self.ours(result), theirs, cost_within=cost_within)

    def check_curve(self, result: BacktestResult, theirs: Filled) -> None:
        """Compare fills, and every day's account where all symbols are traded."""
        check_equal("pandas", self.ours(result), theirs, cost_within=0.0)
        if self.symbols < len(result.symbols):
            return
        account = self.curve.equity.to_numpy() + CASH
        if not np.allclose(result.equity["equity"], account, rtol=0.0, atol=1e-3):
            raise MismatchError("the account of a day differs from that of pandas")


def measure(arguments: argparse.Namespace) -> Outcome:
    """Play all in turns."""
    outcome = Outcome("Backtest of daily bars against other engines")
    outcome.skipped = missing((SHARES_FILE,))
    if outcome.skipped:
        return outcome
    with tempfile.TemporaryDirectory() as directory:
        imported = import_log("tushare-daily", (SHARES_FILE,), Path(directory) / "shares.hql")
        compare(imported, arguments, outcome)
    return outcome


def compare(imported: Imported, arguments: argparse.Namespace, outcome: Outcome) -> None:
    """Add the figures of paired runs over one log."""
    loaded, load_s = prepared(lambda: Prepared.load([imported.log]))
    market = DailyMarket.of(loaded)
    peers = Peers(market, 60 if arguments.quick else len(market.symbols))
    made = peers.all()
    taken, result = take_turns(Ours("daily", loaded), made, 2 if arguments.quick else TURNS)
    add_figures(outcome, taken, made, len(market.bars), "bar")
    add_start(outcome, "daily", imported, load_s)
    filled = filled_of(result)
    outcome.notes += [
        f"{len(market.bars):,} daily bars of {len(market.symbols)} symbols"
        + (f", the peers' of the first {peers.symbols}" if arguments.quick else "")
        + f"; {len(filled):,} fills, {round_trips(filled):,} of them sales; {result.signals:,} "
        "signals, of which those that change nothing (bought already, nothing to sell) are ours "
        "alone.",
        "All fills of all runs are equal in instrument, day, side, price and commission, in "
        "NautilusTrader commission to half a fen, for its money is rounded; pandas' account of "
        "every day equals ours.",
    ]


if __name__ == "__main__":
    report(measure, __doc__)
