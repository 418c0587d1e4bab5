"""Attributes a difference to its cause. Pure.

The order of the questions is that of a tick's way: other input explains everything after it; other
configuration is told by what both sides journaled of theirs; other state by the checkpoints; and
what is left by what the two sides said of one and the same candidate.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.composition import Blueprint
from engine.core.models import Failure
from engine.core.reasons import TIME_DEPENDENT, Reason
from engine.core.signals import Signal, SignalIds
from engine.journal_schema import RESTART_GATE
from engine.judge import MODEL_GATE, StrategyFacts
from engine.parts import label_of
from replay.analysis.diff_commands import COMMANDED, GateStates
from replay.analysis.diff_result import Cause, Difference, Kind, changes
from strategies.plan import IndicatorInstance, RuleInstance

TIMED: Final = frozenset(
    {*(reason.value for reason in TIME_DEPENDENT), Failure.LATE.value, Failure.REFUSED.value}
)
"""Reasons that depend on real elapsed time."""
ORDERED: Final = frozenset(
    {
        Reason.RISK_RATE.value,
        Reason.RISK_COOL_DOWN.value,
        Reason.RISK_EXPOSURE.value,
        Reason.MARKET_T_PLUS_1.value,
    }
)
"""Reasons that depend on which of two candidates was judged first."""
MOST_FURTHER: Final = 16
_SLACK_NS: Final = 5_000_000_000
_IDENTITY: Final = ("version", "parameters", "source", "valid_for_ns", "instruments")
_INPUT: Final = ("ts_event", "ts_recv", "price")
_PREFIXES: Final = (
    ("market", Cause.INPUT), ("sample", Cause.INPUT), ("bar ", Cause.FEATURE),
    ("indicator ", Cause.FEATURE), ("window ", Cause.FEATURE), ("rule ", Cause.STRATEGY),
)  # fmt: skip

Reasons = Callable[[int, int], Sequence[str]]


class StateFinding(NamedTuple):
    """The first checkpoint whose state is another one: ``good`` was still equal, ``bad`` is not."""

    good: int
    bad: int
    labels: tuple[str, ...]


class Scope(NamedTuple):
    """What one strategy stands on, by the names that a journaled configuration uses."""

    bars: frozenset[str]
    indicators: frozenset[str]
    model: str


def scopes_of(blueprint: Blueprint) -> dict[str, Scope]:
    """Return what each strategy stands on."""
    names = {rule.name: _scope(blueprint, rule) for rule in blueprint.plan.rules}
    bars = frozenset(bar.name for bar in blueprint.config.bars)
    for entry, _ in blueprint.python:
        watched = frozenset(
            label_of(one) for watch, one in blueprint.plan.watches
            if watch.name.startswith(f"{entry.name}/")
        )  # fmt: skip
        names[entry.name] = Scope(bars & {entry.on}, watched, "")
    return names


def _scope(blueprint: Blueprint, rule: RuleInstance) -> Scope:
    inputs: list[IndicatorInstance] = list(rule.inputs)
    clocks = {rule.clock}
    model = ""
    if rule.model >= 0:
        asked = blueprint.plan.models[rule.model]
        model = asked.name
        clocks.add(asked.clock)
        inputs += [instance for _, instance, _ in asked.columns]
    clocks |= {one.clock for one in inputs}
    return Scope(frozenset(clocks), frozenset(map(label_of, inputs)), model)


class Causes:
    """Attributes differences.

    Args:
        blueprint: The configuration of the replay.
        facts: Of its strategies, by name.
        parts: What it comes to; see ``engine.parts``.
        live_parts: What was journaled of the live one's at a place, None if nothing was.
        broken_at: Place from which on the input is another one; None: it is the same.
        state: What the checkpoints found.
        unsampled: For which reasons something may have been refused about a time, without a row.
        gate: What the risk gate allowed when.
        reordered: Tells whether scores came in another order than their ticks about a time.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        facts: Iterable[StrategyFacts],
        *,
        parts: Mapping[str, Any],
        live_parts: Callable[[int], Mapping[str, Any] | None],
        broken_at: int | None,
        state: StateFinding | None,
        unsampled: Reasons,
        gate: GateStates,
        reordered: Callable[[int], bool],
    ) -> None:
        self._blueprint = blueprint
        self._facts = {one.name: one for one in facts}
        self._scopes = scopes_of(blueprint)
        self._parts = parts
        self._live_parts = live_parts
        self._broken_at = broken_at
        self._state = state
        self._unsampled = unsampled
        self._gate = gate
        self._reordered = reordered

    def assign(self, one: Difference, live: Signal | None = None) -> None:
        """Set the cause of a difference, and what speaks for it.

        Args:
            one: The difference.
            live: The journaled signal that it is about, if it is about one.
        """
        questions = (
            self._by_time, self._by_input, self._by_names, self._by_configuration, self._by_state,
            lambda found: self._by_identity(found, live), self._by_unsampled, self._by_kind,
        )  # fmt: skip
        for question in questions:
            found = question(one)
            if found is not None:
                one.cause = found
                return

    def commanded(self, one: Difference) -> bool:
        """Tell whether live refused by an operator's command, which no recording holds."""
        if one.kind is Kind.VERDICT and one.live.get("reason") in COMMANDED:
            return True
        return one.kind is Kind.EXTRA and any(
            reason in COMMANDED and self._gate.may_refuse(reason, one.ts_event, _SLACK_NS)
            for reason in self._possible(one)
        )

    def _possible(self, one: Difference) -> Sequence[str]:
        return self._unsampled(one.ts_event, _SLACK_NS)

    def _by_time(self, one: Difference) -> Cause | None:
        if one.kind is not Kind.VERDICT:
            return None
        reason, gate = one.live.get("reason"), one.live.get("gate")
        superseded = reason == Failure.SUPERSEDED.value
        if superseded and not str(one.live.get("detail", "")).startswith("a score of"):
            one.evidence.append("its window had moved on before its turn came")
            return Cause.TIME
        if reason in TIMED or gate == RESTART_GATE:
            one.evidence.append("that reason depends on real elapsed time, which no replay has")
            return Cause.TIME
        return None

    def _by_unsampled(self, one: Difference) -> Cause | None:
        if one.kind is not Kind.EXTRA:
            return None
        timed = sorted((TIMED | {Failure.SUPERSEDED.value}) & set(self._possible(one)))
        if not timed:
            return None
        one.evidence.append(
            f"about then more was refused for {', '.join(timed)} than has a row of its own"
        )
        return Cause.TIME

    def _by_input(self, one: Difference) -> Cause | None:
        if one.kind is Kind.BYTES or "tick" in one.here:
            return Cause.INPUT
        if self._broken_at is not None and self._broken_at <= one.place:
            one.evidence.append(f"the input is another one from record {self._broken_at:,} on")
            return Cause.INPUT
        if one.kind is Kind.CONTENT and any(
            one.live.get(name) != one.here.get(name) for name in _INPUT
        ):
            one.evidence.append("time and price are the tick's own, not the strategy's")
            return Cause.INPUT
        return None

    def _by_names(self, one: Difference) -> Cause | None:
        if one.strategy and one.strategy not in self._facts:
            known = ", ".join(self._facts) or "none"
            one.evidence.append(f"there is no strategy {one.strategy!r} here; there are {known}")
            return Cause.STRATEGY
        return None

    def _by_configuration(self, one: Difference) -> Cause | None:
        """Ask what the session told of its configuration, where it bears on the strategy."""
        live = self._live_parts(one.place)
        if live is None:
            return None
        scope = self._scopes.get(one.strategy)
        for cause, found in self._changes(one, live, scope):
            if found:
                one.evidence += found[:8]
                return cause
        return None

    def _changes(
        self, one: Difference, live: Mapping[str, Any], scope: Scope | None
    ) -> Iterable[tuple[Cause, list[str]]]:
        yield Cause.FEATURE, self._changed(live, "bars", scope and scope.bars)
        yield Cause.FEATURE, self._changed(live, "indicators", scope and scope.indicators)
        yield Cause.MODEL, self._changed(live, "models", scope and frozenset({scope.model}))
        names = frozenset({one.strategy}) if one.strategy else None
        yield Cause.STRATEGY, self._changed(live, "strategies", names)
        if one.kind in (Kind.VERDICT, Kind.EXTRA, Kind.MISSING):
            yield Cause.RISK, self._changed(live, "risk", None)

    def _changed(
        self, live: Mapping[str, Any], part: str, names: frozenset[str] | None
    ) -> list[str]:
        """Return what differs in a part; with names, in those entries that both sides have."""
        theirs, mine = live.get(part, {}), self._parts.get(part, {})
        if names is not None:
            both = names & theirs.keys() & mine.keys() if part == "indicators" else names
            theirs = {name: theirs[name] for name in both if name in theirs}
            mine = {name: mine[name] for name in both if name in mine}
        return changes(theirs, mine, part)

    def _by_state(self, one: Difference) -> Cause | None:
        state = self._state
        if state is None or one.place < state.good:
            return None
        one.evidence.append(
            f"equal at the checkpoint at record {state.good:,}, another at {state.bad:,}: "
            + ", ".join(state.labels[:8])
        )
        return cause_of_label(state.labels[0])

    def _by_identity(self, one: Difference, live: Signal | None) -> Cause | None:
        """Make the journaled id again with what is in force here."""
        facts = self._facts.get(one.strategy)
        if live is None or facts is None or made_by(facts, live):
            return None
        if live.version != facts.version:
            one.evidence.append(f"version {live.version} live, {facts.version} here")
        elif live.model and live.model not in facts.parameters:
            one.evidence.append(f"scored by {live.model}, which is not the bundle here")
            return Cause.MODEL
        else:
            one.evidence.append("its id is of other parameters, bars or bundle than those here")
        return Cause.STRATEGY

    def _by_kind(self, one: Difference) -> Cause:
        asks = bool(self._scopes[one.strategy].model) if one.strategy in self._scopes else False
        if one.kind is Kind.STATE:
            return Cause.FEATURE
        if one.kind is Kind.VERDICT:
            return self._by_verdict(one)
        if one.kind is Kind.CONTENT and one.live.get("valid_until") != one.here.get("valid_until"):
            return Cause.STRATEGY
        if asks:
            one.evidence.append("the state behind it is the same as far as is known")
            return Cause.MODEL
        if one.strategy in {entry.name for entry, _ in self._blueprint.python}:
            return Cause.STRATEGY
        if one.kind is Kind.EXTRA and (possible := self._possible(one)):
            one.evidence.append(f"not every refusal has a row: {', '.join(possible)}")
            return Cause.RISK
        return Cause.FEATURE

    def _by_verdict(self, one: Difference) -> Cause:
        reasons = {one.live.get("reason"), one.here.get("reason")}
        if MODEL_GATE in (one.live.get("gate"), one.here.get("gate")):
            return Cause.MODEL
        if reasons & ORDERED and self._reordered(one.ts_event):
            one.evidence.append("scores came later than those of later ticks, and took their place")
            return Cause.TIME
        return Cause.RISK


def cause_of_label(label: str) -> Cause:
    """Return what a part of the kernel's state belongs to."""
    return next((cause for prefix, cause in _PREFIXES if label.startswith(prefix)), Cause.FEATURE)


def made_by(facts: StrategyFacts, signal: Signal) -> bool:
    """Tell whether a signal's id is one that a strategy as it is here would give it."""
    ids = SignalIds(facts.name, facts.version, facts.parameters, signal.instrument)
    return any(
        ids.make(signal.tick_epoch, signal.tick_seq, further) == signal.id
        for further in range(MOST_FURTHER)
    )
