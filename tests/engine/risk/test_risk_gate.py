import tracemalloc
from typing import Any

import numpy as np
import pytest
from risk_cases import CRYPTO, FREE, NOON, SHARE, S, accept_all, ask_gate, make_candidate, make_gate

from engine.core.candidates import candidate_of, candidates_of
from engine.core.reasons import Gate, Reason
from engine.core.records import CANDIDATE, instrument_row
from engine.risk.gate import GATES
from engine.risk.rules import RiskState

NAN = float("nan")

RUINED_GATE_BY_GATE = [
    (Reason.DATA_CROSSED, Gate.DATA, {"bid": 12.0}),
    (Reason.LIQUIDITY_DEPTH, Gate.LIQUIDITY, {"ask_size": 0.0}),
    (Reason.RISK_CONFIDENCE, Gate.RISK, {"confidence": 0.1}),
    (Reason.COST_EDGE, Gate.COST, {"edge_bps": 0.0}),
]


@pytest.mark.parametrize("first", range(len(RUINED_GATE_BY_GATE)))
def test_first_refusal_wins(first: int) -> None:
    gate = make_gate(limits={"min_confidence": 0.5})
    fields: dict[str, Any] = {}
    for _, _, ruin in RUINED_GATE_BY_GATE[first:]:
        fields |= ruin
    candidate = make_candidate(**fields)
    verdict = gate.check(candidate, valid_until_ns=0, now_wall_ns=candidate.ts_recv)
    assert verdict[:2] == RUINED_GATE_BY_GATE[first][:2]
    assert verdict.detail


def test_every_reason_has_a_rule_in_the_gate_of_its_category() -> None:
    gates = {
        "DATA": Gate.DATA, "LIQUIDITY": Gate.LIQUIDITY, "MARKET": Gate.RISK, "RISK": Gate.RISK,
        "COST": Gate.COST,
    }  # fmt: skip
    placed = {rule.reason: gate for gate, rules in GATES.items() for rule in rules}
    assert placed == {reason: gates[reason.partition("_")[0]] for reason in Reason}


def test_every_rule_says_what_it_demands() -> None:
    assert all(rule.make.__doc__ for rules in GATES.values() for rule in rules)


def test_checks_count_and_book_nothing() -> None:
    gate = make_gate()
    for _ in range(3):
        assert ask_gate(gate, make_candidate(price=NAN)) is Reason.DATA_NAN
        ask_gate(gate, make_candidate())
    assert not any(gate.refusals.values())
    gate.refuse(Reason.DATA_NAN)
    assert {reason: n for reason, n in gate.refusals.items() if n} == {Reason.DATA_NAN: 1}
    assert gate.accepted_count == 0
    accept_all(gate, make_candidate())
    assert gate.accepted_count == 1


def test_accepting_an_unknown_instrument_is_an_error() -> None:
    with pytest.raises(LookupError, match="99"):
        make_gate().accept(make_candidate(99))


def test_definitions_that_come_later_are_taken_and_positions_stay() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate(CRYPTO))
    late = instrument_row("NEW.BINANCE", id=40)
    assert ask_gate(gate, make_candidate(40)) is Reason.DATA_NAN
    gate.define(np.concatenate([late, instrument_row("BTCUSDT.BINANCE", id=CRYPTO)]))
    assert ask_gate(gate, make_candidate(40)) is None
    assert ask_gate(gate, make_candidate(39)) is Reason.DATA_NAN
    assert gate.bookings.position(CRYPTO).units == 1


def test_new_previous_close_of_a_definition_moves_the_limits() -> None:
    gate = make_gate()
    locked = make_candidate(SHARE, price=11.0, bid=11.0, ask=NAN, ask_size=0.0)
    assert ask_gate(gate, locked) is Reason.MARKET_LIMIT_UP
    row = instrument_row("600000.SH", id=SHARE, calendar="XSHG", tick_size=0.01, pre_close=11.0)
    row["board"] = 10
    gate.define(row)
    assert ask_gate(gate, make_candidate(SHARE, price=11.0, bid=10.99, ask=11.0)) is None


def test_board_unknown_to_this_version_has_no_rules() -> None:
    gate = make_gate()
    row = instrument_row("X.Y", id=FREE)
    row["board"] = 777
    gate.define(row)
    assert ask_gate(gate, make_candidate(FREE)) is None


def test_warming_reads_every_calendar() -> None:
    gate = make_gate()
    gate.warm(NOON)
    assert ask_gate(gate, make_candidate(SHARE)) is None


def test_state_is_set_by_command() -> None:
    gate = make_gate()
    for state in (RiskState.ACTIVE, RiskState.REDUCING, RiskState.HALTED):
        gate.set_state(state)
        assert gate.state is state


def test_memory_does_not_grow_with_the_signals() -> None:
    gate = make_gate(limits={"max_position": 0, "max_gross": 0})

    def trade(start: int) -> None:
        for n in range(start, start + 2_000):
            candidate = make_candidate(ts_event=NOON + n * S, side=1 if n % 2 else -1)
            if ask_gate(gate, candidate) is None:
                gate.accept(candidate)

    trade(0)
    tracemalloc.start()
    trade(2_000)
    before = tracemalloc.get_traced_memory()[0]
    trade(4_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000


def test_candidate_has_the_records_fields() -> None:
    records = np.zeros(2, CANDIDATE)
    for n, name in enumerate(CANDIDATE.names or ()):
        records[name] = n
    first, second = candidates_of(records.view(np.uint8).data, 2)
    assert first == second == candidate_of(records[0])
    assert [getattr(first, name) for name in CANDIDATE.names or ()] == list(range(21))
    assert type(first.price) is float
    assert type(first.side) is int
