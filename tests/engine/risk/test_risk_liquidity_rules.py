from typing import Any

import pytest
from risk_cases import CRYPTO, FUTURE, FX, ask_gate, bookless, make_candidate, make_gate

from engine.core.reasons import Reason
from engine.core.records import TickFlag

NAN = float("nan")
NO_BOOK = {"bid": NAN, "ask": NAN}

CASES: list[tuple[Reason, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (Reason.LIQUIDITY_NO_BOOK, {}, NO_BOOK, {}),
    (Reason.LIQUIDITY_NO_BOOK, {"require_book": "always"}, NO_BOOK | {"ts_quote": 0}, {}),
    (Reason.LIQUIDITY_SPREAD, {}, {"bid": 9.9, "ask": 10.0}, {"bid": 9.91, "ask": 10.0}),
    (Reason.LIQUIDITY_DEPTH, {}, {"ask_size": 9.99}, {"ask_size": 10.0}),
    (Reason.LIQUIDITY_DEPTH, {}, {"ask_size": 0.0}, {"bid_size": 0.0}),
    (
        Reason.LIQUIDITY_DEPTH,
        {},
        {"side": -1, "bid": 10.0, "ask": 10.01, "bid_size": 9.99},
        {"side": -1, "bid": 10.0, "ask": 10.01, "bid_size": 10.0},
    ),
    (
        Reason.LIQUIDITY_TURNOVER,
        {"min_session_turnover": 1e6},
        {"session_turnover": 999_999.0},
        {"session_turnover": 1e6},
    ),
    (
        Reason.LIQUIDITY_TURNOVER,
        {"min_session_turnover": 1.0},
        {"session_turnover": NAN},
        {"session_turnover": 1.0},
    ),
]


@pytest.mark.parametrize(("reason", "config", "outside", "inside"), CASES)
def test_candidate_outside_is_refused_and_one_just_inside_passes(
    reason: Reason, config: dict[str, Any], outside: dict[str, Any], inside: dict[str, Any]
) -> None:
    gate = make_gate(liquidity=config)
    assert ask_gate(gate, make_candidate(CRYPTO, **outside)) is reason
    assert ask_gate(gate, make_candidate(CRYPTO, **inside)) is None


def test_bars_without_a_book_pass_by_default() -> None:
    assert ask_gate(make_gate(), bookless(CRYPTO)) is None


def test_lost_book_passes_where_none_is_required() -> None:
    gate = make_gate(liquidity={"require_book": "never"})
    assert ask_gate(gate, make_candidate(CRYPTO, **NO_BOOK)) is None


def test_depth_says_nothing_about_a_source_without_sizes() -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(FX, bid_size=0.0, ask_size=0.0)) is None
    no_size = {"bid_size": 5.0, "ask_size": 0.0, "flags": TickFlag.NO_SIZE}
    assert ask_gate(gate, make_candidate(FX, **no_size)) is None


def test_depth_counts_the_contract_multiplier() -> None:
    gate = make_gate(liquidity={"min_depth_notional": 1_500_000})
    assert ask_gate(gate, make_candidate(FUTURE, ask_size=1.0)) is None
    assert ask_gate(gate, make_candidate(CRYPTO, ask_size=1.0)) is Reason.LIQUIDITY_DEPTH


def test_limits_of_zero_turn_their_rules_off() -> None:
    gate = make_gate(liquidity={"max_spread_bps": 0, "min_depth_notional": 0})
    assert ask_gate(gate, make_candidate(bid=1.0, ask=10.0, ask_size=0.0)) is None
