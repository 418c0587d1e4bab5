"""The latency lab: whether it sees a stall, and how late its own injector is.

The stall is a strategy that sleeps for 200 ms on one trade. The lab's figures are those of
``heqis latency run``: from the time a tick was due to its signal in a client's hands.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import uvloop
from bench.market import market_instruments, market_ticks
from bench.measuring import Figure, Outcome, report, say
from bench.processes import ROOT

from engine.config import Config
from feeds.log_writer import LogWriter
from latency.counts import StageCounts
from replay.lab.campaign import Campaign
from replay.lab.measured import END_TO_END, INJECTOR, NAIVE, NOISE
from replay.lab.results import Run
from replay.lab.settings import LabSettings

S: Final = 1_000_000_000
RATE: Final = 20_000
STALL_RATE: Final = 1_000
STALL_AT: Final = 2_500
"""Half of the ticks are trades: after five seconds."""
STALL_MS: Final = 200
SECONDS: Final = 10
RUNS: Final = 5
LATE_NS: Final = 1_000_000
INSTRUMENTS: Final = 20


def lab_tree(stall_ms: int, every: str) -> dict[str, Any]:
    """Return a configuration whose strategies signal often enough for a p99.9."""
    off = dict.fromkeys(
        ("max_signals_per_instrument", "max_signals_per_strategy", "max_signals"), 0
    )
    stalling = {
        "name": "stalling", "strategy": "Stalling", "on": "trade",
        "params": {"stall_at": STALL_AT, "stall_ms": stall_ms},
    }  # fmt: skip
    cross = {"name": "macd", "rule": "macd_cross", "on": "20t"}
    return {
        "plugins": [str(ROOT / "tests/bench/stalling.py")],
        "bars": [{"name": "20t", "kind": "tick", "size": 20}],
        "strategies": [stalling if every == "trade" else cross],
        "risk": {
            "limits": {"max_position": 0, "cool_down": 0, **off},
            "cost": {"check_edge": False},
            "liquidity": {"require_book": "never", "min_depth_notional": 0.0},
        },
    }


def run_lab(directory: Path, rate: int, tree: dict[str, Any], runs: int) -> list[Run]:
    """Make so many runs of one rate; a line is said of each."""
    path = directory / f"market-{rate}.hql"
    ticks = market_ticks(rate * (SECONDS + 3), INSTRUMENTS, S // rate)
    with LogWriter(path, market_instruments(INSTRUMENTS), epoch=1, overwrite=True) as writer:
        writer.write_ticks(ticks)
    settings = LabSettings(path, repeats=runs, length_ns=SECONDS * S, lateness_budget_ns=60 * S)
    campaign = Campaign(Config.model_validate(tree), settings, lambda text: None)
    result = uvloop.run(campaign.run(directory, lambda run: say(line_of(run))))
    return result.runs


def us_at(counts: StageCounts, percentile: float) -> float:
    """Return a percentile in microseconds."""
    return float(counts.values_at([percentile])[0]) / 1e3


def line_of(run: Run) -> str:
    """Return a run in a line."""
    told = [
        f"{stage} p99.9 {us_at(run.stages[stage], 99.9):,.0f} us"
        for stage in (END_TO_END, NAIVE, INJECTOR, NOISE)
    ]
    return f"{run.ticks_per_s:,.0f} ticks/s: {', '.join(told)}"


def measure(arguments: argparse.Namespace) -> Outcome:
    """Measure the injector at 20,000 ticks/s, then a stall."""
    outcome = Outcome("The latency lab")
    runs = 2 if arguments.quick else RUNS
    with tempfile.TemporaryDirectory() as name:
        fast = run_lab(Path(name), RATE, lab_tree(0, "20t"), runs)
        stalled = run_lab(Path(name), STALL_RATE, lab_tree(STALL_MS, "trade"), runs)

    def add(case: str, of: list[Run], stage: str, percentile: float, **target: float) -> None:
        values = [us_at(run.stages[stage], percentile) for run in of]
        outcome.figures.append(Figure.of(case, values, "µs", **target))

    head = f"{RATE:,} ticks/s"
    budget_us = LATE_NS / 1e3
    add(f"{head}: injector late, p99.9", fast, INJECTOR, 99.9, at_most=budget_us)
    add(f"{head}: injector late, p99", fast, INJECTOR, 99)
    add(f"{head}: scheduling noise beside, p99.9", fast, NOISE, 99.9)
    add(f"{head}: tick to client, p99", fast, END_TO_END, 99)
    head = f"stall of {STALL_MS} ms"
    least, most = 0.8 * STALL_MS * 1e3, 0.1 * STALL_MS * 1e3
    add(f"{head}: p99.9 from intended time", stalled, END_TO_END, 99.9, at_least=least)
    add(f"{head}: p99.9 if senders waited", stalled, NAIVE, 99.9, at_most=most)
    ratios = [
        us_at(run.stages[END_TO_END], 99.9) / us_at(run.stages[NAIVE], 99.9) for run in stalled
    ]
    outcome.figures.append(Figure.of(f"{head}: ratio of the two", ratios, "x"))
    outcome.notes.append(
        f"Runs of {SECONDS} s after a second of warm-up, one client; at {RATE:,} ticks/s the rule "
        f"macd_cross on bars of 20 ticks, for the stall {STALL_RATE:,} ticks/s and a Python "
        "strategy that signals on every trade and sleeps on one."
    )
    return outcome


if __name__ == "__main__":
    report(measure, __doc__)
