"""What a Python strategy costs beside a compiled rule, for docs/strategies.md.

Trades of four instruments go through a whole pipeline, one a call and in bursts; the bar of one
tick makes every trade close a bar. Callbacks do nothing, so what is timed is the way to them.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.market import market_instruments, market_ticks
from bench.measuring import Figure, Outcome, report

from engine.clock import TickClock
from engine.composition import build_pipeline, resolve
from engine.config import Config
from engine.core.records import TickKind, Ticks
from engine.pipeline import Pipeline
from feeds.burst import ORIGIN
from latency.histogram import StageHistograms
from replay.digest import Collector

INSTRUMENTS: Final = 4
BURST: Final = 4000
TICKS: Final = 20_000

PLUGIN: Final = """
from strategies.python_strategy import Strategy
from strategies.spec import Use

class OnTrade(Strategy):
    name = "on_trade_tick"
    wants_trades = True
    def on_trade_tick(self, tick):
        pass

class OnBar(Strategy):
    name = "on_bar"
    def on_bar(self, bar):
        pass

class OnBarWith(Strategy):
    name = "on_bar_with_macd_and_rsi"
    def indicators(self):
        return {"macd": Use("macd"), "rsi": Use("rsi")}
    def on_bar(self, bar):
        pass
"""
CASES: Final[dict[str, dict[str, Any] | None]] = {
    "nothing": None,
    "rule macd_cross": {"rule": "macd_cross", "params": {"min_histogram_bps": 10_000.0}},
    "on_trade_tick": {"strategy": "on_trade_tick"},
    "on_bar": {"strategy": "on_bar"},
    "on_bar, macd and rsi": {"strategy": "on_bar_with_macd_and_rsi"},
}


def make_pipeline(plugin: Path, strategy: dict[str, Any] | None) -> Pipeline:
    """Build a warm pipeline with one strategy, or none."""
    entries = [{"name": "it", "on": "each", **strategy}] if strategy else []
    tree = {
        "plugins": [plugin],
        "bars": [{"name": "each", "kind": "tick", "size": 1}],
        "strategies": entries,
    }
    pipeline = build_pipeline(
        resolve(Config.model_validate(tree)),
        capacity=INSTRUMENTS,
        sink=Collector(),
        clock=TickClock(),
        histograms=StageHistograms(),
    )
    pipeline.define(market_instruments(INSTRUMENTS))
    pipeline.host.start()
    return pipeline


def time_ns(pipeline: Pipeline, ticks: Ticks, burst: int) -> float:
    """Return nanoseconds a tick in bursts of a size."""
    origins = np.zeros(len(ticks), ORIGIN)
    began = time.perf_counter_ns()
    for at in range(0, len(ticks), burst):
        pipeline.run_ticks(ticks, origins, at, at + burst)
    return (time.perf_counter_ns() - began) / len(ticks)


def time_kernel_ns(pipeline: Pipeline, ticks: Ticks) -> float:
    """Return nanoseconds of the compiled call alone, for one tick."""
    run = pipeline.kernel.run_ticks
    began = time.perf_counter_ns()
    for at in range(len(ticks)):
        run(ticks, at, at + 1)
    return (time.perf_counter_ns() - began) / len(ticks)


def measure(arguments: argparse.Namespace) -> Outcome:
    """Time all cases in turn, round by round."""
    outcome = Outcome("Price of a Python strategy")
    ticks = market_ticks(TICKS, INSTRUMENTS)
    ticks["kind"] = TickKind.TRADE
    with tempfile.TemporaryDirectory() as directory:
        plugin = Path(directory) / "bench_plugin.py"
        plugin.write_text(PLUGIN, encoding="utf-8")
        pipelines = {name: make_pipeline(plugin, one) for name, one in CASES.items()}
        rounds = range(3 if arguments.quick else 9)
        alone = [time_kernel_ns(pipelines["rule macd_cross"], ticks) for _ in rounds]
        outcome.figures.append(Figure.of("the compiled call alone, with the rule", alone, "ns"))
        for burst in (1, BURST):
            runs: dict[str, list[float]] = {name: [] for name in CASES}
            for _ in rounds:
                for name, pipeline in pipelines.items():
                    runs[name].append(time_ns(pipeline, ticks, burst))
            base = statistics.median(runs["nothing"])
            for name, values in runs.items():
                more = [value - base if name != "nothing" else value for value in values]
                case = f"{name}, {'more ' if name != 'nothing' else ''}a tick, bursts of {burst}"
                outcome.figures.append(Figure.of(case, more, "ns"))
    outcome.notes.append("beyond the pipeline without strategies; every tick closes a bar")
    return outcome


if __name__ == "__main__":
    report(measure, __doc__)
