"""The feature rows that the live kernel would push, as one table: for training and for tests.

The kernel itself makes them: a model's input is learnt from what it will be given.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.models import Floats
from engine.core.records import BAR, INSTRUMENT, Bars, Instruments, Ticks, id_bound
from strategies.bar_spec import BarSpec
from strategies.kernel import Kernel
from strategies.model_spec import ModelWindow
from strategies.plan import RuleRequest, make_plan
from strategies.registry import Registry

_MODEL: Final = 0


class FeatureMatrix(NamedTuple):
    """Feature rows in the order they were pushed; N rows, F features."""

    ts_event: npt.NDArray[np.int64]
    """Event time of the sample, ns, shape (N,)."""
    instrument: npt.NDArray[np.uint32]
    """Shape (N,)."""
    rows: Floats
    """Shape (N, F)."""
    price: npt.NDArray[np.float64]
    """The sample's price, its close, shape (N,)."""
    mid: npt.NDArray[np.float64]
    """Half of bid plus ask, NaN without a book, shape (N,)."""
    run: npt.NDArray[np.int64]
    """How many rows of the instrument end here without a break, this one too: a window of W rows
    is whole where it is at least W. Shape (N,)."""
    session: npt.NDArray[np.int32]
    """The trading day, days since 1970-01-01 at the venue, shape (N,)."""


def feature_matrix(
    bursts: Iterable[Ticks | Bars | Instruments],
    model: ModelWindow,
    bars: Sequence[BarSpec],
    registry: Registry,
    instruments: Instruments,
) -> FeatureMatrix:
    """Run records through a kernel and collect every row it pushes for a model.

    Args:
        bursts: TICK or BAR records in order, each shape (N,), with INSTRUMENT between them where
            definitions change.
        model: Its clock and features; its window does not count.
        bars: What the clock may be.
        registry: The indicators there are.
        instruments: Definitions of all instruments that occur.

    Raises:
        ConfigError: an unknown indicator, clock, output or parameter.
    """
    request = RuleRequest("rows", "", "", model=model.name)
    plan = make_plan(registry, bars, [request], models=[replace(model, window=1)])
    kernel = Kernel(plan, id_bound(instruments))
    kernel.define(instruments)
    kernel.warm_up(bars=True)
    candidates = [kernel.candidates[:0].copy()]
    rows = [np.zeros((0, len(model.features)), np.float32)]
    for burst in bursts:
        if burst.dtype == INSTRUMENT:
            kernel.define(burst)
            continue
        at = 0
        while at < len(burst):
            take = kernel.run_bars if burst.dtype == BAR else kernel.run_ticks
            at = take(burst, at, len(burst))
            made = kernel.candidates[: kernel.n_candidates].copy()
            candidates.append(made)
            rows.append(_rows_of(kernel, made))
    return _matrix(np.concatenate(candidates), np.concatenate(rows))


def stack_windows(matrix: FeatureMatrix, window: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the places of the rows that end a whole window, ascending, and these windows.

    Returns:
        Shapes (M,) and (M, window, F).
    """
    order = np.argsort(matrix.instrument, kind="stable")
    ends = np.flatnonzero(matrix.run[order] >= window)
    steps = np.arange(1 - window, 1)
    places, inputs = order[ends], matrix.rows[order[ends[:, None] + steps]]
    sort = np.argsort(places)
    return places[sort], inputs[sort]


def _rows_of(kernel: Kernel, made: npt.NDArray[np.void]) -> Floats:
    features = len(kernel.plan.models[_MODEL].columns)
    out = np.zeros((len(made), 1, features), np.float32)
    ok = np.zeros(len(made), np.uint8)
    instruments = made["instrument"].astype(np.int64)
    windows = np.ascontiguousarray(made["window"])
    kernel.gather(_MODEL, instruments, windows, out, ok)
    return out.reshape(len(made), features)


def _matrix(made: npt.NDArray[np.void], rows: Floats) -> FeatureMatrix:
    return FeatureMatrix(
        ts_event=np.ascontiguousarray(made["ts_event"]),
        instrument=np.ascontiguousarray(made["instrument"]),
        rows=rows,
        price=np.ascontiguousarray(made["price"]),
        mid=0.5 * (made["bid"] + made["ask"]),
        run=_runs(made["instrument"], made["window"]),
        session=np.ascontiguousarray(made["session"]),
    )


def _runs(
    instruments: npt.NDArray[np.uint32], numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return how many consecutive numbers of an instrument end at each place."""
    order = np.argsort(instruments, kind="stable")
    who, number = instruments[order], numbers[order]
    first = np.ones(len(order), bool)
    first[1:] = (who[1:] != who[:-1]) | (number[1:] != number[:-1] + 1)
    starts = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    runs = np.empty(len(order), np.int64)
    runs[order] = np.arange(len(order)) - starts + 1
    return runs
