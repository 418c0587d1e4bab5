"""A small market and pipelines over it, for tests that need the whole path without sockets."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.clock import TickClock
from engine.composition import build_pipeline, resolve
from engine.config import Config
from engine.core.records import Board, Instruments, TickKind, Ticks, empty_ticks, instrument_row
from engine.pipeline import Pipeline
from feeds.burst import ORIGIN
from latency.histogram import StageHistograms
from replay.digest import Collector

START_NS = 1_700_000_000_000_000_000
RULES: dict[str, Any] = {
    "bars": [{"name": "1s", "kind": "time", "interval": "1s"}],
    "strategies": [
        {"name": "fast", "rule": "macd_cross", "on": "1s", "params": {"fast": 3, "slow": 6}},
        {"name": "tick", "rule": "macd_cross", "on": "trade"},
    ],
    "risk": {"limits": {"max_position": 0, "cool_down": 0}},
}


def market_instruments(count: int = 4) -> Instruments:
    """Return crypto instruments S0.X, S1.X, …"""
    rows = [
        instrument_row(f"S{i}.X", id=i, board=Board.CRYPTO, tick_size=0.01) for i in range(count)
    ]
    return np.concatenate(rows)


def market_ticks(count: int, instruments: int = 4, seed: int = 1) -> Ticks:
    """Return random-walk trades and quotes, 10 ms apart, with a heartbeat now and then."""
    rng = np.random.default_rng(seed)
    ticks = empty_ticks(count)
    ticks["kind"] = rng.choice(
        [TickKind.TRADE, TickKind.QUOTE, TickKind.HEARTBEAT], count, p=[0.5, 0.48, 0.02]
    )
    price = 100 + np.cumsum(rng.normal(0, 0.02, count))
    ticks["price"], ticks["size"] = price, rng.integers(1, 10, count)
    ticks["side"] = rng.choice([-1, 0, 1], count)
    ticks["bid"], ticks["ask"] = price - 0.01, price + 0.01
    ticks["bid_size"], ticks["ask_size"] = rng.integers(50, 100, (2, count))
    ticks["ts_event"] = START_NS + np.arange(count) * 10_000_000
    ticks["ts_recv"] = ticks["ts_event"] + 1_000
    ticks["instrument"] = rng.integers(0, instruments, count)
    ticks["instrument"][ticks["kind"] == TickKind.HEARTBEAT] = 0xFFFF_FFFF
    return ticks


def origins_of(count: int, epoch: int = 7) -> npt.NDArray[np.void]:
    """Return origins numbered from 1."""
    origins = np.zeros(count, ORIGIN)
    origins["epoch"] = epoch
    origins["seq"] = np.arange(1, count + 1)
    return origins


def make_pipeline(
    tree: dict[str, Any] | None = None, instruments: int = 4
) -> tuple[Pipeline, Collector]:
    """Build a pipeline from a configuration tree over ``market_instruments``."""
    sink = Collector()
    pipeline = build_pipeline(
        resolve(Config.model_validate(RULES if tree is None else tree)),
        capacity=instruments,
        sink=sink,
        clock=TickClock(),
        histograms=StageHistograms(),
    )
    pipeline.define(market_instruments(instruments))
    return pipeline, sink


def run_in_bursts(pipeline: Pipeline, ticks: Ticks, cuts: list[int]) -> None:
    """Run the ticks cut at the given places."""
    origins = origins_of(len(ticks))
    pipeline.host.start()
    places = [0, *sorted(cuts), len(ticks)]
    for start, stop in itertools.pairwise(places):
        if stop > start:
            pipeline.run_ticks(ticks, origins, start, stop)
    pipeline.host.stop()
