import pytest
from risk_cases import CRYPTO, FX, SHARE, ask_gate, bookless, make_candidate, make_gate, utc_ns

from engine.core.reasons import Reason
from engine.risk.cost_rules import half_spread_bps

TIGHT = {"bid": 9.999, "ask": 10.001}
"""A spread of 2 basis points."""


@pytest.mark.parametrize(
    ("config", "cost_bps"),
    [
        ({}, 5 + 5 + 2 + 2 * 0.5),
        ({"round_trip": False}, 5 + 1 + 0.5),
        ({"slippage_bps": 0, "margin_bps": 3}, 5 + 5 + 2 + 3),
        ({"fees": {"crypto": {"buy_bps": 1, "sell_bps": 2}}}, 1 + 2 + 2 + 1),
    ],
)
def test_edge_must_exceed_the_cost(config: dict[str, object], cost_bps: float) -> None:
    gate = make_gate(cost=config)
    below = make_candidate(CRYPTO, edge_bps=cost_bps - 1e-6, **TIGHT)
    above = make_candidate(CRYPTO, edge_bps=cost_bps + 1e-6, **TIGHT)
    assert ask_gate(gate, below) is Reason.COST_EDGE
    assert ask_gate(gate, above) is None


def test_one_leg_pays_the_fee_of_its_side() -> None:
    fees = {"crypto": {"buy_bps": 1, "sell_bps": 9}}
    gate = make_gate(cost={"round_trip": False, "slippage_bps": 0, "fees": fees})
    assert ask_gate(gate, make_candidate(CRYPTO, edge_bps=5, **TIGHT)) is None
    sale = make_candidate(CRYPTO, edge_bps=5, side=-1, **TIGHT)
    assert ask_gate(gate, sale) is Reason.COST_EDGE


def test_shares_pay_what_the_rulebook_says_on_their_day() -> None:
    gate = make_gate(cost={"slippage_bps": 0})
    for day, cost_bps in (("2023-08-25", 2 * 2.6 + 10), ("2023-08-28", 2 * 2.6 + 5)):
        ts = {"ts_event": utc_ns(f"{day}T02:00")}
        below = bookless(SHARE, edge_bps=cost_bps - 1e-6, **ts)
        above = bookless(SHARE, edge_bps=cost_bps + 1e-6, **ts)
        assert ask_gate(gate, below) is Reason.COST_EDGE
        assert ask_gate(gate, above) is None


def test_candidate_without_an_edge_passes_unless_one_is_required() -> None:
    assert ask_gate(make_gate(), make_candidate()) is None
    gate = make_gate(cost={"require_edge": True})
    assert ask_gate(gate, make_candidate()) is Reason.COST_NO_EDGE
    assert ask_gate(gate, make_candidate(edge_bps=100.0)) is None


def test_cost_gate_can_be_turned_off() -> None:
    gate = make_gate(cost={"check_edge": False, "require_edge": True})
    assert ask_gate(gate, make_candidate(edge_bps=-5.0)) is None
    assert ask_gate(gate, make_candidate()) is None


def test_edge_of_infinity_pays_and_of_minus_infinity_does_not() -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(edge_bps=float("inf"))) is None
    assert ask_gate(gate, make_candidate(edge_bps=float("-inf"))) is Reason.COST_EDGE


def test_half_spread_is_in_basis_points_of_the_mid() -> None:
    assert half_spread_bps(make_candidate(FX, bid=99.0, ask=101.0)) == pytest.approx(100.0)
    assert half_spread_bps(bookless(FX)) == 0.0
