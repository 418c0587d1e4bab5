"""HDR histograms, one a stage, filled by compiled calls: a burst costs one call, not one a tick.

All histograms are the rows of one table, because a compiled call is charged for every array it is
handed. Readers get copies; who records and who reads is the same thread.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram
from numba import config, njit

from latency.counts import HdrScale, Int64s, StageCounts, StageSummary
from latency.stages import STAGES, Stage

DEFAULT_HIGHEST_NS: Final = 60_000_000_000
_LIMIT_NS: Final = 1 << 52
_FAULTS: Final = 0
_OUT_OF_RANGE: Final = 1
_HIGHEST: Final = 2
_UNIT: Final = 3
_HALF: Final = 4
_FIRST: Final = 8
_WIRE: Final = int(Stage.WIRE)
_INGEST: Final = int(Stage.INGEST)
_COMPUTE: Final = int(Stage.COMPUTE)
_GATE: Final = int(Stage.GATE)
_PUBLISH: Final = int(Stage.PUBLISH)
_TOTAL: Final = int(Stage.TOTAL)


@njit(error_model="numpy", cache=True, nogil=True)
def count_nb(row: Int64s, value: int, count: int) -> None:
    """Count ``value`` (ns) ``count`` times in one row, int64 (columns,)."""
    if value < 0:
        row[_FAULTS] += count
        return
    if value > row[_HIGHEST]:
        row[_OUT_OF_RANGE] += count
        value = row[_HIGHEST]
    half = row[_HALF]
    linear = (1 << (half + 1 + row[_UNIT])) - 1
    bits = (np.float64(value | linear).view(np.int64) >> 52) - 1022
    shift = bits - half - 1
    bucket = shift - row[_UNIT]
    row[_FIRST + (bucket << half) + (value >> shift)] += count


@njit(error_model="numpy", cache=True, nogil=True)
def count_value_nb(table: npt.NDArray[np.int64], stage: int, value: int, count: int) -> None:
    """Count one value of one stage; ``table`` int64 (S, columns)."""
    count_nb(table[stage], value, count)


@njit(error_model="numpy", cache=True, nogil=True)
def count_spans_nb(
    table: npt.NDArray[np.int64], stage: int, end: int, starts: Int64s, count: int
) -> None:
    """Count ``end - start`` for the first ``count`` of ``starts``, int64 (N,), any stride."""
    if count > starts.shape[0]:
        raise ValueError("count exceeds the number of starts")
    row = table[stage]
    for i in range(count):
        count_nb(row, end - starts[i], 1)


@njit(error_model="numpy", cache=True, nogil=True)
def count_burst_nb(
    table: npt.NDArray[np.int64], end: int, starts: Int64s, ingest: int, compute: int, count: int
) -> None:
    """Count a burst's wire spans, and its ingest and compute times once for every tick."""
    if count > starts.shape[0]:
        raise ValueError("count exceeds the number of starts")
    row = table[_WIRE]
    for i in range(count):
        count_nb(row, end - starts[i], 1)
    count_nb(table[_INGEST], ingest, count)
    count_nb(table[_COMPUTE], compute, count)


@njit(error_model="numpy", cache=True, nogil=True)
def count_signal_nb(table: npt.NDArray[np.int64], gate: int, publish: int, total: int) -> None:
    """Count a signal's gate, publish and total times."""
    count_nb(table[_GATE], gate, 1)
    count_nb(table[_PUBLISH], publish, 1)
    count_nb(table[_TOTAL], total, 1)


@njit(error_model="numpy", cache=True, nogil=True)
def count_pair_nb(
    table: npt.NDArray[np.int64], first: int, first_value: int, second: int, second_value: int
) -> None:
    """Count one value of each of two stages."""
    count_nb(table[first], first_value, 1)
    count_nb(table[second], second_value, 1)


@cache
def _compile() -> list[Callable[..., None]]:
    """Fix one signature a kernel, and return the machine code's own entries.

    Past numba's dispatch a call costs less than half. Any stride of starts fits the signature.
    """
    signatures: tuple[tuple[Any, str], ...] = (
        (count_value_nb, "void(int64[:,::1],int64,int64,int64)"),
        (count_spans_nb, "void(int64[:,::1],int64,int64,int64[:],int64)"),
        (count_burst_nb, "void(int64[:,::1],int64,int64[:],int64,int64,int64)"),
        (count_signal_nb, "void(int64[:,::1],int64,int64,int64)"),
        (count_pair_nb, "void(int64[:,::1],int64,int64,int64,int64)"),
    )
    if getattr(config, "DISABLE_JIT", 0):
        return [kernel for kernel, _ in signatures]
    for kernel, signature in signatures:
        kernel.compile(signature)
        kernel.disable_compile()
    return [next(iter(kernel.overloads.values())).entry_point for kernel, _ in signatures]


