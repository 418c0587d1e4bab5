"""Ticks to signals: the one path of live, replay and backtest.

A burst goes through the kernel in one compiled call. Where that call stops early, because a Python
strategy wants to see the state as a record left it, what it made is decided first and the rest of
the burst follows; so neither the size of a burst nor where it was cut changes any answer.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.candidates import Candidate, candidates_of
from engine.core.errors import SnapshotError
from engine.core.models import Score
from engine.core.records import INSTRUMENT, Bars, Instruments, Ticks, id_bound
from engine.core.signals import Signal
from engine.judge import Judge, Origin, ProposalCounts, StrategyFacts, origin_at
from engine.model_desk import ModelDesk, Pending
from engine.python_host import Hosted, HostedState, Made, PythonHost
from engine.risk.gate import GateState, RiskGate
from runtime.asking import Answer
from strategies.codegen import TALLY_RESETS
from strategies.kernel import Kernel, KernelState
from strategies.python_strategy import Proposal

__all__ = ["Pipeline", "StrategyFacts"]

MAX_CASCADE: Final = 256
"""Most proposals one record may cause through strategies that answer each other's signals."""

_now: Final = time.perf_counter_ns

Origins = npt.NDArray[np.void]
"""Structured array of feeds.burst.ORIGIN, parallel to the records of a burst."""
Run = Callable[[npt.NDArray[np.void], int, int], int]


class PipelineState(msgspec.Struct, frozen=True):
    """All trading state between two bursts, as plain values: for a snapshot."""

    instruments: bytes
    """The definitions taken, INSTRUMENT records."""
    kernel: KernelState
    gate: GateState
    proposals: ProposalCounts
    strategies: list[HostedState]
    waiting: list[Pending]


