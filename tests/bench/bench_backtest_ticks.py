"""Backtest of AIG's quotes and trades of 2013-10-07 against the same four.

The rule of ``backtest_rules`` on the mid of every quote, filled at the next tick: buys at the ask,
sells at the bid. Every fill of every run is compared with what the engine's own rules give.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from bench import peers_backtesting, peers_backtrader, peers_nautilus, peers_pandas
from bench.backtest_markets import AIG_FILES, Imported, TickMarket, import_log, missing
from bench.backtest_rules import COMMISSION, SHARES, Filled, check_equal, round_trips
from bench.backtest_start import add_start
from bench.backtest_turns import Peer, add_figures, prepared, take_turns
from bench.measuring import Outcome, report
from bench.ours_backtest import Ours, filled_of

from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult

TURNS: Final = 5
BACKTRADER_ROWS: Final = 200_000
FEE: Final = COMMISSION["ticks"]
HALF_A_CENT: Final = 0.005


class Peers:
    """All peers over one day of ticks."""

    def __init__(self, market: TickMarket, rows: int) -> None:
        self.market, self.rows = market, rows

    def all(self) -> list[Peer]:
        """Prepare them."""
        market, count = self.market, len(self.market.ticks)
        frame, frame_s = prepared(partial(peers_pandas.prepare_ticks, market))
        jobs, jobs_s = prepared(partial(peers_backtesting.prepare_ticks, market, SHARES, FEE))
        lines, lines_s = prepared(partial(peers_backtrader.prepare_ticks, market, self.rows))
        loaded, loaded_s = prepared(partial(peers_nautilus.prepare_ticks, market, FEE))
        self.twin = peers_pandas.run_ticks(frame, SHARES, FEE).filled
        play = peers_backtesting.run
        return [
            Peer("pandas, vectorised", partial(peers_pandas.run_ticks, frame, SHARES, FEE),
                 self.check_pandas, count, frame_s, None),
            Peer("backtesting.py, its loop alone", partial(play, jobs, FEE),
                 self.check_at_mid, count, jobs_s),
            Peer("backtrader", partial(peers_backtrader.run, lines, SHARES, FEE, book=True),
                 self.check_first, self.rows, lines_s),
            Peer("NautilusTrader", partial(peers_nautilus.run, loaded, SHARES, market.ordered),
                 self.check_nautilus, len(loaded.objects), loaded_s),
        ]  # fmt: skip

    def check_pandas(self, result: BacktestResult, theirs: Filled) -> None:
        """Compare ours with pandas' fills, put off where we do not fill at odd ticks."""
        at = self.market.fitting[theirs["row"]]
        check_equal("pandas", filled_of(result), self.at_book(theirs, at), cost_within=0.0)

    def at_book(self, filled: Filled, rows: np.ndarray) -> Filled:
        """Return fills as they are at other rows; after a crossed quote there is no book."""
        market = self.market
        moved = filled.copy()
        moved["row"], moved["ts"] = rows, market.ticks["ts_recv"][rows]
        price = np.where(moved["side"] > 0, market.ask[rows], market.bid[rows])
        bookless = market.bid[rows] > market.ask[rows]
        return self.priced(moved, np.where(bookless, market.ticks["price"][rows], price))

    def priced(self, filled: Filled, price: np.ndarray) -> Filled:
        """Return fills at other prices."""
        moved = filled.copy()
        moved["price"], moved["cost"] = price, price * SHARES * FEE
        return moved

    def check_at_mid(self, result: BacktestResult, theirs: Filled) -> None:
        """Compare with fills at the mid."""
        expected = self.priced(self.twin, self.market.mid[self.twin["row"]])
        check_equal("backtesting.py", expected, theirs, cost_within=0.0)

    def check_first(self, result: BacktestResult, theirs: Filled) -> None:
        """Compare with the fills in the first rows."""
        expected = self.twin[self.twin["row"] < self.rows]
        check_equal("backtrader", expected, theirs, cost_within=0.0)

    def check_nautilus(self, result: BacktestResult, theirs: Filled) -> None:
        """Compare with fills at the book as the peer sees it: after a trade that is the trade."""
        market, rows = self.market, self.twin["row"]
        traded = ~market.is_quote[rows]
        price = np.where(traded, market.ticks["price"][rows], self.twin["price"])
        theirs = theirs.copy()
        theirs["ts"] = market.ticks["ts_recv"][theirs["row"]]
        expected = self.priced(self.twin, price)
        check_equal("NautilusTrader", expected, theirs, cost_within=HALF_A_CENT)

    def put_off(self) -> int:
        """Return how many of our fills an odd tick or a crossed book makes different."""
        ours = self.at_book(self.twin, self.market.fitting[self.twin["row"]])
        return int(np.count_nonzero(ours != self.twin))

    def at_trades(self) -> int:
        """Return how many fills come at a trade."""
        return int(np.count_nonzero(~self.market.is_quote[self.twin["row"]]))


def measure(arguments: argparse.Namespace) -> Outcome:
    """Play all in turns."""
    outcome = Outcome("Backtest of ticks against other engines")
    outcome.skipped = missing(AIG_FILES)
    if outcome.skipped:
        return outcome
    with tempfile.TemporaryDirectory() as directory:
        imported = import_log("us-equity-tick", AIG_FILES, Path(directory) / "aig.hql")
        compare(imported, arguments, outcome)
    return outcome


def compare(imported: Imported, arguments: argparse.Namespace, outcome: Outcome) -> None:
    """Add the figures of paired runs over one log."""
    loaded, load_s = prepared(lambda: Prepared.load([imported.log]))
    market = TickMarket.of(loaded)
    peers = Peers(market, BACKTRADER_ROWS // 4 if arguments.quick else BACKTRADER_ROWS)
    made = peers.all()
    taken, result = take_turns(Ours("ticks", loaded), made, 2 if arguments.quick else TURNS)
    add_figures(outcome, taken, made, loaded.records, "tick")
    add_start(outcome, "ticks", imported, load_s)
    outcome.notes += notes_of(peers, result)


def notes_of(peers: Peers, result: BacktestResult) -> list[str]:
    """Say what was compared, and where rules differ."""
    filled = filled_of(result)
    return [
        f"{result.records:,} ticks, {len(filled):,} fills, {round_trips(filled):,} of them sales; "
        f"backtrader gets the first {peers.rows:,} ticks.",
        "Fills of all runs are equal in time, side, price and commission where the engines' rules "
        f"are. They are not in these. {peers.put_off()} of our fills wait for a tick that is "
        "neither crossed nor irregular, or come at a trade's price after a crossed quote: rules "
        "of ours alone. backtesting.py knows one price a row and fills at the mid. NautilusTrader "
        f"takes a trade's price for bid and ask, which {peers.at_trades()} fills meet, and rounds "
        "commission to cents. All of these are checked to be exactly that.",
        "Rows of trades are no samples: the channel of pandas, backtesting.py and backtrader is "
        "computed for all quotes at once. backtrader gets a quote as a bar from bid to ask, and "
        "slips to its ends. backtesting.py's statistics are left out.",
    ]


if __name__ == "__main__":
    report(measure, __doc__)
