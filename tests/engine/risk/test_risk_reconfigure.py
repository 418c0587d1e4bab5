"""A running gate goes by other limits from the next candidate on, and forgets nothing."""

from hypothesis import given
from hypothesis import strategies as st
from risk_cases import accept_all, ask_gate, make_candidate, make_gate

from engine.core.reasons import Reason
from engine.risk.config import RiskConfig
from engine.risk.rules import RiskState

S = 1_000_000_000


def config(**sections: object) -> RiskConfig:
    return RiskConfig.model_validate(sections)


def test_a_tighter_limit_counts_what_was_booked_before() -> None:
    gate = make_gate(limits={"max_position": 5, "cool_down": 0})
    accept_all(gate, *(make_candidate() for _ in range(3)))
    assert ask_gate(gate, make_candidate()) is None
    gate.reconfigure(config(limits={"max_position": 3, "cool_down": 0}))
    assert ask_gate(gate, make_candidate()) is Reason.RISK_EXPOSURE
    gate.reconfigure(config(limits={"max_position": 5, "cool_down": 0}))
    assert ask_gate(gate, make_candidate()) is None


def test_a_rate_that_is_turned_on_begins_to_count_and_one_kept_goes_on() -> None:
    gate = make_gate(limits={"max_signals": 3, "cool_down": 0, "max_position": 0})
    accept_all(gate, *(make_candidate() for _ in range(2)))
    gate.reconfigure(config(limits={"max_signals": 2, "cool_down": 0, "max_position": 0}))
    assert ask_gate(gate, make_candidate()) is Reason.RISK_RATE


def test_the_state_that_the_operator_set_stays() -> None:
    gate = make_gate()
    gate.set_state(RiskState.HALTED)
    gate.reconfigure(config(state="active"))
    assert gate.state is RiskState.HALTED
    assert ask_gate(gate, make_candidate()) is Reason.RISK_HALTED


def test_costs_and_spreads_change_too() -> None:
    gate = make_gate(liquidity={"max_spread_bps": 100.0})
    wide = make_candidate(bid=99.9, ask=100.1)
    assert ask_gate(gate, wide) is None
    gate.reconfigure(config(liquidity={"max_spread_bps": 1.0}))
    assert ask_gate(gate, wide) is Reason.LIQUIDITY_SPREAD


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6))
def test_a_gate_that_was_changed_is_one_that_was_always_so(
    first: int, second: int, booked: int
) -> None:
    def limits(most: int) -> dict[str, int]:
        return {"max_position": most, "cool_down": 0, "max_signals": 50}

    changed, always = make_gate(limits=limits(first)), make_gate(limits=limits(second))
    for gate in (changed, always):
        accept_all(gate, *(make_candidate() for _ in range(min(booked, first, second))))
    changed.reconfigure(config(limits=limits(second)))
    assert ask_gate(changed, make_candidate()) is ask_gate(always, make_candidate())
    assert changed.bookings.export_state() == always.bookings.export_state()