class Pipeline:
    """Owns all trading state; belongs to one thread.

    Args:
        kernel: The fused kernel, warmed up.
        judge: Makes signals and refusals of candidates.
        host: The Python strategies.
        desk: Gets scores for the candidates that wait for one; None without models.

    Attributes:
        ticks: Records taken.
        gaps: Gaps among them.
        instruments: Definitions taken, INSTRUMENT, shape (I,), by id.
        cascades_cut: Proposals dropped because strategies answered each other without end.
    """

    def __init__(
        self, *, kernel: Kernel, judge: Judge, host: PythonHost, desk: ModelDesk | None = None
    ) -> None:
        self.kernel = kernel
        self.judge = judge
        self.host = host
        self.desk = desk
        self.ticks = 0
        self.gaps = 0
        self.cascades_cut = 0
        self.instruments: Instruments = np.zeros(0, INSTRUMENT)
        self._numbers: dict[str, int] = {}

    @property
    def gate(self) -> RiskGate:
        """The risk gate."""
        return self.judge.gate

    @property
    def symbols(self) -> list[str]:
        """The instruments' symbols by id."""
        return self.judge.symbols

    @property
    def signals(self) -> int:
        """Signals made."""
        return self.judge.signals

    def define(self, instruments: Instruments) -> None:
        """Take instrument definitions, new or changed; ids below the kernel's capacity.

        Definitions beyond the capacity are left out and told as an event.
        """
        known = instruments[instruments["id"] < self.kernel.instruments]
        if len(known) < len(instruments):
            fields = {"defined": len(instruments), "capacity": self.kernel.instruments}
            self.judge.sink.on_event("instruments_over_capacity", 0, fields)
        grown = np.zeros(max(len(self.instruments), id_bound(known)), INSTRUMENT)
        grown[: len(self.instruments)] = self.instruments
        grown[known["id"]] = known
        self.instruments = grown
        self.kernel.define(known)
        self.gate.define(known)
        for row in known:
            number = int(row["id"])
            self.symbols.extend([""] * (number + 1 - len(self.symbols)))
            self.symbols[number] = row["symbol"].decode()
            self._numbers[self.symbols[number]] = number
            self._enable(number, self.symbols[number])
        self.host.symbols = self.symbols

    def _enable(self, number: int, symbol: str) -> None:
        rules = len(self.kernel.plan.rules)
        for index, facts in enumerate(self.judge.strategies[:rules]):
            self.kernel.enabled[index, number] = facts.looks_at(symbol)
        for hosted in self.host.hosted:
            if self.judge.strategies[hosted.number].looks_at(symbol):
                hosted.watched.add(number)

    def export_state(self) -> PipelineState:
        """Return a copy of all trading state; call it between two bursts.

        Raises:
            SnapshotError: a Python strategy cannot be kept; names it.
        """
        return PipelineState(
            instruments=self.instruments.tobytes(),
            kernel=self.kernel.export_state(),
            gate=self.gate.export_state(),
            proposals=self.judge.export_state(),
            strategies=self.host.export_state(),
            waiting=[] if self.desk is None else self.desk.pending(),
        )

    def import_state(self, kept: PipelineState) -> None:
        """Forget everything and take up what was exported, after ``host.start``.

        Candidates that waited for scores are left to ``ask_again``. Counters of what was done stay.

        Raises:
            SnapshotError: it does not fit, and the state is undefined: import another.
        """
        self._forget()
        try:
            self.define(np.frombuffer(kept.instruments, INSTRUMENT))
            self.kernel.import_state(kept.kernel)
            self.gate.import_state(kept.gate)
            self.judge.import_state(kept.proposals)
        except (ValueError, LookupError) as error:
            raise SnapshotError(f"its state does not fit: {error}") from error
        self.host.import_state(kept.strategies)
        self.gaps = self.kernel.outputs()[TALLY_RESETS]

    def _forget(self) -> None:
        self.symbols.clear()
        self._numbers.clear()
        self.instruments = np.zeros(0, INSTRUMENT)
        self.kernel.enabled[: len(self.kernel.plan.rules)] = 0
        for hosted in self.host.hosted:
            hosted.watched.clear()

    def ask_again(self, waiting: Sequence[Pending]) -> None:
        """Go on with candidates that waited for scores when the state was exported."""
        if self.desk is None:
            return
        self.judge.started_ns = _now()
        for pending, answer in zip(waiting, self.desk.ask(waiting), strict=True):
            if answer is not None:
                self._decide_scored(self.desk, pending.candidate, pending.origin, answer)

    def unmatched(self) -> list[str]:
        """Return the strategies whose patterns match no instrument defined so far."""
        seen = [bool(row.any()) for row in self.kernel.enabled[: len(self.kernel.plan.rules)]]
        seen += [bool(hosted.watched) for hosted in self.host.hosted]
        facts = self.judge.strategies
        return [one.name for one, any_ in zip(facts, seen, strict=True) if not any_]

    def run_ticks(self, ticks: Ticks, origins: Origins, start: int, stop: int) -> int:
        """Take ticks [start, stop) of a burst, with their origins; return the kernel's time, ns."""
        self.ticks += stop - start
        self.judge.started_ns = _now()
        if not self.host.wants_ticks:
            return self._run(self.kernel.run_ticks, ticks, origins, start, stop)
        at, compute_ns = start, 0
        for row in (self.host.tick_rows(ticks["kind"][start:stop]) + start).tolist():
            compute_ns += self._run(self.kernel.run_ticks, ticks, origins, at, row + 1)
            tick = ticks[row]
            times = int(tick["ts_event"]), int(tick["ts_recv"])
            self._decide_made(self.host.on_tick(tick), origins, row, times)
            at = row + 1
        return compute_ns + self._run(self.kernel.run_ticks, ticks, origins, at, stop)

    def run_bars(self, bars: Bars, origins: Origins, start: int, stop: int) -> int:
        """Take recorded bars [start, stop), with their origins; return the kernel's time, ns."""
        self.ticks += stop - start
        self.judge.started_ns = _now()
        return self._run(self.kernel.run_bars, bars, origins, start, stop)

    def _run(
        self, run: Run, records: npt.NDArray[np.void], origins: Origins, at: int, stop: int
    ) -> int:
        kernel, compute_ns = self.kernel, 0
        while at < stop:
            before = _now()
            reached = run(records, at, stop)
            compute_ns += _now() - before
            candidates, bars, gaps = kernel.outputs()
            if candidates:
                made = candidates_of(kernel.candidate_bytes, candidates)
                if self.desk is None:
                    for candidate in made:
                        self._decide(candidate, origin_at(origins, candidate.row))
                else:
                    self._decide_with_scores(self.desk, made, origins)
            if bars:
                self._hand_over_bars(bars, origins)
            if gaps != self.gaps:
                self.gaps = gaps
                gap = records[reached - 1]
                self.gate.note_gap(int(gap["ts_recv"]))
                self.host.on_gap(gap)
            at = reached
        return compute_ns

    def _hand_over_bars(self, count: int, origins: Origins) -> None:
        kernel = self.kernel
        for index in range(count):
            bar, row = kernel.bars[index], int(kernel.bar_rows[index])
            times = int(bar["ts_event"]), int(bar["ts_recv"])
            self._decide_made(self.host.on_bar(bar, kernel.values[index]), origins, row, times)

    def _decide_made(
        self, made: Iterable[Made], origins: Origins, row: int, times: tuple[int, int]
    ) -> None:
        for hosted, proposal in made:
            candidate = self._candidate_of(hosted, proposal, row, times)
            if candidate is not None:
                self._decide(candidate, origin_at(origins, row))

    def _candidate_of(
        self, hosted: Hosted, proposal: Proposal, row: int, times: tuple[int, int]
    ) -> Candidate | None:
        """Return a Python strategy's proposal with the market as the record left it."""
        number = self._numbers.get(proposal.instrument)
        if number is None:
            self.host.fail(hosted, f"it proposed the unknown instrument {proposal.instrument!r}")
            return None
        state = self.kernel.state[number]
        m = state["m"]
        bid, ask = float(m["bid"]), float(m["ask"])
        return Candidate(
            row=row,
            ts_event=times[0],
            ts_recv=times[1],
            price=float(m["last"]) if m["traded"] else 0.5 * (bid + ask),
            strength=proposal.strength,
            confidence=proposal.confidence,
            edge_bps=proposal.edge_bps,
            bid=bid,
            ask=ask,
            bid_size=float(m["bid_size"]),
            ask_size=float(m["ask_size"]),
            pre_close=float(state["x"]["pre_close"]),
            session_turnover=float(m["session_turnover"]),
            ts_quote=int(m["ts_quote"]),
            window=0,
            instrument=number,
            strategy=hosted.number,
            flags=int(m["flags"]),
            side=proposal.side,
            model=-1,
            session=int(m["session"]),
        )

    def _decide_with_scores(self, desk: ModelDesk, made: list[Candidate], origins: Origins) -> None:
        """Ask for all the scores at once, then judge in order those that need not wait."""
        places = [origin_at(origins, candidate.row) for candidate in made]
        waiting = [
            Pending(candidate, origin)
            for candidate, origin in zip(made, places, strict=True)
            if candidate.model >= 0
        ]
        answers = iter(desk.ask(waiting))
        for candidate, origin in zip(made, places, strict=True):
            if candidate.model < 0:
                self._decide(candidate, origin)
            elif (answer := next(answers)) is not None:
                self._decide_scored(desk, candidate, origin, answer)

    def take_answer(self, answer: Answer) -> None:
        """Go on with a candidate whose answer came later."""
        if self.desk is not None and isinstance(answer.context, Pending):
            pending = answer.context
            self.desk.settle(pending)
            self.judge.started_ns = _now()
            self._decide_scored(self.desk, pending.candidate, pending.origin, answer)

    def _decide_scored(
        self, desk: ModelDesk, candidate: Candidate, origin: Origin, answer: Answer
    ) -> None:
        read = desk.read(candidate, answer)
        if read.candidate is not None:
            self._decide(read.candidate, origin, read.score)
        elif read.failure is not None:
            self.judge.refuse(candidate, origin, read.failure.value, read.detail)

    def _decide(self, candidate: Candidate, origin: Origin, score: Score | None = None) -> None:
        """Judge one candidate, and what Python strategies answer to the signal it becomes."""
        if not self.host.listens:
            self.judge.judge(candidate, origin, score)
            return
        times = candidate.ts_event, candidate.ts_recv
        waiting = deque(
            self._answers(self.judge.judge(candidate, origin, score), candidate.row, times)
        )
        for _ in range(MAX_CASCADE - 1):
            if not waiting:
                return
            signal = self.judge.judge(waiting.popleft(), origin)
            waiting.extend(self._answers(signal, candidate.row, times))
        self.cascades_cut += len(waiting)

    def _answers(self, signal: Signal | None, row: int, times: tuple[int, int]) -> list[Candidate]:
        """Return what Python strategies propose upon a signal."""
        made = [] if signal is None else self.host.on_signal(signal)
        found = (self._candidate_of(hosted, proposal, row, times) for hosted, proposal in made)
        return [candidate for candidate in found if candidate is not None]

    def rehearse(self) -> Signal | None:
        """Go the way of the last candidate once more, to no effect: ``Judge.rehearse``."""
        candidates_of(self.kernel.candidate_bytes, 1)
        return self.judge.rehearse()
