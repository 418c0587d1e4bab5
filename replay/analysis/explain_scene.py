"""Takes down what a pipeline knows at the moment in which one candidate is judged."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.core.candidates import Candidate
from engine.core.records import TickKind
from engine.core.signals import Refusal, Signal
from engine.model_desk import Reading
from engine.parts import label_of
from replay.analysis.diff_scores import Scores, room
from replay.analysis.diff_twin import Read, Twin
from replay.analysis.explain_gates import as_rows, asked_of
from strategies.plan import IndicatorInstance, RuleInstance

Records = npt.NDArray[np.void]
Fields = dict[str, Any]
_BARE: Final = ("cur", "reserved")


class Scene(msgspec.Struct, kw_only=True):
    """What was behind one decision, as JSON can hold it.

    Attributes:
        ticks: Records of the instrument up to the one that caused it, oldest first.
        market: The top of book, the last trade and the day, as the record left them.
        bars: Bars that the record closed.
        indicators: Each with its clock, its outputs and whether it is ready.
        rule: The rule's own state.
        window: The feature window that was scored: ``columns``, ``rows`` as the model sees them.
        score: The model's answer and what was read in it.
        gates: Every rule of the risk gate and what it saw.
        candidate: What the strategy proposed; None if it proposed nothing.
        decided: The signal or the refusal that became of it here.
    """

    ticks: list[Fields] = []
    market: Fields = {}
    bars: list[Fields] = []
    indicators: list[Fields] = []
    rule: Fields = {}
    window: Fields | None = None
    score: Fields | None = None
    gates: list[Fields] = []
    candidate: Fields | None = None
    decided: Fields | None = None


class SceneTaker:
    """Watches a twin for one decision; stands between it and the sink that it has.

    Args:
        twin: The pipeline.
        strategy: Whose decision it is.
        instrument: Its symbol.
        identity: The signal's id; without one of that id, the strategy's last decision counts.
        live: The journaled signal, None if there is none.
        ticks: How many records of the instrument are kept.
        scores: Tolerances of the models.
        progress: Called with the records done, now and then.

    Attributes:
        scene: What was taken down.
        decided: The decision that it is of; None if there was none.
        origin: Where the record came from: epoch, number, when it was to leave and left, ns.
    """

    def __init__(
        self,
        twin: Twin,
        *,
        strategy: str,
        instrument: str,
        identity: str,
        live: Signal | None,
        ticks: int,
        scores: Scores,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.scene = Scene()
        self.decided: Signal | Refusal | None = None
        self.origin: Fields = {}
        self._twin = twin
        self._sink = twin.judge.sink
        self._strategy = strategy
        self._instrument = instrument
        self._identity = identity
        self._live = live
        self._scores = scores
        self._progress = progress
        self._reached = False
        self._recent: deque[Fields] = deque(maxlen=ticks)
        twin.judge.sink = self
        twin.before_records = self._note_records
        twin.on_stop = self._on_stop

    def on_signal(self, signal: Signal) -> bool:
        """Take down what is behind it, if it is the one, and pass it on."""
        if self._is_wanted(signal):
            self._take_down(signal)
        return self._sink.on_signal(signal)

    def on_refusal(self, refusal: Refusal) -> None:
        """Take down what is behind it, if it is the one, and pass it on."""
        if self._is_wanted(refusal):
            self._take_down(refusal)
        self._sink.on_refusal(refusal)

    def on_event(self, kind: str, ts_ns: int, fields: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._sink.on_event(kind, ts_ns, fields)

    def finish(self) -> Scene:
        """Return the scene once the record has been taken, whether or not anything came of it."""
        self.scene.ticks = list(self._recent)
        number = self._number()
        if number is not None:
            self._take_state(number)
            desk = self._twin.desk
            if self.scene.score is None and desk is not None and desk.last is not None:
                self._take_score(desk.last, number)
        return self.scene

    def _is_wanted(self, decided: Signal | Refusal) -> bool:
        if not self._reached:
            return False
        if decided.id == self._identity:
            return True
        is_other = self.decided is not None and self.decided.id == self._identity
        return not is_other and (decided.strategy, decided.instrument) == (
            self._strategy,
            self._instrument,
        )

    def _number(self) -> int | None:
        symbols = self._twin.judge.symbols
        return symbols.index(self._instrument) if self._instrument in symbols else None

    def _note_records(self, records: Records, origins: Records, count: int) -> None:
        number = self._number()
        if self._progress is not None:
            self._progress(self._twin.ground.taken)
        if number is None:
            return
        rows = np.flatnonzero(records["instrument"][:count] == number)
        for row in rows[-(self._recent.maxlen or 1) :].tolist():
            told = {"seq": int(origins[row]["seq"]), **fields_of(records[row])}
            if "kind" in told:
                told["kind"] = TickKind(told["kind"]).name.lower()
            self._recent.append(told)

    def _on_stop(self, _: np.void, origin: np.void) -> None:
        """From here on one record is taken: let its bars leave the kernel."""
        self._reached = True
        self.origin = fields_of(origin)
        kernel = self._twin.pipeline.kernel
        for index in range(len(kernel.plan.bars)):
            kernel.params[0][f"b{index}"]["emit"] = 1

    def _take_down(self, decided: Signal | Refusal) -> None:
        judge = self._twin.judge
        assert judge.proposal is not None
        candidate = judge.proposal.candidate
        self.decided = decided
        self.scene.decided = msgspec.to_builtins(decided)
        self.scene.candidate = msgspec.structs.asdict(candidate)
        self.scene.gates = self._gates(candidate)
        desk = self._twin.desk
        if desk is not None and desk.last is not None and candidate.model >= 0:
            self._take_score(desk.last, candidate.instrument)

    def _gates(self, candidate: Candidate) -> list[Fields]:
        judge = self._twin.judge
        until_ns = candidate.ts_recv + judge.strategies[candidate.strategy].valid_for_ns
        now_ns = candidate.ts_recv if self._live is None else self._live.ts_emit
        situation = judge.gate.situation_of(candidate, valid_until_ns=until_ns, now_wall_ns=now_ns)
        if situation is None:
            return []
        return as_rows(asked_of(candidate, situation, judge.gate.config))

    def _rule(self) -> RuleInstance | None:
        rules = self._twin.pipeline.kernel.plan.rules
        return next((rule for rule in rules if rule.name == self._strategy), None)

    def _take_state(self, number: int) -> None:
        kernel, rule = self._twin.pipeline.kernel, self._rule()
        plan, state = kernel.plan, kernel.state[number]
        self.scene.market = fields_of(state["m"])
        self.scene.bars = [
            {"bar": plan.bars[int(bar["spec"])].name, **fields_of(bar)}
            for bar in kernel.bars[: kernel.n_bars]
            if int(bar["instrument"]) == number
        ]
        used: list[IndicatorInstance] = []
        if rule is not None:
            used += rule.inputs
            self.scene.rule = fields_of(state[rule.field])
            if rule.model >= 0:
                used += [one for _, one, _ in plan.models[rule.model].columns]
        used += [one for watch, one in plan.watches if watch.name.startswith(f"{self._strategy}/")]
        for one in {one.field: one for one in used}.values():
            self.scene.indicators.append(_indicator(one, state[one.field]))

    def _take_score(self, read: Read, number: int) -> None:
        """Take down an answer, if it is the one of this decision."""
        judge, candidate = self._twin.judge, read.candidate
        facts = judge.strategies[candidate.strategy]
        place = self.origin.get("epoch"), self.origin.get("seq")
        is_of_it = facts.name == self._strategy and candidate.instrument == number
        if not is_of_it or tuple(read.origin[:2]) != place:
            return
        assert self._twin.desk is not None
        reading = self._twin.desk.readings[candidate.strategy]
        self.scene.score = {
            **_score(read, reading), "tolerance": self._scores.tolerance(facts.name)
        }  # fmt: skip
        self.scene.window = self._window(candidate)

    def _window(self, candidate: Candidate) -> Fields | None:
        kernel = self._twin.pipeline.kernel
        if candidate.model < 0 or not candidate.window:
            return None
        model = kernel.plan.models[candidate.model]
        rows = np.zeros((1, model.window, len(model.columns)), np.float32)
        whole = np.zeros(1, np.uint8)
        kernel.gather(
            candidate.model, np.array([candidate.instrument]), np.array([candidate.window]),
            rows, whole,
        )  # fmt: skip
        return {
            "model": model.name,
            "clock": model.clock,
            "number": candidate.window,
            "whole": bool(whole[0]),
            "columns": [column.name for column, _, _ in model.columns],
            "rows": rows[0].tolist(),
        }


def _score(read: Read, reading: Reading) -> Fields:
    score = read.answer.score
    values = None if score is None else score.values
    return {
        "values": values and dict(zip(reading.rule.labels, values, strict=True)),
        "bundle": reading.bundle,
        "failure": read.verdict.failure or read.answer.failure,
        "detail": read.verdict.detail,
        "proposes": _side(read),
        "confirms": reading.confirms,
        "room": None if score is None else room(read, reading),
    }


def _side(read: Read) -> str:
    candidate = read.verdict.candidate
    return "nothing" if candidate is None else {1: "BUY", -1: "SELL"}.get(candidate.side, "?")


def _indicator(one: IndicatorInstance, state: np.void) -> Fields:
    return {
        "indicator": label_of(one),
        "clock": one.clock,
        "ready": bool(state["ready"]),
        "outputs": {name: float(state[name]) for name in one.spec.outputs},
    }


def fields_of(record: np.void) -> Fields:
    """Return a record's fields as plain values, nested and reserved ones left out."""
    names = record.dtype.names or ()
    return {name: record[name].item() for name in names if name not in _BARE}
