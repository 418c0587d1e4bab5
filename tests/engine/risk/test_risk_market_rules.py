from typing import Any

import pytest
from risk_cases import (
    CRYPTO,
    DAY_S,
    FREE,
    FUTURE,
    FX,
    MORNING,
    NOON,
    SHARE,
    STAR,
    STOCK,
    S,
    accept_all,
    ask_gate,
    bookless,
    make_candidate,
    make_gate,
    universe,
    utc_ns,
)

from engine.core.reasons import Reason
from engine.core.records import TickFlag
from engine.risk.rules import RiskState

NAN = float("nan")
NO_ASK = {"ask": NAN, "ask_size": 0.0}
NO_BID = {"bid": NAN, "bid_size": 0.0}


@pytest.mark.parametrize(
    ("instrument", "closed", "trading"),
    [
        (SHARE, "2024-06-05T01:29:59.999999999", "2024-06-05T01:30"),
        (SHARE, "2024-06-05T03:30", "2024-06-05T03:29:59"),
        (SHARE, "2024-06-05T06:57", "2024-06-05T06:56:59"),
        (SHARE, "2024-06-10T02:00", "2024-06-11T02:00"),  # the Dragon Boat Festival
        (SHARE, "2018-08-20T06:58", "2018-08-17T06:58"),  # Shanghai's first closing auction
        (STOCK, "2013-10-07T13:29:59", "2013-10-07T13:30"),
        (STOCK, "2013-11-29T18:00", "2013-11-29T17:59:59"),  # the day after Thanksgiving
        (FX, "2014-05-09T21:00", "2014-05-11T21:00"),
    ],
)
def test_signals_are_let_through_in_continuous_trading_only(
    instrument: int, closed: str, trading: str
) -> None:
    gate = make_gate()
    outside = make_candidate(instrument, ts_event=utc_ns(closed))
    assert ask_gate(gate, outside) is Reason.MARKET_OUT_OF_SESSION
    assert ask_gate(gate, make_candidate(instrument, ts_event=utc_ns(trading))) is None


def test_crypto_trades_at_any_time() -> None:
    assert ask_gate(make_gate(), make_candidate(CRYPTO, ts_event=utc_ns("2023-01-01"))) is None


def test_daily_bar_that_ends_with_the_session_is_inside_it() -> None:
    gate = make_gate()
    close = utc_ns("2019-01-25T07:00")
    assert ask_gate(gate, bookless(SHARE, ts_event=close)) is None
    after = bookless(SHARE, ts_event=close + 1)
    assert ask_gate(gate, after) is Reason.MARKET_OUT_OF_SESSION


@pytest.mark.parametrize("flag", [TickFlag.AUCTION, TickFlag.OUT_OF_SESSION])
def test_venues_own_mark_closes_continuous_trading(flag: TickFlag) -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(flags=flag)) is Reason.MARKET_OUT_OF_SESSION
    assert ask_gate(make_gate(market={"sessions": "whole"}), make_candidate(flags=flag)) is None


def test_sessions_can_be_turned_off() -> None:
    night = make_candidate(SHARE, ts_event=utc_ns("2024-06-05T20:00"))
    assert ask_gate(make_gate(market={"sessions": "off"}), night) is None


def test_instrument_of_an_unknown_calendar_is_closed_and_said_to_be() -> None:
    gate = make_gate()
    rows = universe()
    rows["calendar"][FREE] = b"XNOWHERE"
    gate.define(rows)
    assert ask_gate(gate, make_candidate(FREE)) is Reason.MARKET_OUT_OF_SESSION
    assert any("XNOWHERE" in problem for problem in gate.problems)


def test_alias_names_the_calendar_of_an_unknown_one() -> None:
    gate = make_gate(market={"calendar_aliases": {"XNOWHERE": "24/7"}})
    rows = universe()
    rows["calendar"][FREE] = b"XNOWHERE"
    gate.define(rows)
    assert ask_gate(gate, make_candidate(FREE)) is None
    assert not gate.problems


def test_day_beyond_the_calendars_records_is_closed_and_the_refusal_says_why() -> None:
    gate = make_gate()
    candidate = make_candidate(SHARE, ts_event=utc_ns("1985-06-05T02:00"))
    verdict = gate.check(candidate, valid_until_ns=0, now_wall_ns=candidate.ts_recv)
    assert verdict.reason is Reason.MARKET_OUT_OF_SESSION
    assert "no records" in verdict.detail


