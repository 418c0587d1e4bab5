"""From a candidate to a signal or a refusal: the risk gate, the id, the sequence number, the sink.

Owned by the thread that runs the pipeline.
"""

import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from engine.core.candidates import Candidate
from engine.core.models import Score
from engine.core.ports import Clock, SignalSink
from engine.core.reasons import Gate
from engine.core.signals import SIDES, Refusal, Signal, SignalIds, scored
from engine.risk.gate import RiskGate
from feeds.burst import ORIGIN
from latency.histogram import StageHistograms
from latency.stages import Stage

GATES_PASSED: Final = tuple(gate.value for gate in Gate)
MODEL_GATE: Final = "model"
"""What stands for the gate in a refusal for want of a score."""

COUNTED_TICKS: Final = 1024
"""Newest ticks whose proposals are counted: a score may come after the proposals of later ticks."""

Origin = tuple[int, ...]
"""Where a tick came from: epoch, sequence number, when it was to leave and when it left, ns."""

ProposalCounts = list[tuple[tuple[int, int], list[tuple[int, int, int]]]]
"""By tick, its epoch and number: strategy, instrument, and how often the one proposed it."""

_GATE: Final = int(Stage.GATE)
_ORIGIN_BYTES: Final = ORIGIN.itemsize
_unpack_origin: Final[Callable[[Any, int], Origin]] = struct.Struct("<QQqq").unpack_from
_now: Final = time.perf_counter_ns


def origin_at(origins: Any, row: int) -> Origin:
    """Return the first four fields of an ORIGIN record; numpy takes five times as long."""
    return _unpack_origin(origins, row * _ORIGIN_BYTES)


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StrategyFacts:
    """What is told of a strategy on its signals, compiled or not."""

    name: str
    version: str
    parameters: str
    valid_for_ns: int
    instruments: tuple[str, ...] = ("*",)
    """Patterns of the instruments it looks at."""

    def looks_at(self, symbol: str) -> bool:
        """Return whether a symbol is meant by any of its patterns."""
        return any(fnmatchcase(symbol, pattern) for pattern in self.instruments)


