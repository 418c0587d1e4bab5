"""HEQIS's side of the backtest comparisons: the rule as a configuration, free of market rules.

As a program it tells what a process pays until its first backtest: ``ours_backtest LOG daily``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.backtest_rules import CASH, COMMISSION, FILLED, LENGTH, SHARES, Filled, by_instrument

from engine.backtest_config import BacktestConfig
from engine.composition import Blueprint, resolve
from engine.config import Config
from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult
from replay.backtest.run import backtest

BOARDS: Final = ("cn_main", "cn_main_st", "cn_chinext", "cn_star", "us_equity")
CLOCKS: Final = {"daily": "tick", "ticks": "quote"}
"""What the rule's samples are; a recorded bar is one of "tick"."""

OPEN_GATE: Final[dict[str, Any]] = {
    "data": {
        "max_age": 0, "max_late": 0, "max_quote_age": 0, "gap_hold": 0, "refuse_crossed": False,
        "refuse_locked": False, "refuse_one_sided": False, "refuse_odd_condition": False,
        "refuse_halted": False,
    },
    "liquidity": {"require_book": "never", "max_spread_bps": 0, "min_depth_notional": 0},
    "market": {
        "sessions": "off", "price_limits": False, "require_reference": False, "settlement": False,
    },
    "limits": {
        "cool_down": 0, "max_signals_per_instrument": 0, "max_signals_per_strategy": 0,
        "max_signals": 0, "max_position": 0, "max_gross": 0,
    },
    "cost": {"check_edge": False},
}  # fmt: skip
"""A risk gate that is asked and refuses nothing."""


def configured(case: str) -> tuple[Blueprint, BacktestConfig]:
    """Return the configuration of a case, ``daily`` or ``ticks``."""
    bps = COMMISSION[case] * 1e4
    fees = {board: {"buy_bps": bps, "sell_bps": bps} for board in BOARDS}
    strategy = {
        "name": "breakout", "rule": "donchian_breakout", "on": CLOCKS[case],
        "params": {"length": LENGTH},
    }  # fmt: skip
    blueprint = resolve(
        Config.model_validate(
            {
                "bars": [],
                "strategies": [strategy],
                "risk": {**OPEN_GATE, "cost": {"check_edge": False, "fees": fees}},
            }
        )
    )
    return blueprint, BacktestConfig.model_validate(
        {
            "cash": CASH, "sizing": {"by": "shares", "amount": SHARES}, "ex_right": "off",
            "sessions": "off", "auctions": True, "price_limits": False, "settlement": False,
            "require_reference": False, "lots": False, "entry_life": "gtc", "exit_life": "gtc",
        }
    )  # fmt: skip


class Ours:
    """A case, ready to be run any number of times."""

    def __init__(self, case: str, prepared: Prepared) -> None:
        self.prepared = prepared
        self.blueprint, self.settings = configured(case)

    def run(self) -> tuple[float, BacktestResult]:
        """Run it once; return its seconds, with the kernel loaded anew, and what came of it."""
        began = time.perf_counter()
        result = backtest(self.prepared, self.blueprint, self.settings)
        return time.perf_counter() - began, result


def filled_of(result: BacktestResult) -> Filled:
    """Return a result's fills as those of the peers."""
    filled = np.zeros(len(result.fills), FILLED)
    for name in ("instrument", "ts", "side", "price"):
        filled[name] = result.fills[name]
    filled["row"] = -1
    for name in ("commission", "tax", "transfer_fee"):
        filled["cost"] += result.fills[name]
    return by_instrument(filled)


def first_run(case: str, log: Path) -> dict[str, float]:
    """Return what a new process takes: reading the log, its first backtest, and all of it."""
    began = time.perf_counter()
    prepared = Prepared.load([log])
    loaded = time.perf_counter()
    first, _ = Ours(case, prepared).run()
    worked = time.perf_counter() - began
    return {"load_s": loaded - began, "first_s": first, "worked_s": worked}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(first_run(sys.argv[2], Path(sys.argv[1]))) + "\n")