LOCKED_CASES: list[tuple[Reason, dict[str, Any], dict[str, Any]]] = [
    (
        Reason.MARKET_LIMIT_UP,
        {"price": 11.0, "bid": 11.0, **NO_ASK},
        {"price": 11.0, "bid": 10.99, "ask": 11.0},
    ),
    (
        Reason.MARKET_LIMIT_UP,
        {"price": 11.0, "bid": 11.0, "ask": 11.01},
        {"price": 10.99, "bid": 10.98, "ask": 10.99},
    ),
    (
        Reason.MARKET_LIMIT_DOWN,
        {"price": 9.0, "ask": 9.0, "side": -1, **NO_BID},
        {"price": 9.0, "bid": 9.0, "ask": 9.01, "side": -1},
    ),
    (
        Reason.MARKET_LIMIT_DOWN,
        {"price": 9.0, "bid": 8.99, "ask": 9.0, "side": -1},
        {"price": 9.01, "bid": 9.01, "ask": 9.02, "side": -1},
    ),
]


@pytest.mark.parametrize(("reason", "outside", "inside"), LOCKED_CASES)
def test_price_locked_at_its_limit_cannot_be_traded(
    reason: Reason, outside: dict[str, Any], inside: dict[str, Any]
) -> None:
    gate = make_gate()
    assert ask_gate(gate, make_candidate(SHARE, **outside)) is reason
    assert ask_gate(gate, make_candidate(SHARE, **inside)) is None
    unlimited = make_gate(market={"price_limits": False})
    assert ask_gate(unlimited, make_candidate(SHARE, **outside)) is None


def test_locked_price_can_be_left_the_other_way() -> None:
    gate = make_gate()
    up = make_candidate(SHARE, price=11.0, bid=11.0, side=-1, **NO_ASK)
    down = make_candidate(SHARE, price=9.0, ask=9.0, side=1, **NO_BID)
    assert ask_gate(gate, up) is None
    assert ask_gate(gate, down) is None


@pytest.mark.parametrize(
    ("side", "locked", "free", "reason"),
    [
        (1, 11.06, 11.05, Reason.MARKET_LIMIT_UP),
        (-1, 9.05, 9.06, Reason.MARKET_LIMIT_DOWN),
    ],
)
def test_bar_closing_at_its_limit_is_locked(
    side: int, locked: float, free: float, reason: Reason
) -> None:
    gate = make_gate()
    fields: dict[str, Any] = {"pre_close": 10.05, "side": side}
    assert ask_gate(gate, bookless(SHARE, price=locked, **fields)) is reason
    assert ask_gate(gate, bookless(SHARE, price=free, **fields)) is None


def test_empty_side_given_as_size_zero_is_no_side() -> None:
    gate = make_gate(liquidity={"min_depth_notional": 0})
    candidate = make_candidate(SHARE, price=11.0, bid=10.99, ask=11.0, ask_size=0.0)
    assert ask_gate(gate, candidate) is Reason.MARKET_LIMIT_UP


def test_limits_of_the_definition_hold_without_a_rulebook() -> None:
    gate = make_gate()
    up = {"price": 5500.0, "bid": 5500.0, **NO_ASK}
    assert ask_gate(gate, make_candidate(FUTURE, **up)) is Reason.MARKET_LIMIT_UP
    assert ask_gate(gate, make_candidate(FUTURE, price=5500.0, bid=5499.8, ask=5500.0)) is None


def test_limits_of_the_definition_come_before_the_rulebooks() -> None:
    gate = make_gate()
    rows = universe()
    rows["limit_up"][SHARE], rows["limit_down"][SHARE] = 10.5, 9.5
    gate.define(rows)
    locked = {"price": 10.5, "bid": 10.5, **NO_ASK}
    assert ask_gate(gate, make_candidate(SHARE, **locked)) is Reason.MARKET_LIMIT_UP


