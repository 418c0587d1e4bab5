"""A market made of random numbers, for benchmarks that need ticks and no meaning."""

from typing import Final

import numpy as np

from engine.core.records import Board, Instruments, TickKind, Ticks, empty_ticks, instrument_row

START_NS: Final = 1_700_000_000_000_000_000


def market_instruments(count: int) -> Instruments:
    """Return crypto instruments S0.SIM, S1.SIM, ..."""
    rows = [instrument_row(f"S{i}.SIM", id=i, board=Board.CRYPTO) for i in range(count)]
    return np.concatenate(rows)


def market_ticks(count: int, instruments: int, interval_ns: int = 1_000_000) -> Ticks:
    """Return quotes and trades of a random walk, ``interval_ns`` apart, instruments in turn."""
    rng = np.random.default_rng(1)
    ticks = empty_ticks(count)
    at = np.arange(count)
    ticks["kind"] = rng.choice([TickKind.TRADE, TickKind.QUOTE], count)
    ticks["instrument"] = at % instruments
    price = np.round(100 + np.cumsum(rng.normal(0, 0.002, count)), 2)
    ticks["price"], ticks["size"] = price, rng.integers(1, 10, count)
    ticks["turnover"] = ticks["price"] * ticks["size"]
    ticks["side"] = rng.choice([-1, 1], count)
    ticks["bid"], ticks["ask"] = price - 0.01, price + 0.01
    ticks["bid_size"], ticks["ask_size"] = rng.integers(50, 100, (2, count))
    ticks["ts_event"] = START_NS + at * interval_ns
    ticks["ts_recv"] = ticks["ts_event"]
    return ticks
