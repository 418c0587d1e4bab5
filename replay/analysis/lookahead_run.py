"""One run of a configuration over a tape: what its strategies proposed, and indicator values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.clock import TickClock
from engine.composition import Blueprint, build_pipeline
from engine.core.records import Schema
from engine.core.signals import Refusal, Signal
from engine.pipeline import Pipeline
from latency.histogram import StageHistograms
from replay.analysis.lookahead_tape import Tape

SIGNAL: Final = "signal"
"""Outcome of a proposal that passed the risk gate; of one that did not it is the reason."""


class Proposal(NamedTuple):
    """What a strategy proposed on one record, and what the risk gate made of it.

    Strength, confidence, price and edge are NaN where it was refused: a refusal does not tell them.
    """

    epoch: int
    seq: int
    strategy: str
    instrument: str
    id: str
    side: str
    strength: float
    confidence: float
    price: float
    edge_bps: float
    ts_event: int
    outcome: str


class Capture:
    """A signal sink that keeps every proposal."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.silenced: list[str] = []

    def on_signal(self, signal: Signal) -> bool:
        """Keep it."""
        edge = np.nan if signal.edge_bps is None else signal.edge_bps
        self.proposals.append(
            Proposal(
                signal.tick_epoch, signal.tick_seq, signal.strategy, signal.instrument, signal.id,
                signal.side, signal.strength, signal.confidence, signal.price, edge,
                signal.ts_event, SIGNAL,
            )
        )  # fmt: skip
        return True

    def on_refusal(self, refusal: Refusal) -> None:
        """Keep it."""
        nan = float("nan")
        self.proposals.append(
            Proposal(
                refusal.tick_epoch, refusal.tick_seq, refusal.strategy, refusal.instrument,
                refusal.id, refusal.side, nan, nan, nan, nan, refusal.ts_event, refusal.reason,
            )
        )  # fmt: skip

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Keep which strategies failed for good."""
        if kind == "strategy_silenced":
            self.silenced.append(str(fields["strategy"]))


class Run(NamedTuple):
    """What came of a run."""

    proposals: list[Proposal]
    values: list[npt.NDArray[np.float64]]
    """Indicator outputs at each cut asked for, shape (I, outputs), NaN while not ready."""
    failures: dict[str, int]
    """How often Python strategies raised."""


def fresh(blueprint: Blueprint, params: Mapping[str, Mapping[str, Any]]) -> Blueprint:
    """Return a blueprint with new instances of its Python strategies, by the same classes.

    Args:
        blueprint: From ``resolve``.
        params: By a strategy's name, parameters that replace its configured ones.
    """
    made = tuple(
        (entry, type(strategy)({**entry.params, **params.get(entry.name, {})}))
        for entry, strategy in blueprint.python
    )
    return replace(blueprint, python=made)


def run_tape(
    blueprint: Blueprint, tape: Tape, until: int | None = None, stops: Sequence[int] = ()
) -> Run:
    """Run a tape through the pipeline that a configuration describes, in the log's own bursts.

    Args:
        blueprint: With strategies that nothing has called yet.
        tape: The records; the burst that holds the last of them may reach beyond.
        until: End with the burst that holds this many records; None: at the end.
        stops: Places, ascending, at which a burst is cut in two and values are taken.
    """
    capture = Capture()
    pipeline = build_pipeline(
        blueprint,
        capacity=tape.capacity,
        sink=capture,
        clock=TickClock(),
        histograms=StageHistograms(),
        bars=len(tape.bars) > 0,
    )
    pipeline.host.start()
    values = _feed(pipeline, tape, until, stops)
    pipeline.host.stop()
    return Run(capture.proposals, values, pipeline.host.failures())


def indicator_values(pipeline: Pipeline) -> npt.NDArray[np.float64]:
    """Return all outputs of all indicators now, shape (I, outputs), NaN while not ready."""
    state = pipeline.kernel.state[:-1]
    columns = [np.full(len(state), np.nan)]
    for one in pipeline.kernel.plan.indicators:
        ready = state[one.field]["ready"] != 0
        columns += [np.where(ready, state[one.field][name], np.nan) for name in one.spec.outputs]
    return np.stack(columns, axis=1)


def value_names(blueprint: Blueprint) -> list[str]:
    """Return what the columns of ``indicator_values`` are, the first being nothing."""
    names = [""]
    for one in blueprint.plan.indicators:
        params = ", ".join(f"{name}={value}" for name, value in one.params.items())
        names += [f"{one.spec.name}({params}).{out} on {one.clock}" for out in one.spec.outputs]
    return names


def _feed(
    pipeline: Pipeline, tape: Tape, until: int | None, stops: Sequence[int]
) -> list[npt.NDArray[np.float64]]:
    values: list[npt.NDArray[np.float64]] = []
    at = 0
    for span in tape.spans:
        if until is not None and at >= until:
            break
        if span.schema == Schema.INSTRUMENTS:
            pipeline.define(span.defined)
            continue
        records, origins = tape.of(span.schema), tape.origins_of(span.schema)
        take = pipeline.run_bars if span.schema == Schema.BAR else pipeline.run_ticks
        stop = min(span.stop, len(records))
        burst, places = records[span.start : stop], origins[span.start : stop]
        for first, last in _pieces(len(burst), at, stops):
            take(burst, places, first, last)
            if at + last in stops:
                values.append(indicator_values(pipeline))
        at += span.stop - span.start
    return values


def _pieces(count: int, at: int, stops: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of a burst of records ``at`` onwards, cut where there is a stop."""
    first = 0
    for stop in [*(s - at for s in stops if at < s < at + count), count]:
        if stop > first:
            yield first, stop
        first = stop