def test_limits_of_another_days_definition_are_forgotten() -> None:
    gate = make_gate()
    rows = universe()
    rows["limit_up"][[SHARE, FUTURE]], rows["limit_down"][[SHARE, FUTURE]] = 10.5, 9.5
    gate.define(rows)
    stated = {"price": 10.5, "bid": 10.49, "ask": 10.51, "pre_close": 10.2}
    assert ask_gate(gate, make_candidate(SHARE, **stated)) is None
    assert ask_gate(gate, make_candidate(FUTURE, pre_close=5100.0)) is None


def test_board_with_limits_needs_a_previous_close() -> None:
    gate = make_gate()
    rows = universe()
    rows["pre_close"][SHARE] = NAN
    gate.define(rows)
    assert ask_gate(gate, make_candidate(SHARE)) is Reason.MARKET_NO_REFERENCE
    assert ask_gate(gate, make_candidate(SHARE, pre_close=10.0)) is None
    lenient = make_gate(market={"require_reference": False})
    lenient.define(rows)
    assert ask_gate(lenient, make_candidate(SHARE)) is None


def test_what_was_bought_today_is_sold_tomorrow() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate(SHARE))
    sale = make_candidate(SHARE, ts_event=MORNING + 60 * S, side=-1, bid=10.0, ask=10.01)
    assert ask_gate(gate, sale) is Reason.MARKET_T_PLUS_1
    tomorrow = make_candidate(SHARE, ts_event=MORNING + DAY_S * S, side=-1, bid=10.0, ask=10.01)
    assert ask_gate(gate, tomorrow) is None


def test_what_was_held_before_is_sold_while_todays_purchase_waits() -> None:
    gate = make_gate()
    later = MORNING + DAY_S * S
    sell = {"side": -1, "bid": 10.0, "ask": 10.01}
    accept_all(
        gate,
        make_candidate(SHARE),
        make_candidate(SHARE, ts_event=later),
        make_candidate(SHARE, ts_event=later + 60 * S, **sell),
    )
    second = make_candidate(SHARE, ts_event=later + 120 * S, **sell)
    assert ask_gate(gate, second) is Reason.MARKET_T_PLUS_1


def test_sale_of_what_the_gate_never_saw_bought_passes() -> None:
    assert ask_gate(make_gate(), make_candidate(SHARE, side=-1, bid=10.0, ask=10.01)) is None


def test_crypto_bought_is_sold_at_once() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate(CRYPTO))
    assert ask_gate(gate, make_candidate(CRYPTO, side=-1)) is None


def test_settlement_can_be_turned_off() -> None:
    gate = make_gate(market={"settlement": False})
    accept_all(gate, make_candidate(SHARE))
    sale = make_candidate(SHARE, ts_event=MORNING + 60 * S, side=-1, bid=10.0, ask=10.01)
    assert ask_gate(gate, sale) is None


@pytest.mark.parametrize(
    ("instrument", "board", "illegal", "legal"),
    [
        (SHARE, "cn_main", 99, 100),
        (SHARE, "cn_main", 150, 200),
        (STAR, "cn_star", 199, 201),
        (STOCK, "us_equity", 1.5, 3),
        (FREE, "other", 0.7, 1.5),
        (CRYPTO, "crypto", None, 0.001),
    ],
)
def test_order_size_must_be_a_legal_lot(
    instrument: int, board: str, illegal: float | None, legal: float
) -> None:
    candidate = make_candidate(instrument)
    if illegal is not None:
        gate = make_gate(market={"order_size": {board: illegal}})
        assert ask_gate(gate, candidate) is Reason.MARKET_LOT
    assert ask_gate(make_gate(market={"order_size": {board: legal}}), candidate) is None


def test_kill_switch_lets_nothing_through() -> None:
    gate = make_gate()
    gate.set_state(RiskState.HALTED)
    assert ask_gate(gate, make_candidate()) is Reason.RISK_HALTED
    gate.set_state(RiskState.ACTIVE)
    assert ask_gate(gate, make_candidate()) is None


def test_gate_starts_in_the_configured_state() -> None:
    gate = make_gate(state="halted")
    assert gate.state is RiskState.HALTED
    assert ask_gate(gate, make_candidate()) is Reason.RISK_HALTED


