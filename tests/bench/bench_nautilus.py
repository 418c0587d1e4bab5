"""``replay --pace max`` against NautilusTrader's backtest engine: the same ticks, the same logic.

The log is AIG of 2013-10-07: 1.1 million quotes and trades. Both compute MACD and RSI on the mid
of every quote and decide on crossings, by the definition in ``strategies/rules/macd_rsi.py``.
"""

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench.measuring import Figure, Outcome, report, say

from engine.composition import resolve
from engine.config import Config
from engine.core.records import TickKind, Ticks
from feeds.log_merge import merged_ticks
from feeds.log_reader import LogReader
from replay.player import Result, play

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = [
    ROOT.parent / "shared/data/us_equity_tick" / f"aig_20131007_{kind}.zip"
    for kind in ("quote", "trade")
]
PAIRS: Final = 5
OURS_A_PAIR: Final = 5
PARAMETERS: Final = {
    "fast": 12, "slow": 26, "signal": 9, "rsi_length": 14, "oversold": 30.0, "overbought": 70.0,
}  # fmt: skip


class Peer(NamedTuple):
    """One run of the peer, seconds and decisions."""

    run_s: float
    load_s: float
    decisions: int


def import_log(directory: Path) -> Path:
    """Import the recorded day as a user would."""
    log = directory / "aig.hql"
    command = [sys.executable, "-m", "engine.cli", "import", "us-equity-tick"]
    subprocess.run(
        [*command, *map(str, SOURCES), "-o", str(log), "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return log


def play_ours(log: Path) -> tuple[Result, float]:
    """Replay the log; also return the seconds from opening it to the result."""
    entry = {"name": "macd_rsi", "rule": "macd_rsi", "on": "quote", "params": PARAMETERS}
    blueprint = resolve(Config.model_validate({"bars": [], "strategies": [entry]}))
    began = time.perf_counter()
    result = play([log], blueprint)
    return result, time.perf_counter() - began


def build_objects(ticks: Ticks, instrument: Any) -> list[Any]:
    """Make the peer's own tick objects from the same records."""
    from nautilus_trader.model.data import QuoteTick, TradeTick
    from nautilus_trader.model.enums import AggressorSide
    from nautilus_trader.model.identifiers import TradeId

    made: list[Any] = []
    price, size = instrument.make_price, instrument.make_qty
    name, nobody = instrument.id, AggressorSide.NO_AGGRESSOR
    both = (ticks["bid"] > 0) & (ticks["ask"] > 0)
    for number, (tick, whole) in enumerate(zip(ticks.tolist(), both.tolist(), strict=True)):
        event, recv, last, quantity, _, bid, ask, bid_size, ask_size, _, kind, *_ = tick
        if kind == TickKind.TRADE:
            identity = TradeId(str(number))
            trade = (name, price(last), size(quantity), nobody, identity, event, recv)
            made.append(TradeTick(*trade))
        elif kind == TickKind.QUOTE and whole:
            prices = price(bid), price(ask), size(bid_size), size(ask_size)
            made.append(QuoteTick(name, *prices, event, recv))
    return made


def make_strategy(instrument: Any) -> Any:
    """Make the peer's strategy out of the peer's indicators."""
    from nautilus_trader.indicators import (
        ExponentialMovingAverage,
        MovingAverageConvergenceDivergence,
        MovingAverageType,
        RelativeStrengthIndex,
    )
    from nautilus_trader.trading.strategy import Strategy

    oversold, overbought = PARAMETERS["oversold"] / 100, PARAMETERS["overbought"] / 100

    class MacdRsi(Strategy):  # type: ignore[misc] # untyped base
        def __init__(self) -> None:
            super().__init__()
            self.macd = MovingAverageConvergenceDivergence(PARAMETERS["fast"], PARAMETERS["slow"])
            self.signal = ExponentialMovingAverage(PARAMETERS["signal"])
            self.rsi = RelativeStrengthIndex(PARAMETERS["rsi_length"], MovingAverageType.WILDER)
            self.before: float | None = None
            self.decisions = 0

        def on_start(self) -> None:
            self.subscribe_quote_ticks(instrument.id)
            self.subscribe_trade_ticks(instrument.id)

        def on_quote_tick(self, tick: Any) -> None:
            mid = (tick.bid_price.as_double() + tick.ask_price.as_double()) * 0.5
            macd, signal = self.macd, self.signal
            macd.update_raw(mid)
            self.rsi.update_raw(mid)
            if not macd.initialized:
                return
            signal.update_raw(macd.value)
            if not (signal.initialized and self.rsi.initialized):
                return
            now, before = macd.value - signal.value, self.before
            self.before = now
            if before is None:
                return
            rising = before <= 0.0 < now and self.rsi.value < overbought
            if rising or (before >= 0.0 > now and self.rsi.value > oversold):
                self.decisions += 1

        def on_trade_tick(self, tick: Any) -> None:
            pass

    return MacdRsi()


def play_peer(objects: list[Any], instrument: Any) -> Peer:
    """Run the peer's backtest engine over objects that are there already."""
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.enums import AccountType, OmsType
    from nautilus_trader.model.objects import Money

    config = BacktestEngineConfig(
        logging=LoggingConfig(bypass_logging=True), run_analysis=False, trader_id="BENCH-001"
    )
    engine = BacktestEngine(config)
    engine.add_venue(
        instrument.id.venue, OmsType.NETTING, AccountType.CASH, [Money(1_000_000, USD)], USD
    )
    engine.add_instrument(instrument)
    strategy = make_strategy(instrument)
    began = time.perf_counter()
    engine.add_data(objects)
    loaded = time.perf_counter()
    engine.add_strategy(strategy)
    started = time.perf_counter()
    engine.run()
    ended = time.perf_counter()
    engine.dispose()
    return Peer(ended - started, loaded - began, strategy.decisions)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector from walking a million tick objects, to the peer's advantage."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def make_instrument() -> Any:
    """Return the peer's definition of the share."""
    from nautilus_trader.test_kit.providers import TestInstrumentProvider

    return TestInstrumentProvider.equity(symbol="AIG", venue="US")


def measure(arguments: argparse.Namespace) -> Outcome:
    """Play both in turn."""
    outcome = Outcome("Replay at full speed against NautilusTrader's backtest engine")
    missing = [str(path) for path in SOURCES if not path.exists()]
    if missing:
        outcome.skipped = f"recorded data is not here: {', '.join(missing)}"
        return outcome
    with tempfile.TemporaryDirectory() as directory:
        compare(import_log(Path(directory)), 3 if arguments.quick else PAIRS, outcome)
    return outcome


def compare(log: Path, pairs: int, outcome: Outcome) -> None:
    """Add the figures of ``pairs`` paired runs over one log."""
    instrument = make_instrument()
    with LogReader(log) as reader:
        ticks = np.concatenate(list(merged_ticks([reader])))
    began = time.perf_counter()
    objects = build_objects(ticks, instrument)
    build_s = time.perf_counter() - began
    play_ours(log)
    ours, peers = [], []
    with quiet_collector():
        for turn in range(pairs):
            best = sorted((play_ours(log) for _ in range(OURS_A_PAIR)), key=lambda o: o[0].wall_s)
            ours.append(best[OURS_A_PAIR // 2])
            peers.append(play_peer(objects, instrument))
            say(f"pair {turn + 1}: {ours[-1][0].wall_s:.4f} s and {peers[-1].run_s:.3f} s")
    count = len(ticks)
    results = [result for result, _ in ours]
    loaded = [build_s + peer.load_s + peer.run_s for peer in peers]
    pairs_of = list(zip(peers, results, strict=True))
    whole = [whole_s for _, whole_s in ours]
    outcome.figures += [
        Figure.of("HEQIS replay", [count / r.wall_s for r in results], "ticks/s"),
        Figure.of("NautilusTrader run", [len(objects) / p.run_s for p in peers], "ticks/s"),
        Figure.of("speed-up", [p.run_s / r.wall_s for p, r in pairs_of], "x", at_least=50),
        Figure.of("HEQIS, opening the log and loading the kernel included", whole, "s"),
        Figure.of("NautilusTrader, building and adding its tick objects included", loaded, "s"),
        Figure.of(
            "speed-up, with both inclusions",
            [peer / own for peer, own in zip(loaded, whole, strict=True)],
            "x",
        ),
    ]
    outcome.notes += notes_of(results[0], peers[0], count, len(objects))


def notes_of(result: Result, peer: Peer, count: int, objects: int) -> list[str]:
    """Say what was compared, and what came out of it."""
    proposals = result.signals + sum(result.refusals.values())
    return [
        f"{count:,} ticks, of which NautilusTrader gets {objects:,} (it has no one-sided quotes).",
        "HEQIS's time includes CRC, sequence and record checks of the log, the risk gate and the "
        "latency histograms; only its first burst, a 270th of the log, is decoded before the "
        "clock starts. NautilusTrader's tick objects are built and sorted before its "
        "clock starts, its log is bypassed, its analysis off and the garbage collector is stopped.",
        f"HEQIS proposed {proposals:,} times, of which the risk gate let {result.signals:,} "
        f"through; NautilusTrader decided {peer.decisions:,} times, with no gate. The two seed "
        "their averages differently (HEQIS as TA-Lib does: with the mean of the first samples), "
        "so the first few hundred quotes differ, and later decisions where a value is within "
        "rounding of its bound.",
    ]


if __name__ == "__main__":
    report(measure, __doc__)
