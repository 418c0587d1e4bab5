"""The parts of a comparison by themselves: places of records, counted refusals, orders, words."""

from pathlib import Path

import pytest
from pipeline_cases import market_ticks, origins_of

from engine.core.candidates import Candidate
from engine.core.models import Score
from engine.core.reasons import Reason
from engine.core.records import TickKind
from engine.core.signals import Signal
from engine.journal_schema import OPERATOR_STATE
from engine.model_desk import Pending
from replay.analysis.diff_commands import GateStates
from replay.analysis.diff_ground import Ground, Spot, Where
from replay.analysis.diff_journal import Event, Told, ToldRefusal, Unsampled
from replay.analysis.diff_order import HeldAnswers, LiveOrder
from replay.analysis.diff_result import Cause, Difference, Differences, DiffReport, Kind, changes
from runtime.asking import Answer


def refusal(reason: str, nth: int, ts: int, seq: int = 1) -> ToldRefusal:
    return ToldRefusal(
        f"{reason}{nth}", "S0.X", "one", "BUY", "data", reason, nth, 7, seq, ts, ts + 5, ""
    )


def ground_of(*spans: tuple[int, int, int]) -> Ground:
    """Take bursts of an epoch, first number and count."""
    ground = Ground()
    for epoch, first, count in spans:
        origins = origins_of(count, epoch)
        origins["seq"] += first - 1
        ground.add(market_ticks(count), origins, count)
    return ground


def test_a_record_has_its_place() -> None:
    ground = ground_of((7, 1, 10), (7, 11, 5), (7, 20, 5), (9, 1, 4))
    assert ground.taken == 24
    assert ground.find(7, 1) == Spot(Where.WITHIN, 0)
    assert ground.find(7, 15) == Spot(Where.WITHIN, 14)
    assert ground.find(7, 17) == Spot(Where.HOLE, 15)
    assert ground.find(7, 20) == Spot(Where.WITHIN, 15)
    assert ground.find(7, 30).where is Where.HOLE
    assert ground.find(9, 4) == Spot(Where.WITHIN, 23)
    assert ground.find(9, 5) == Spot(Where.AFTER, 24)
    assert ground.find(8, 3).where is Where.HOLE
    assert ground.find(11, 3).where is Where.AFTER
    assert ground.find(3, 3).where is Where.BEFORE
    assert len(ground.stretches) == 3


def test_a_record_before_the_first_is_before() -> None:
    ground = ground_of((7, 100, 10))
    assert ground.find(7, 99).where is Where.BEFORE
    assert Ground().find(7, 1).where is Where.BEFORE


def test_a_gap_has_no_number_of_its_own() -> None:
    ground, ticks, origins = Ground(), market_ticks(5), origins_of(5)
    ticks["kind"][2] = TickKind.GAP
    origins["seq"][3:] += 10
    ground.add(ticks, origins, 5)
    assert ground.find(7, 2) == Spot(Where.WITHIN, 1)
    assert ground.find(7, 3).where is Where.HOLE
    assert ground.find(7, 14) == Spot(Where.WITHIN, 3)


def test_what_was_refused_without_a_row_is_known_by_its_number() -> None:
    rows = [refusal("A", nth, nth * 100) for nth in (1, 2, 9, 16)]
    rows += [refusal("B", 1, 50)]
    unsampled = Unsampled(rows, first=2)
    assert unsampled.reasons(150, 0) == []
    assert unsampled.reasons(500, 0) == ["A"]
    assert unsampled.reasons(9_999, 0) == ["A"], "after the last row nobody knows"
    assert unsampled.reasons(190, 20) == ["A"]


def test_a_new_life_counts_anew() -> None:
    rows = [refusal("A", 1, 100), refusal("A", 2, 200), refusal("A", 1, 900), refusal("A", 2, 950)]
    assert Unsampled(rows, first=3).reasons(500, 0) == []
    assert Unsampled(rows, first=2).reasons(500, 0) == ["A"]


def candidate(ts_recv: int) -> Candidate:
    fields = dict.fromkeys(Candidate.__struct_fields__, 0)
    return Candidate(**{**fields, "ts_recv": ts_recv})


