"""Runs kernels for tests: ticks in, everything that came out as plain Python values."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.recfunctions import repack_fields

from engine.core.records import ALL_INSTRUMENTS, TICK, TickKind
from strategies.kernel import Kernel

Records = npt.NDArray[np.void]


class Outputs(NamedTuple):
    """All candidates, and all bars that left the kernel, with rows and indicator values."""

    candidates: Records
    bars: Records
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def digest(self) -> bytes:
        """Return every byte of it."""
        return b"|".join(
            [
                *map(as_bytes, (self.candidates, self.bars)),
                self.rows.tobytes(),
                self.values.tobytes(),
            ]
        )


def as_bytes(records: Records) -> bytes:
    """Return the fields' bytes without the padding between them, which numpy does not copy."""
    packed: Records = repack_fields(records)
    return packed.tobytes()


def reset(kernel: Kernel) -> None:
    """Make a kernel as new, so that tests can share its compiled code."""
    kernel.state[:-1] = kernel.state[-1]
    kernel.ring[:] = 0.0
    kernel.tally[:] = 0
    kernel.candidates[:] = 0
    kernel.bars[:] = 0
    kernel.enabled[:] = 1


def run(
    kernel: Kernel, records: Records, cuts: Iterable[int] = (), *, bars: bool = False
) -> Outputs:
    """Run all records in bursts that end at ``cuts``, resuming wherever the kernel stops."""
    take = kernel.run_bars if bars else kernel.run_ticks
    parts: list[tuple[Records, Records, Any, Any]] = []
    at = 0
    for stop in [*sorted(cuts), len(records)]:
        while at < stop:
            before, at = at, take(records, at, stop)
            c, b = kernel.n_candidates, kernel.n_bars
            assert at > before or c or b, "it neither moved nor gave anything"
            rows, values = kernel.bar_rows[:b].copy(), kernel.values[:b].copy()
            parts.append((kernel.candidates[:c].copy(), kernel.bars[:b].copy(), rows, values))
    if not parts:
        take(records, 0, 0)
        parts.append((kernel.candidates[:0], kernel.bars[:0], kernel.bar_rows[:0],
                      kernel.values[:0]))  # fmt: skip
    return Outputs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def tick(kind: TickKind, ts_event: int, instrument: int = 0, **fields: float) -> Records:
    """Make one TICK, shape (1,); ``ts_recv`` is 5 ns later, prices not given are NaN."""
    one = np.zeros(1, TICK)
    for name in ("price", "bid", "ask"):
        one[name] = np.nan
    one["kind"], one["ts_event"], one["ts_recv"] = kind, ts_event, ts_event + 5
    one["instrument"] = instrument
    for name, value in fields.items():
        one[name] = value
    return one


def trade(ts: int, price: float, size: float = 1.0, instrument: int = 0, side: int = 0) -> Records:
    """Make one trade."""
    return tick(TickKind.TRADE, ts, instrument, price=price, size=size, side=side)


def quote(
    ts: int, bid: float, ask: float, sizes: Sequence[float] = (1.0, 1.0), instrument: int = 0
) -> Records:
    """Make one quote; NaN for a missing side."""
    return tick(
        TickKind.QUOTE, ts, instrument, bid=bid, ask=ask, bid_size=sizes[0], ask_size=sizes[1]
    )


def heartbeat(ts: int) -> Records:
    """Make one heartbeat."""
    return tick(TickKind.HEARTBEAT, ts, ALL_INSTRUMENTS)


def gap(ts: int) -> Records:
    """Make one GAP tick."""
    return tick(TickKind.GAP, ts, ALL_INSTRUMENTS, size=1.0)


def random_ticks(count: int, instruments: int = 3, seed: int = 1, step_ns: int = 10**7) -> Records:
    """Make trades, quotes (some one-sided), snapshots, heartbeats and a few gaps."""
    rng = np.random.default_rng(seed)
    ticks = np.zeros(count, TICK)
    kinds = (TickKind.TRADE, TickKind.QUOTE, TickKind.SNAPSHOT, TickKind.HEARTBEAT, TickKind.GAP)
    ticks["kind"] = rng.choice(kinds, count, p=(0.45, 0.4, 0.1, 0.048, 0.002))
    ticks["instrument"] = rng.integers(0, instruments, count)
    ticks["ts_event"] = 10**18 + np.cumsum(rng.integers(0, 2 * step_ns, count))
    ticks["ts_event"] -= np.where(rng.random(count) < 0.05, 3 * step_ns, 0)
    ticks["ts_recv"] = ticks["ts_event"] + 1000
    mid = 100.0 + np.round(np.cumsum(rng.normal(0.0, 0.03, count)), 2)
    half = 0.01 * rng.integers(1, 4, count)
    ticks["price"] = mid + half * rng.choice((-1, 0, 1), count)
    ticks["size"] = rng.integers(0, 5, count)
    ticks["side"] = rng.integers(-1, 2, count)
    ticks["bid"], ticks["ask"] = mid - half, mid + half
    ticks["bid_size"], ticks["ask_size"] = rng.integers(1, 9, (2, count))
    ticks["bid"][rng.random(count) < 0.03] = np.nan
    ticks["price"][(ticks["kind"] == TickKind.SNAPSHOT) & (rng.random(count) < 0.3)] = np.nan
    shared = np.isin(ticks["kind"], (TickKind.HEARTBEAT, TickKind.GAP))
    ticks["instrument"][shared] = ALL_INSTRUMENTS
    return ticks
