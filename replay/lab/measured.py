"""From the times that the lab's processes noted to latencies; pure.

Everything is counted from the time a frame was due. What happened before the measured part begins,
while everything warms up, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from latency.counts import StageCounts
from latency.histogram import StageHistograms
from replay.lab.schedule import Int64s

END_TO_END: Final = "end_to_end"
"""From the time a tick was due to its signal in a client's hands."""
NAIVE: Final = "naive"
"""The same as a tester would have written it down who sends a tick only after the answer to the
one before: the time that ticks wait for the engine is in none of its figures."""
DELIVERY: Final = "delivery"
"""From the risk gate to a client's hands."""
INJECTOR: Final = "injector_late"
"""How late frames really left."""
NOISE: Final = "noise"
"""How late a process that does nothing was woken meanwhile."""
LAB_STAGES: Final = (END_TO_END, NAIVE, DELIVERY, INJECTOR, NOISE)


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What the injector did: each frame's first tick, when it was due and when sent, (K,)."""

    firsts: Int64s
    due_ns: Int64s
    sent_ns: Int64s
    ticks: int

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what the injector wrote."""
        with np.load(path) as kept:
            return cls(kept["firsts"], kept["due_ns"], kept["sent_ns"], int(kept["ticks"]))

    def intended_of(self, tick_seq: Int64s) -> Int64s:
        """Return when the ticks of these numbers, from 1, were due."""
        frames = np.searchsorted(self.firsts, tick_seq - 1, side="right") - 1
        return self.due_ns[frames]

    def ticks_from(self, from_ns: int) -> int:
        """Return how many ticks were due at a time or later."""
        frame = int(np.searchsorted(self.due_ns, from_ns))
        return self.ticks - int(self.firsts[frame]) if frame < len(self.firsts) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What the clients received, a row a signal and client, int64, shape (N,)."""

    client: Int64s
    recv_ns: Int64s
    epoch: Int64s
    tick_seq: Int64s
    ts_emit: Int64s
    queue_ns: Int64s
    service_ns: Int64s

    @classmethod
    def load(cls, path: Path, epoch: int) -> Self:
        """Read what the clients wrote, as far as it is about a stream."""
        with np.load(path) as kept:
            ours = kept["epoch"] == epoch
            return cls(**{name: kept[name][ours] for name in kept.files})


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Latencies over time: a value a bin, ns; NaN where there is none, shape (T,).

    Attributes:
        begin_s: Begin of each bin, from the begin of the measured part, by intended time.
        p50: Median end to end.
        p99: 99th percentile end to end.
        worst: Greatest end to end.
        naive_worst: Greatest as a waiting tester has it.
        injector: Greatest lateness of the injector.
        noise: Greatest lateness of the process that does nothing.
    """

    begin_s: npt.NDArray[np.float64]
    p50: npt.NDArray[np.float64]
    p99: npt.NDArray[np.float64]
    worst: npt.NDArray[np.float64]
    naive_worst: npt.NDArray[np.float64]
    injector: npt.NDArray[np.float64]
    noise: npt.NDArray[np.float64]

    def as_dict(self) -> dict[str, list[float]]:
        """Return it for JSON."""
        return {name: getattr(self, name).tolist() for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the time of some signals went on average, ns; all of it together is end to end.

    Attributes:
        signals: How many.
        before: From the time the tick was due to the risk gate, without what follows.
        model_queue: Waiting for a batch of a model.
        model_service: In that batch.
        after: From the risk gate to a client's hands.
    """

    signals: int
    before: float
    model_queue: float
    model_service: float
    after: float

    @property
    def total(self) -> float:
        """End to end."""
        return self.before + self.model_queue + self.model_service + self.after


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One run's latencies.

    Attributes:
        stages: Counts by stage, those of the lab.
        parts: Of all signals, and of the slowest hundredth, at least one.
        series: Over time.
        signals: Signals in the measured part.
        received: The same, over all clients.
        seconds: Length of the measured part.
    """

    stages: dict[str, StageCounts]
    parts: tuple[Parts, Parts]
    series: Series
    signals: int
    received: int
    seconds: float


def naive_latency(recv_ns: Int64s, intended_ns: Int64s, tick_seq: Int64s) -> Int64s:
    """Return what one client's latencies would be if each tick had been sent after the last answer.

    A tick whose time came while the answer to an earlier one was outstanding counts from that
    answer on, so a stall is seen once and never by those who wait behind it. That is coordinated
    omission (Tene, 2015).

    Args:
        recv_ns: When each signal came, ascending, shape (N,).
        intended_ns: When its tick was due, shape (N,).
        tick_seq: Its tick; several signals may have one, shape (N,).
    """
    if not len(recv_ns):
        return np.zeros(0, np.int64)
    _, firsts, tick = np.unique(tick_seq, return_index=True, return_inverse=True)
    before = np.concatenate(([np.iinfo(np.int64).min], recv_ns[:-1]))[firsts]
    latency: Int64s = recv_ns - np.maximum(intended_ns, before[tick])
    return latency


def counts_of(values_ns: Int64s) -> StageCounts:
    """Return values as the counts of a histogram."""
    histograms = StageHistograms(["all"])
    starts = np.ascontiguousarray(-values_ns)
    histograms.record_spans(0, 0, starts, len(starts))
    return histograms.cumulative()["all"]


def measure(sent: Sent, heard: Heard, noise: Mapping[str, Int64s], from_ns: int) -> Measured:
    """Put the notes of all processes together.

    Args:
        sent: The injector's.
        heard: The clients'.
        noise: ``due_ns`` and ``late_ns`` of the process that does nothing.
        from_ns: Begin of the measured part, steady time.
    """
    until_ns = int(sent.due_ns[-1])
    intended = sent.intended_of(heard.tick_seq)
    naive = _naive(heard, intended)
    kept = intended >= from_ns
    recv, due = heard.recv_ns[kept], intended[kept]
    frames = sent.due_ns >= from_ns
    late = (sent.sent_ns - sent.due_ns)[frames]
    quiet = (noise["due_ns"] >= from_ns) & (noise["due_ns"] <= until_ns)
    stages = {
        END_TO_END: counts_of(recv - due),
        NAIVE: counts_of(naive[kept]),
        DELIVERY: counts_of(recv - heard.ts_emit[kept]),
        INJECTOR: counts_of(late),
        NOISE: counts_of(noise["late_ns"][quiet]),
    }
    bins = _Bins(from_ns, until_ns)
    series = Series(
        bins.begin_s,
        bins.percentile(due, recv - due, 50),
        bins.percentile(due, recv - due, 99),
        bins.percentile(due, recv - due, 100),
        bins.percentile(due, naive[kept], 100),
        bins.percentile(sent.due_ns[frames], late, 100),
        bins.percentile(noise["due_ns"][quiet], noise["late_ns"][quiet], 100),
    )
    one = heard.client[kept] == 0
    slowest = kept & (heard.recv_ns - intended >= _slow(recv - due))
    parts = _parts(heard, intended, kept), _parts(heard, intended, slowest)
    return Measured(stages, parts, series, int(one.sum()), len(recv), (until_ns - from_ns) / 1e9)


def _slow(latency: Int64s) -> int:
    return int(np.percentile(latency, 99, method="lower")) if len(latency) else 0


def _parts(heard: Heard, intended: Int64s, rows: npt.NDArray[np.bool_]) -> Parts:
    count = int(np.count_nonzero(rows))
    if not count:
        return Parts(0, 0.0, 0.0, 0.0, 0.0)
    queue = np.maximum(heard.queue_ns[rows], 0).mean()
    service = np.maximum(heard.service_ns[rows], 0).mean()
    before = (heard.ts_emit - intended)[rows].mean() - queue - service
    after = (heard.recv_ns - heard.ts_emit)[rows].mean()
    return Parts(count, float(before), float(queue), float(service), float(after))


def _naive(heard: Heard, intended: Int64s) -> Int64s:
    naive = np.zeros(len(intended), np.int64)
    for client in np.unique(heard.client).tolist():
        rows = np.flatnonzero(heard.client == client)
        rows = rows[np.argsort(heard.recv_ns[rows], kind="stable")]
        naive[rows] = naive_latency(heard.recv_ns[rows], intended[rows], heard.tick_seq[rows])
    return naive


class _Bins:
    """Equal parts of the measured time."""

    MOST: Final = 120
    LEAST_NS: Final = 100_000_000

    def __init__(self, from_ns: int, until_ns: int) -> None:
        span_ns = max(1, until_ns - from_ns)
        self._from_ns = from_ns
        self._width_ns = max(self.LEAST_NS, -(-span_ns // self.MOST))
        self._count = -(-span_ns // self._width_ns)
        self.begin_s = np.arange(self._count, dtype=np.float64) * np.float64(self._width_ns / 1e9)

    def percentile(self, at_ns: Int64s, values: Int64s, percent: float) -> Any:
        """Return a percentile of the values in each bin, NaN where there is none."""
        found = np.full(self._count, np.nan)
        bins = np.minimum((at_ns - self._from_ns) // self._width_ns, self._count - 1)
        order = np.argsort(bins, kind="stable")
        places = np.searchsorted(bins[order], np.arange(self._count + 1))
        for number, (begin, end) in enumerate(pairwise(places.tolist())):
            if end > begin:
                part = values[order[begin:end]]
                found[number] = np.percentile(part, percent, method="higher")
        return found