class StageHistograms:
    """One HDR histogram a stage; the loop thread owns it.

    Counts equal those of HdrHistograms whose ``record_value`` was called for each value, except
    that a value above the range is counted at ``highest_ns`` instead of being lost. Memory is
    fixed at construction (about 220 kB a stage for 60 s at 3 digits, twice).

    Attributes:
        names: The stages, shape (S,).
        scale: The bucket layout of all of them.
        clock_faults: Negative values by stage, int64 (S,): counted, recorded nowhere.
        out_of_range: Values above the range by stage, int64 (S,).

    Args:
        names: The stages.
        lowest_ns: Least value told apart from 0.
        highest_ns: Greatest value of the range, below 2**52.
        digits: Significant decimal digits, 1 to 5.

    Raises:
        ValueError: no names, or a range HdrHistogram does not have.
    """

    __slots__ = (
        "_count_burst", "_count_pair", "_count_signal", "_count_spans", "_count_value", "_table",
        "_taken", "clock_faults", "names", "out_of_range", "scale",
    )  # fmt: skip

    def __init__(
        self,
        names: Sequence[str] = STAGES,
        lowest_ns: int = 1,
        highest_ns: int = DEFAULT_HIGHEST_NS,
        digits: int = 3,
    ) -> None:
        if not names or not 1 <= lowest_ns <= highest_ns // 2 or highest_ns >= _LIMIT_NS:
            raise ValueError(f"{len(names)} stages over {lowest_ns} to {highest_ns} ns")
        compiled = _compile()
        self._count_value, self._count_spans, self._count_burst = compiled[:3]
        self._count_signal, self._count_pair = compiled[3:]
        self.names = tuple(names)
        self.scale = HdrScale.of(HdrHistogram(lowest_ns, highest_ns, digits))
        self._table = np.zeros((len(self.names), _FIRST + self.scale.buckets), np.int64)
        self._table[:, _HIGHEST] = highest_ns
        self._table[:, _UNIT] = self.scale.unit_magnitude
        self._table[:, _HALF] = self.scale.half_magnitude
        self._taken = self._table.copy()
        self.clock_faults = self._table[:, _FAULTS]
        self.out_of_range = self._table[:, _OUT_OF_RANGE]

    def record_value(self, stage: int, value_ns: int) -> None:
        """Record one value."""
        self._count_value(self._table, stage, value_ns, 1)

    def record_pair(self, first: int, first_ns: int, second: int, second_ns: int) -> None:
        """Record one value of each of two stages, in one call."""
        self._count_pair(self._table, first, first_ns, second, second_ns)

    def record_repeat(self, stage: int, value_ns: int, count: int) -> None:
        """Record one value ``count`` times."""
        self._count_value(self._table, stage, value_ns, count)

    def record_spans(self, stage: int, end_ns: int, starts: Int64s, count: int) -> None:
        """Record ``end_ns - start`` for the first ``count`` of ``starts``.

        Args:
            stage: Row of the stage.
            end_ns: End of all spans, on the clock of ``starts``.
            starts: int64 (N,), writable; a field of a structured array will do, without a copy.
            count: How many, at most N.

        Raises:
            ValueError: ``count`` exceeds N.
        """
        self._count_spans(self._table, stage, end_ns, starts, count)

    def record_burst(
        self, end_ns: int, starts: Int64s, ingest_ns: int, compute_ns: int, count: int
    ) -> None:
        """Record what every burst has, in one call: wire spans, and two times all ticks share.

        Needs rows that begin with wire, ingest, compute, as STAGES does.

        Args:
            end_ns: End of the wire spans, on the clock of ``starts``.
            starts: When each tick was to leave, int64 (N,), writable, any stride.
            ingest_ns: The burst's ingest time, counted once for each tick.
            compute_ns: The burst's compute time, counted once for each tick.
            count: Ticks in the burst, at most N.

        Raises:
            ValueError: ``count`` exceeds N.
        """
        self._count_burst(self._table, end_ns, starts, ingest_ns, compute_ns, count)

    def record_signal(self, gate_ns: int, publish_ns: int, total_ns: int) -> None:
        """Record what every signal has, in one call; needs the rows of STAGES."""
        self._count_signal(self._table, gate_ns, publish_ns, total_ns)

    def cumulative(self) -> dict[str, StageCounts]:
        """Copy everything recorded so far, by stage."""
        return {name: self._copy(row) for name, row in zip(self.names, self._table, strict=True)}

    def summary(self) -> dict[str, StageSummary]:
        """Return counts, percentiles and maxima of everything recorded so far, by stage."""
        return {name: counts.summary() for name, counts in self.cumulative().items()}

    def take_interval(self) -> dict[str, StageCounts]:
        """Copy what was recorded since the last take, by stage; stages with nothing too."""
        rows = zip(self.names, self._table, self._taken, strict=True)
        return {name: self._take(row, taken) for name, row, taken in rows}

    def _copy(self, row: Int64s) -> StageCounts:
        indices = np.flatnonzero(row[_FIRST:])
        return self._counts(indices, row[_FIRST:][indices], row[:_HIGHEST])

    def _take(self, row: Int64s, taken: Int64s) -> StageCounts:
        changed = np.flatnonzero(row[_FIRST:] != taken[_FIRST:])
        counts = row[_FIRST:][changed] - taken[_FIRST:][changed]
        taken[_FIRST:][changed] += counts
        odd = row[:_HIGHEST] - taken[:_HIGHEST]
        taken[:_HIGHEST] += odd
        return self._counts(changed, counts, odd)

    def _counts(self, indices: Int64s, counts: Int64s, odd: Int64s) -> StageCounts:
        faults, out_of_range = odd.tolist()
        return StageCounts(self.scale, indices, counts, faults, out_of_range)