class Judge:
    """Judges candidates one after the other, and numbers what becomes of them.

    Args:
        gate: The risk gate.
        strategies: Facts by strategy number.
        sink: Takes signals, refusals and events.
        clock: What time it is.
        histograms: Gets the stages gate, publish and total.
        stream: Epoch of the signal stream and the sequence number of the next signal.
        late: Candidates may come after those of later ticks, as those do that wait for scores.

    Attributes:
        symbols: The instruments' symbols by id.
        started_ns: Monotonic time at which the burst at hand was taken.
        signals: Signals made.
        refused: Candidates refused.
        void: Signals that the sink could not take; they got no sequence number.
        was_let: Tells of a refused candidate's id whether it was let through before a restart, and
            is to be again.
    """

    def __init__(
        self,
        *,
        gate: RiskGate,
        strategies: Sequence[StrategyFacts],
        sink: SignalSink,
        clock: Clock,
        histograms: StageHistograms,
        stream: tuple[int, int] = (0, 1),
        late: bool = False,
    ) -> None:
        self.gate = gate
        self.strategies = list(strategies)
        self.sink = sink
        self.clock = clock
        self.histograms = histograms
        self.stream_epoch, self.next_seq = stream
        self.symbols: list[str] = []
        self.started_ns = 0
        self.signals = 0
        self.refused = 0
        self.void = 0
        self.was_let: Callable[[str], bool] = _never
        self._ids: dict[tuple[int, int], SignalIds] = {}
        self._late = late
        self._tick = (-1, -1)
        self._proposed: dict[SignalIds, int] = {}
        self._ticks: OrderedDict[tuple[int, int], dict[SignalIds, int]] = OrderedDict()
        self._last: Candidate | None = None

    def judge(
        self, candidate: Candidate, origin: Origin, score: Score | None = None
    ) -> Signal | None:
        """Ask the risk gate; send and book the signal, or tell the refusal."""
        began = _now()
        self._last = candidate
        facts = self.strategies[candidate.strategy]
        epoch, tick_seq, intended, sent = origin
        now = self.clock.wall_ns(candidate.ts_recv, sent)
        valid_until = candidate.ts_recv + facts.valid_for_ns
        verdict = self.gate.check(candidate, valid_until_ns=valid_until, now_wall_ns=now)
        identity = self._identify(candidate, (epoch, tick_seq))
        judged = _now()
        if verdict.reason is not None and verdict.gate is not None and not self.was_let(identity):
            self.gate.refuse(verdict.reason)
            self.histograms.record_value(_GATE, judged - began)
            why = verdict.gate.value, verdict.reason.value, verdict.detail
            self._tell_refusal(candidate, identity, origin, now, why)
            return None
        signal = self._signal(
            candidate, facts, identity, (epoch, tick_seq), (now, valid_until), score
        )
        if not self.sink.on_signal(signal):
            self.void += 1
            self.histograms.record_value(_GATE, judged - began)
            return None
        published = _now()
        total_ns = self.clock.total_ns(intended, self.started_ns)
        self.gate.accept(candidate)
        self.next_seq += 1
        self.signals += 1
        self.histograms.record_signal(judged - began, published - judged, total_ns)
        return signal

    def refuse(self, candidate: Candidate, origin: Origin, reason: str, detail: str = "") -> None:
        """Tell a refusal for want of a score; the risk gate is not asked."""
        now = self.clock.wall_ns(candidate.ts_recv, origin[3])
        identity = self._identify(candidate, (origin[0], origin[1]))
        self._tell_refusal(candidate, identity, origin, now, (MODEL_GATE, reason, detail))

    def begin_anew(self, next_seq: int) -> None:
        """Number signals from here, and forget what was counted so far."""
        self.next_seq = next_seq
        self.signals = self.refused = self.void = 0

    def replace_facts(self, number: int, facts: StrategyFacts) -> None:
        """Take other facts of a strategy; the ids of its signals change with them."""
        self.strategies[number] = facts
        self._ids = {key: ids for key, ids in self._ids.items() if key[0] != number}

    def export_state(self) -> ProposalCounts:
        """Return how often each strategy proposed on the ticks that still count."""
        keys = {ids: key for key, ids in self._ids.items()}
        return [
            (tick, [(*keys[ids], count) for ids, count in proposed.items() if ids in keys])
            for tick, proposed in (self._ticks.items() if self._late else ())
        ]

    def import_state(self, kept: ProposalCounts) -> None:
        """Take up what was exported; the symbols are known already."""
        self._tick = (-1, -1)
        self._last = None
        self._proposed = {}
        self._ids.clear()
        self._ticks.clear()
        for tick, counts in kept if self._late else ():
            self._ticks[tick] = {
                self._ids_by_key((strategy, instrument)): count
                for strategy, instrument, count in counts
            }

    def rehearse(self) -> Signal | None:
        """Judge the last candidate once more, and make its signal, to no effect at all.

        Returns:
            A signal to do the same with; None before the first candidate.
        """
        candidate = self._last
        if candidate is None:
            return None
        facts = self.strategies[candidate.strategy]
        now = self.clock.wall_ns(candidate.ts_recv, candidate.ts_recv)
        until = candidate.ts_recv + facts.valid_for_ns
        self.gate.check(candidate, valid_until_ns=until, now_wall_ns=candidate.ts_recv)
        identity = self._ids_of(candidate).make(0, 0)
        return self._signal(candidate, facts, identity, (0, 0), (now, until), None)

    def _tell_refusal(
        self,
        candidate: Candidate,
        identity: str,
        origin: Origin,
        now: int,
        why: tuple[str, str, str],
    ) -> None:
        self.refused += 1
        self.sink.on_refusal(
            Refusal(
                identity,
                self.symbols[candidate.instrument],
                self.strategies[candidate.strategy].name,
                SIDES.get(candidate.side, "NONE"),
                why[0],  # gate
                why[1],  # reason
                origin[0],  # tick_epoch
                origin[1],  # tick_seq
                candidate.ts_event,
                now,  # ts_refused
                why[2],  # detail
            )
        )

    def _signal(
        self,
        candidate: Candidate,
        facts: StrategyFacts,
        identity: str,
        origin: tuple[int, int],
        times: tuple[int, int],
        score: Score | None,
    ) -> Signal:
        now, valid_until = times
        edge = candidate.edge_bps
        # By position, for a keyword costs as much as the field itself.
        signal = Signal(
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
        return signal if score is None else scored(signal, score)

    def _identify(self, candidate: Candidate, tick: tuple[int, int]) -> str:
        """Return the id of a proposal; the second of a strategy on one tick has its own."""
        if tick != self._tick:
            self._tick = tick
            if self._late:
                self._proposed = self._proposals_on(tick)
            else:
                self._proposed.clear()
        ids = self._ids_of(candidate)
        further = self._proposed.get(ids, 0)
        self._proposed[ids] = further + 1
        return ids.make(*tick, further)

    def _proposals_on(self, tick: tuple[int, int]) -> dict[SignalIds, int]:
        proposed = self._ticks.get(tick)
        if proposed is None:
            if len(self._ticks) >= COUNTED_TICKS:
                self._ticks.popitem(last=False)
            proposed = self._ticks[tick] = {}
        return proposed

    def _ids_of(self, candidate: Candidate) -> SignalIds:
        return self._ids_by_key((candidate.strategy, candidate.instrument))

    def _ids_by_key(self, key: tuple[int, int]) -> SignalIds:
        ids = self._ids.get(key)
        if ids is None:
            facts, symbol = self.strategies[key[0]], self.symbols[key[1]]
            ids = SignalIds(facts.name, facts.version, facts.parameters, symbol)
            self._ids[key] = ids
        return ids
