from typing import Any

import pytest
from risk_cases import CRYPTO, FREE, NOON, SHARE, S, ask_gate, make_candidate, make_gate

from engine.core.reasons import Reason
from engine.core.records import ALL_INSTRUMENTS, TickFlag

NAN = float("nan")
INF = float("inf")
LOCK_UP = {"bid": 11.0, "price": 11.0, "ask": NAN, "ask_size": 0.0, "side": -1}

CASES: list[tuple[Reason, dict[str, Any], dict[str, Any]]] = [
    (Reason.DATA_NAN, {"price": NAN}, {"price": 10.0}),
    (Reason.DATA_NAN, {"price": INF}, {"price": 10.0}),
    (Reason.DATA_NAN, {"price": 0.0}, {"price": 0.01}),
    (Reason.DATA_NAN, {"strength": NAN}, {"strength": 0.0}),
    (Reason.DATA_NAN, {"confidence": -INF}, {"confidence": 0.0}),
    (Reason.DATA_NAN, {"side": 0}, {"side": -1}),
    (Reason.DATA_STALE, {"ts_recv": NOON + 5 * S + 1}, {"ts_recv": NOON + 5 * S}),
    (Reason.DATA_STALE, {"ts_quote": NOON - 60 * S - 1}, {"ts_quote": NOON - 60 * S}),
    (Reason.DATA_CROSSED, {"bid": 10.02, "ask": 10.01}, {"bid": 10.01, "ask": 10.02}),
    (Reason.DATA_CROSSED, {"flags": TickFlag.CROSSED}, {"flags": TickFlag.TIME_BACK}),
    (Reason.DATA_LOCKED, {"bid": 10.01, "ask": 10.01}, {"bid": 10.0, "ask": 10.01}),
    (Reason.DATA_LOCKED, {"flags": TickFlag.LOCKED}, {"flags": TickFlag.DUPLICATE_ID}),
    (Reason.DATA_ONE_SIDED, {"ask": NAN}, {"ask": 10.01}),
    (Reason.DATA_ONE_SIDED, {"bid": NAN, "side": -1}, {"bid": 9.99, "side": -1}),
    (Reason.DATA_ODD_CONDITION, {"flags": TickFlag.ODD_CONDITION}, {"flags": TickFlag.RESENT}),
    (Reason.DATA_HALTED, {"flags": TickFlag.HALTED}, {"flags": 0}),
]


@pytest.mark.parametrize(("reason", "outside", "inside"), CASES)
def test_candidate_outside_is_refused_and_one_just_inside_passes(
    reason: Reason, outside: dict[str, Any], inside: dict[str, Any]
) -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(CRYPTO, **outside)) is reason
    assert ask_gate(gate, make_candidate(CRYPTO, **inside)) is None


@pytest.mark.parametrize(
    ("option", "fields"),
    [
        ({"max_age": 0}, {"ts_recv": NOON + 900 * S}),
        ({"max_quote_age": 0}, {"ts_quote": NOON - 900 * S}),
        ({"refuse_locked": False}, {"bid": 10.0, "flags": TickFlag.LOCKED}),
        ({"refuse_crossed": False}, {"bid": 10.01, "flags": TickFlag.CROSSED}),
        ({"refuse_one_sided": False}, {"bid": NAN}),
        ({"refuse_odd_condition": False}, {"flags": TickFlag.ODD_CONDITION}),
        ({"refuse_halted": False}, {"flags": TickFlag.HALTED}),
    ],
)
def test_a_rule_can_be_turned_off(option: dict[str, Any], fields: dict[str, Any]) -> None:
    assert ask_gate(make_gate(), make_candidate(**fields)) is not None
    assert ask_gate(make_gate(data=option), make_candidate(**fields)) is None


def test_venue_clock_ahead_of_ours_is_no_age() -> None:
    assert ask_gate(make_gate(), make_candidate(ts_recv=NOON - 2 * S)) is None


def test_instrument_that_never_had_a_book_has_no_old_one() -> None:
    candidate = make_candidate(bid=NAN, ask=NAN, ts_quote=0)
    assert ask_gate(make_gate(), candidate) is None


def test_real_time_since_receipt_makes_a_candidate_late() -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(), late_ns=2 * S + 1) is Reason.DATA_LATE
    assert ask_gate(gate, make_candidate(), late_ns=2 * S) is None


def test_real_time_past_valid_until_makes_a_candidate_expired() -> None:
    gate, candidate = make_gate(), make_candidate()
    for now, reason in ((NOON + 11, Reason.DATA_EXPIRED), (NOON + 10, None)):
        verdict = gate.check(candidate, valid_until_ns=NOON + 10, now_wall_ns=now)
        assert verdict.reason is reason


def test_signal_without_end_does_not_expire() -> None:
    verdict = make_gate().check(make_candidate(), valid_until_ns=0, now_wall_ns=NOON + S)
    assert verdict.reason is None


def test_gap_holds_back_what_follows_for_a_while() -> None:
    gate = make_gate()
    gate.note_gap(NOON, ALL_INSTRUMENTS)
    assert ask_gate(gate, make_candidate(ts_recv=NOON + S - 1)) is Reason.DATA_GAP
    assert ask_gate(gate, make_candidate(ts_recv=NOON + S)) is None
    assert ask_gate(gate, make_candidate(ts_recv=NOON - 1)) is None


def test_gap_of_one_instrument_leaves_the_others_alone() -> None:
    gate = make_gate()
    gate.note_gap(NOON, FREE)
    assert ask_gate(gate, make_candidate(FREE)) is Reason.DATA_GAP
    assert ask_gate(gate, make_candidate(CRYPTO)) is None


def test_gap_of_an_unknown_instrument_is_nobodys() -> None:
    gate = make_gate()
    gate.note_gap(NOON, 1_000)
    assert ask_gate(gate, make_candidate()) is None


def test_book_emptied_by_its_price_limit_is_not_one_sided() -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(SHARE, **LOCK_UP)) is None
    below = LOCK_UP | {"bid": 10.99, "price": 10.99}
    assert ask_gate(gate, make_candidate(SHARE, **below)) is Reason.DATA_ONE_SIDED


def test_unknown_instrument_is_refused() -> None:
    verdict = make_gate().check(make_candidate(77), valid_until_ns=0, now_wall_ns=0)
    assert verdict.reason is Reason.DATA_NAN
    assert "77" in verdict.detail
