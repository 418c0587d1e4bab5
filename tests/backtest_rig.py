"""Small markets of daily bars and ticks, and orders given by hand, for tests of the simulator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.config import Config
from engine.core.records import (
    Bars,
    Board,
    Instruments,
    TickFlag,
    TickKind,
    Ticks,
    empty_bars,
    empty_ticks,
    instrument_row,
)
from engine.risk.rulebook import load_rulebook
from feeds.log_writer import LogWriter
from replay.backtest.prepared import Prepared
from replay.backtest.records import BacktestResult
from replay.backtest.run import make_result
from replay.backtest.sim_records import ORDER
from replay.backtest.simulator import Simulator

S = 10**9
DAY = 86_400 * S
MONDAY = int(np.datetime64("2019-06-10", "ns").astype(np.int64))
"""Midnight UTC of a Monday; the four days after it trade too, in Shanghai and in New York."""
OPEN, CLOSE = 90 * 60 * S, 7 * 3600 * S
"""9:30 and 15:00 in Shanghai, from midnight UTC."""


class Day(NamedTuple):
    """One instrument's daily bar; ``day`` counts from MONDAY."""

    day: int
    open: float
    high: float
    low: float
    close: float
    pre_close: float
    instrument: int = 0
    volume: float = 1e6


def flat(day: int, price: float, pre_close: float | None = None, instrument: int = 0) -> Day:
    """Return a day that opens and closes at one price and trades a little around it."""
    before = price if pre_close is None else pre_close
    return Day(day, price, price + 0.02, price - 0.02, price, before, instrument)


def locked(day: int, price: float, pre_close: float, instrument: int = 0) -> Day:
    """Return a day on which everything trades at one price."""
    return Day(day, price, price, price, price, pre_close, instrument)


def shares(count: int = 1, board: Board = Board.CN_MAIN, **fields: Any) -> Instruments:
    """Return shares 600000.SSE, 600001.SSE, …"""
    given: dict[str, Any] = {
        "calendar": "XSHG", "tick_size": 0.01, "lot": 100.0, "day_offset_s": 28_800, **fields
    }  # fmt: skip
    rows = [instrument_row(f"{600_000 + i}.SSE", id=i, board=board, **given) for i in range(count)]
    return np.concatenate(rows)


def daily(days: Sequence[Day], first_ns: int = MONDAY) -> Bars:
    """Return the days as bars, in the order given."""
    bars = empty_bars(len(days))
    for bar, day in zip(bars, days, strict=True):
        midnight = first_ns + day.day * DAY
        bar["ts_open"], bar["ts_event"] = midnight + OPEN, midnight + CLOSE
        bar["ts_recv"] = bar["ts_event"]
        for name in ("open", "high", "low", "close", "pre_close", "instrument", "volume"):
            bar[name] = getattr(day, name)
        bar["turnover"] = day.close * day.volume
        bar["flags"] = 0 if day.volume else int(TickFlag.HALTED)
        bar["session"] = midnight // DAY
        bar["count"] = 1
    return bars


def quotes(times_s: Sequence[float], bids: Sequence[float], asks: Sequence[float]) -> Ticks:
    """Return quotes of instrument 0, seconds after MONDAY's open in Shanghai; NaN: no such side."""
    ticks = empty_ticks(len(times_s))
    ticks["kind"] = TickKind.QUOTE
    ticks["ts_event"] = MONDAY + OPEN + np.round(np.array(times_s) * S).astype(np.int64)
    ticks["ts_recv"] = ticks["ts_event"]
    ticks["bid"], ticks["ask"] = bids, asks
    ticks["bid_size"] = np.where(np.isnan(ticks["bid"]), 0, 500)
    ticks["ask_size"] = np.where(np.isnan(ticks["ask"]), 0, 500)
    one_sided = np.isnan(ticks["bid"]) | np.isnan(ticks["ask"])
    ticks["flags"][one_sided] = int(TickFlag.ONE_SIDED)
    return ticks


def orders(*given: tuple[int, int] | tuple[int, int, int]) -> npt.NDArray[np.void]:
    """Return orders of (row, side) or (row, side, instrument), to be stamped by ``trade``."""
    made = np.zeros(len(given), ORDER)
    for order, one in zip(made, given, strict=True):
        order["row"], order["side"] = one[0], one[1]
        order["instrument"] = one[2] if len(one) > 2 else 0
    return made


def settings(**backtest: Any) -> Config:
    """Return a configuration with these keys of [backtest]; 1,000 shares an entry by default."""
    tree = {"sizing": {"by": "shares", "amount": 1000}, **backtest}
    return Config.model_validate({"backtest": tree})


def prepare(path: Path, instruments: Instruments, records: npt.NDArray[np.void]) -> Prepared:
    """Write a log of the records and read it."""
    with LogWriter(path / "market.hql", instruments, epoch=3, overwrite=True) as writer:
        if "open" in (records.dtype.names or ()):
            writer.write_bars(records)
        else:
            writer.write_ticks(records)
    return Prepared.load([path / "market.hql"])


def trade(
    path: Path,
    records: npt.NDArray[np.void],
    given: npt.NDArray[np.void],
    config: Config | None = None,
    instruments: Instruments | None = None,
) -> BacktestResult:
    """Trade orders on records of one segment; what comes of it adds up."""
    prepared = prepare(path, shares() if instruments is None else instruments, records)
    return trade_prepared(prepared, given, config or settings())


def trade_prepared(
    prepared: Prepared, given: npt.NDArray[np.void], config: Config
) -> BacktestResult:
    """Trade orders on one segment; what comes of it adds up."""
    assert len(prepared.segments) == 1
    return trade_segments(prepared, [given], config)


def trade_segments(
    prepared: Prepared, given: Sequence[npt.NDArray[np.void]], config: Config
) -> BacktestResult:
    """Trade each segment's orders on it; what comes of it adds up."""
    simulator = Simulator(prepared, config, load_rulebook(config.risk.market.rulebook), 1)
    for segment, of_segment in zip(prepared.segments, given, strict=True):
        of_segment["ts"] = segment.records["ts_recv"][of_segment["row"]]
        simulator.define(segment.definitions)
        simulator.run(segment.schema, segment.records, of_segment)
    simulator.finish()
    count = sum(map(len, given))
    result = make_result(simulator, prepared, config.backtest.cash, ("hand",), count)
    result.check()
    return result
