"""Ticks to signals: the one path of live, replay and backtest.

A burst goes through the kernel in one compiled call. Where that call stops early, because a Python
strategy wants to see the state as a record left it, what it made is decided first and the rest of
the burst follows; so neither the size of a burst nor where it was cut changes any answer.
"""

import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.candidates import Candidate, candidates_of
from engine.core.ports import Clock, SignalSink
from engine.core.reasons import Gate
from engine.core.records import Bars, Instruments, Ticks
from engine.core.signals import SIDES, Refusal, Signal, SignalIds
from engine.python_host import Hosted, Made, PythonHost
from engine.risk.gate import RiskGate
from feeds.burst import ORIGIN
from latency.histogram import StageHistograms
from latency.stages import Stage
from strategies.kernel import Kernel
from strategies.python_strategy import Proposal

GATES_PASSED: Final = tuple(gate.value for gate in Gate)
MAX_CASCADE: Final = 256
"""Most proposals one record may cause through strategies that answer each other's signals."""

_GATE: Final = int(Stage.GATE)
_ORIGIN_BYTES: Final = ORIGIN.itemsize
_origin_in: Final[Callable[[Any, int], tuple[int, ...]]] = struct.Struct("<QQqq").unpack_from
"""The first four fields of an ORIGIN record; a fifth of what numpy takes to read one."""
_now: Final = time.perf_counter_ns

Origins = npt.NDArray[np.void]
"""Structured array of feeds.burst.ORIGIN, parallel to the records of a burst."""
Run = Callable[[npt.NDArray[np.void], int, int], int]


@dataclass(frozen=True, slots=True)
class StrategyFacts:
    """What the pipeline needs of a strategy, compiled or not."""

    name: str
    version: str
    parameters: str
    valid_for_ns: int
    instruments: tuple[str, ...] = ("*",)
    """Patterns of the instruments it looks at."""

    def looks_at(self, symbol: str) -> bool:
        """Return whether a symbol is meant by any of its patterns."""
        return any(fnmatchcase(symbol, pattern) for pattern in self.instruments)