def answer_to(ts_recv: int) -> tuple[Pending, Answer]:
    pending = Pending(candidate(ts_recv), (7, 1, 0, 0))
    score = Score((0.5,), "m", "m@1", "b", "d", "fp32", 1, 0, 0)
    return pending, Answer(pending, score, None)


def signal(seq: int, tick_seq: int, ts_recv: int, ts_emit: int, *, late: bool = False) -> Signal:
    return Signal(
        f"id{seq}", 1, seq, "S0.X", "BUY", 1.0, 1.0, 1.0, None, "one", "1", 7, tick_seq, ts_recv,
        ts_recv, ts_emit, ts_emit + 10, 0, (), late=late,
    )  # fmt: skip


def order_of(*signals: Signal) -> LiveOrder:
    return LiveOrder(Told(Path("j"), {one.id: one for one in signals}, {}, [], []))


def test_an_answer_is_judged_when_live_judged_it() -> None:
    slow, quick = signal(2, 5, 100, 900), signal(1, 8, 400, 410)
    held = HeldAnswers(order_of(quick, slow))
    pending, answer = answer_to(100)
    assert held.hold(("one", "S0.X", 7, 5), pending, answer)
    assert held.due_at(350) == []
    assert held.due_before(("one", "S0.X", 7, 8), candidate(400)) == []
    assert held.due_at(901) == [answer]
    assert held.rest() == []


def test_an_answer_of_which_nothing_is_known_took_as_long_as_the_one_before() -> None:
    held = HeldAnswers(order_of(signal(1, 5, 100, 130)))
    first, second = answer_to(100), answer_to(200)
    assert held.hold(("one", "S0.X", 7, 5), *first)
    assert held.hold(("one", "S0.X", 7, 6), *second)
    assert held.due_at(229) == [first[1]]
    assert held.due_at(231) == [second[1]]


def test_what_was_made_late_was_judged_at_once() -> None:
    held = HeldAnswers(order_of(signal(1, 5, 100, 9_000, late=True)))
    assert not held.hold(("one", "S0.X", 7, 5), *answer_to(100))
    assert not held.hold(("one", "S0.X", 7, 6), *answer_to(200))


def test_changes_are_told_in_words() -> None:
    live = {"a": {"x": 1, "y": "s"}, "b": [1, 2]}
    here = {"a": {"x": 2, "y": "s"}, "b": [1, 2], "c": None, "d": "new"}
    assert changes(live, here) == ["a.x: 1 live, 2 here", "d: absent live, 'new' here"]
    assert changes(live, live) == []


def test_differences_are_in_order_and_bounded() -> None:
    kept = Differences(most=3)
    for place, kind in ((5, Kind.EXTRA), (5, Kind.BYTES), (2, Kind.MISSING), (1, Kind.EXTRA)):
        kept.add(Difference(kind=kind, place=place))
    assert [(one.place, one.kind) for one in kept.in_order()] == [
        (2, Kind.MISSING), (5, Kind.BYTES), (5, Kind.EXTRA),
    ]  # fmt: skip
    assert kept.beyond == 1


@pytest.mark.parametrize(
    ("allow", "failed"), [((), True), (("time",), True), (("time", "risk"), False)]
)
def test_allowed_causes_do_not_fail(allow: tuple[str, ...], failed: bool) -> None:
    report = DiffReport(recording="r", journal="j", causes={"time": 2, "risk": 1}, differences=3)
    assert report.failed(frozenset(map(Cause, allow))) is failed


def test_a_gate_that_is_open_again_refuses_nothing_by_command() -> None:
    events = [
        Event(100, OPERATOR_STATE, {"from": "active", "to": "halted"}),
        Event(500, OPERATOR_STATE, {"from": "halted", "to": "active"}),
    ]
    gate = GateStates(events)
    halted = Reason.RISK_HALTED.value
    assert gate.may_refuse(halted, 50, 0), "before the first event nobody knows"
    assert gate.may_refuse(halted, 300, 0)
    assert not gate.may_refuse(halted, 600, 0)
    assert gate.may_refuse(halted, 600, 150), "it was halted within the slack"
    assert not gate.may_refuse(Reason.RISK_REDUCING.value, 300, 0)
    assert GateStates([]).may_refuse(halted, 300, 0)