def test_reducing_lets_only_what_shrinks_a_position_through() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate(CRYPTO))
    gate.set_state(RiskState.REDUCING)
    later = NOON + 10 * S
    assert ask_gate(gate, make_candidate(CRYPTO, ts_event=later)) is Reason.RISK_REDUCING
    assert ask_gate(gate, make_candidate(FREE, side=-1)) is Reason.RISK_REDUCING
    accept_all(gate, make_candidate(CRYPTO, ts_event=later, side=-1))
    flat = make_candidate(CRYPTO, ts_event=later + 10 * S, side=-1)
    assert ask_gate(gate, flat) is Reason.RISK_REDUCING


def test_confidence_below_the_least_is_refused() -> None:
    gate = make_gate(limits={"min_confidence": 0.6})
    assert ask_gate(gate, make_candidate(confidence=0.59)) is Reason.RISK_CONFIDENCE
    assert ask_gate(gate, make_candidate(confidence=0.6)) is None


def test_same_signal_again_waits_for_the_cool_down() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate())
    assert ask_gate(gate, make_candidate(ts_event=NOON + S - 1)) is Reason.RISK_COOL_DOWN
    assert ask_gate(gate, make_candidate(ts_event=NOON + S)) is None
    assert ask_gate(gate, make_candidate(side=-1)) is None
    assert ask_gate(gate, make_candidate(strategy=1)) is None
    assert ask_gate(gate, make_candidate(FREE)) is None


@pytest.mark.parametrize(
    ("limit", "changes", "elsewhere"),
    [
        ("max_signals_per_instrument", {"strategy": 1}, {"instrument": FREE}),
        ("max_signals_per_strategy", {"instrument": FREE}, {"strategy": 1}),
        ("max_signals", {"instrument": FREE, "strategy": 1}, None),
    ],
)
def test_rate_counts_the_last_window(
    limit: str, changes: dict[str, Any], elsewhere: dict[str, Any] | None
) -> None:
    gate = make_gate(limits={limit: 2, "cool_down": 0, "rate_window": "10s"})
    accept_all(gate, make_candidate(), make_candidate(ts_event=NOON + 4 * S))
    third = make_candidate(**({"ts_event": NOON + 10 * S - 1} | changes))
    assert ask_gate(gate, third) is Reason.RISK_RATE
    assert ask_gate(gate, make_candidate(**({"ts_event": NOON + 10 * S} | changes))) is None
    if elsewhere is not None:
        other = make_candidate(**({"ts_event": NOON + 5 * S} | elsewhere))
        assert ask_gate(gate, other) is None


def test_clock_set_back_by_more_than_a_window_starts_the_rate_anew() -> None:
    gate = make_gate(limits={"max_signals": 1, "cool_down": 0})
    accept_all(gate, make_candidate())
    assert ask_gate(gate, make_candidate(ts_event=NOON - S + 1)) is Reason.RISK_RATE
    assert ask_gate(gate, make_candidate(ts_event=NOON - S)) is None


def test_position_stops_at_its_cap_and_can_be_left() -> None:
    gate = make_gate(limits={"max_position": 2})
    accept_all(gate, *(make_candidate(ts_event=NOON + n * S) for n in range(2)))
    third = make_candidate(ts_event=NOON + 9 * S)
    assert ask_gate(gate, third) is Reason.RISK_EXPOSURE
    assert ask_gate(gate, make_candidate(ts_event=NOON + 9 * S, side=-1)) is None


def test_short_position_has_the_same_cap() -> None:
    gate = make_gate(limits={"max_position": 1})
    accept_all(gate, make_candidate(side=-1))
    again = make_candidate(ts_event=NOON + 9 * S, side=-1)
    assert ask_gate(gate, again) is Reason.RISK_EXPOSURE


def test_gross_exposure_adds_up_long_and_short() -> None:
    gate = make_gate(limits={"max_gross": 2})
    accept_all(gate, make_candidate(CRYPTO), make_candidate(FREE, side=-1))
    assert gate.bookings.gross_units == 2
    assert ask_gate(gate, make_candidate(STOCK)) is Reason.RISK_EXPOSURE
    assert ask_gate(gate, make_candidate(FREE)) is None


def test_share_sold_beyond_flat_books_no_short_position() -> None:
    gate = make_gate()
    accept_all(gate, make_candidate(SHARE, side=-1, bid=10.0, ask=10.01))
    assert gate.bookings.position(SHARE).units == 0
    assert gate.bookings.gross_units == 0