class Pipeline:
    """Owns all trading state; belongs to one thread.

    Args:
        kernel: The fused kernel, warmed up.
        gate: The risk gate.
        host: The Python strategies.
        strategies: Facts by strategy number: the compiled rules first, then the Python ones.
        sink: Takes signals, refusals and events.
        clock: What time it is.
        histograms: Gets the stages gate, publish and total; its caller knows the others.
        stream: Epoch of the signal stream and the sequence number of the next signal.

    Attributes:
        signals: Signals made.
        refused: Candidates refused.
        void: Signals that the sink could not take; they got no sequence number.
        ticks: Records taken.
        gaps: Gaps among them.
        cascades_cut: Proposals dropped because strategies answered each other without end.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        gate: RiskGate,
        host: PythonHost,
        strategies: Sequence[StrategyFacts],
        sink: SignalSink,
        clock: Clock,
        histograms: StageHistograms,
        stream: tuple[int, int] = (0, 1),
    ) -> None:
        self.kernel = kernel
        self.gate = gate
        self.host = host
        self.strategies = list(strategies)
        self.sink = sink
        self.clock = clock
        self.histograms = histograms
        self.stream_epoch, self.next_seq = stream
        self.symbols: list[str] = []
        self.signals = 0
        self.refused = 0
        self.void = 0
        self.ticks = 0
        self.cascades_cut = 0
        self._numbers: dict[str, int] = {}
        self._ids: dict[tuple[int, int], SignalIds] = {}
        self._tick = (-1, -1)
        self._proposed: dict[SignalIds, int] = {}
        self._last: Candidate | None = None
        self._started_ns = 0
        self.gaps = 0

    def define(self, instruments: Instruments) -> None:
        """Take instrument definitions, new or changed; ids below the kernel's capacity.

        Definitions beyond the capacity are left out and told as an event.
        """
        known = instruments[instruments["id"] < self.kernel.instruments]
        if len(known) < len(instruments):
            fields = {"defined": len(instruments), "capacity": self.kernel.instruments}
            self.sink.on_event("instruments_over_capacity", 0, fields)
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
        for index, facts in enumerate(self.strategies[:rules]):
            self.kernel.enabled[index, number] = facts.looks_at(symbol)
        for hosted in self.host.hosted:
            if self.strategies[hosted.number].looks_at(symbol):
                hosted.watched.add(number)

    def run_ticks(self, ticks: Ticks, origins: Origins, start: int, stop: int) -> int:
        """Take ticks [start, stop) of a burst, with their origins; return the kernel's time, ns."""
        self.ticks += stop - start
        self._started_ns = _now()
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
        self._started_ns = _now()
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
                for candidate in candidates_of(kernel.candidate_bytes, candidates):
                    self._decide(candidate, origins)
            if bars:
                self._hand_over_bars(bars, origins)
            if gaps != self.gaps:
                self.gaps = gaps
                self.gate.note_gap(int(records["ts_recv"][reached - 1]))
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
                self._decide(candidate, origins)

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
            instrument=number,
            strategy=hosted.number,
            flags=int(m["flags"]),
            side=proposal.side,
            session=int(m["session"]),
        )

    def _decide(self, candidate: Candidate, origins: Origins) -> None:
        """Judge one candidate, and what Python strategies answer to the signal it becomes."""
        if not self.host.listens:
            self._judge(candidate, origins)
            return
        waiting = deque([candidate])
        for _ in range(MAX_CASCADE):
            if not waiting:
                return
            one = waiting.popleft()
            signal = self._judge(one, origins)
            if signal is not None:
                times = one.ts_event, one.ts_recv
                for hosted, proposal in self.host.on_signal(signal):
                    answer = self._candidate_of(hosted, proposal, one.row, times)
                    if answer is not None:
                        waiting.append(answer)
        self.cascades_cut += len(waiting)

    def _judge(self, candidate: Candidate, origins: Origins) -> Signal | None:
        began = _now()
        self._last = candidate
        facts = self.strategies[candidate.strategy]
        epoch, tick_seq, intended, sent = _origin_in(origins, candidate.row * _ORIGIN_BYTES)
        now = self.clock.wall_ns(candidate.ts_recv, sent)
        valid_until = candidate.ts_recv + facts.valid_for_ns
        verdict = self.gate.check(candidate, valid_until_ns=valid_until, now_wall_ns=now)
        identity = self._identify(candidate, (epoch, tick_seq))
        judged = _now()
        if verdict.reason is not None and verdict.gate is not None:
            self.refused += 1
            self.gate.refuse(verdict.reason)
            self.histograms.record_value(_GATE, judged - began)
            self.sink.on_refusal(
                Refusal(
                    id=identity,
                    instrument=self.symbols[candidate.instrument],
                    strategy=facts.name,
                    side=SIDES[candidate.side],
                    gate=verdict.gate.value,
                    reason=verdict.reason.value,
                    tick_epoch=epoch,
                    tick_seq=tick_seq,
                    ts_event=candidate.ts_event,
                    ts_refused=now,
                    detail=verdict.detail,
                )
            )
            return None
        signal = self._signal(candidate, facts, identity, (epoch, tick_seq), (now, valid_until))
        if not self.sink.on_signal(signal):
            self.void += 1
            self.histograms.record_value(_GATE, judged - began)
            return None
        published = _now()
        total_ns = self.clock.total_ns(intended, self._started_ns)
        self.gate.accept(candidate)
        self.next_seq += 1
        self.signals += 1
        self.histograms.record_signal(judged - began, published - judged, total_ns)
        return signal

    def rehearse(self) -> Signal | None:
        """Judge the last candidate once more, and make its signal, to no effect at all.

        Returns:
            A signal to do the same with; None before the first candidate.
        """
        candidate = self._last
        if candidate is None:
            return None
        candidates_of(self.kernel.candidate_bytes, 1)
        facts = self.strategies[candidate.strategy]
        now = self.clock.wall_ns(candidate.ts_recv, candidate.ts_recv)
        until = candidate.ts_recv + facts.valid_for_ns
        self.gate.check(candidate, valid_until_ns=until, now_wall_ns=candidate.ts_recv)
        identity = self._ids_of(candidate).make(0, 0)
        return self._signal(candidate, facts, identity, (0, 0), (now, until))

    def _signal(
        self,
        candidate: Candidate,
        facts: StrategyFacts,
        identity: str,
        origin: tuple[int, int],
        times: tuple[int, int],
    ) -> Signal:
        now, valid_until = times
        edge = candidate.edge_bps
        # By position, for a keyword costs as much as the field itself.
        return Signal(
            identity,
            self.stream_epoch,
            self.next_seq,
            self.symbols[candidate.instrument],
            SIDES[candidate.side],
            candidate.strength,
            candidate.confidence,
            candidate.price,
            edge if edge == edge else None,
            facts.name,
            facts.version,
            origin[0],  # tick_epoch
            origin[1],  # tick_seq
            candidate.ts_event,
            candidate.ts_recv,
            now,  # ts_emit
            valid_until,
            now - candidate.ts_event,  # age_ns
            GATES_PASSED,
        )

    def _identify(self, candidate: Candidate, tick: tuple[int, int]) -> str:
        """Return the id of a proposal; the second of a strategy on one tick has its own."""
        if tick != self._tick:
            self._tick = tick
            self._proposed.clear()
        ids = self._ids_of(candidate)
        further = self._proposed.get(ids, 0)
        self._proposed[ids] = further + 1
        return ids.make(*tick, further)

    def _ids_of(self, candidate: Candidate) -> SignalIds:
        key = candidate.strategy, candidate.instrument
        ids = self._ids.get(key)
        if ids is None:
            facts = self.strategies[candidate.strategy]
            symbol = self.symbols[candidate.instrument]
            ids = SignalIds(facts.name, facts.version, facts.parameters, symbol)
            self._ids[key] = ids
        return ids
