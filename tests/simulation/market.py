"""A small market that moves enough for signals, in clumps; the same seed gives the same ticks."""

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np

from engine.core.records import Board, Instruments, TickKind, Ticks, empty_ticks, instrument_row

INSTRUMENTS: Final = 3
CLUMP_NS: Final = 8_000_000
"""Between two clumps of ticks."""
START_NS: Final = 1_650_000_000_000_000_000
_BATCH: Final = 256
_MOST_IN_A_CLUMP: Final = 8


@cache
def instruments() -> Instruments:
    rows = [
        instrument_row(f"S{i}.X", id=i, board=Board.CRYPTO, tick_size=0.01)
        for i in range(INSTRUMENTS)
    ]
    return np.concatenate(rows)


class Market:
    """A ``PacedSource``."""

    speed = 1.0
    keep_times = False
    longest_gap_ns = None

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    @property
    def instruments(self) -> Instruments:
        return instruments()

    def batches(self) -> Iterator[Ticks]:
        rng, price, at_ns = self._rng, np.full(INSTRUMENTS, 100.0), START_NS
        while True:
            ticks = empty_ticks(_BATCH)
            whose = rng.integers(0, INSTRUMENTS, _BATCH)
            kinds = (TickKind.TRADE, TickKind.QUOTE)
            ticks["kind"] = rng.choice(kinds, _BATCH, p=[0.6, 0.4])
            steps = rng.normal(0, 0.03, _BATCH)
            for number in range(INSTRUMENTS):
                mine = whose == number
                walk = price[number] + np.cumsum(steps[mine])
                ticks["price"][mine] = walk
                price[number] = walk[-1] if len(walk) else price[number]
            ticks["bid"], ticks["ask"] = ticks["price"] - 0.01, ticks["price"] + 0.01
            ticks["bid_size"], ticks["ask_size"] = rng.integers(50, 100, (2, _BATCH))
            ticks["size"] = rng.integers(1, 10, _BATCH)
            ticks["side"] = rng.choice([-1, 1], _BATCH)
            ticks["instrument"] = whose
            clumps = np.cumsum(rng.random(_BATCH) < 2.0 / _MOST_IN_A_CLUMP)
            ticks["ts_recv"] = at_ns + clumps * CLUMP_NS
            ticks["ts_event"] = ticks["ts_recv"] - 1_000
            at_ns = int(ticks["ts_recv"][-1]) + CLUMP_NS
            yield ticks
