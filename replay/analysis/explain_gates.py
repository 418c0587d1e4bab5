"""What every rule of the risk gate saw of one candidate. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from engine.core.candidates import Candidate
from engine.core.records import TickFlag
from engine.risk.config import RiskConfig
from engine.risk.cost_rules import cost_bps, fees_bps, half_spread_bps
from engine.risk.gate import GATES
from engine.risk.rules import Rule, Situation

Saw = Callable[[Candidate, Situation, RiskConfig], str]
_MS: Final = 1e6


class Asked(msgspec.Struct, frozen=True):
    """One rule and what it saw.

    Attributes:
        gate: Its gate.
        reason: The code for which it refuses.
        rule: What it asks.
        verdict: ``passed``, ``refused``, ``off`` by configuration, or ``not asked`` on that day.
        saw: The numbers that it looked at, with its limit.
    """

    gate: str
    reason: str
    rule: str
    verdict: str
    saw: str


def asked_of(candidate: Candidate, situation: Situation, config: RiskConfig) -> list[Asked]:
    """Ask every rule about a candidate, those after a refusal too.

    Args:
        candidate: What a strategy proposed.
        situation: What the rules may look at besides.
        config: Their limits.
    """
    return [
        _asked(gate.value, rule, candidate, situation, config)
        for gate, rules in GATES.items()
        for rule in rules
    ]


def _asked(
    gate: str, rule: Rule, candidate: Candidate, situation: Situation, config: RiskConfig
) -> Asked:
    title = (rule.make.__doc__ or rule.make.__name__).strip().splitlines()[0]
    check = rule.make(config)
    saw = SAW[rule.make.__name__](candidate, situation, config)
    if check is None:
        verdict = "off"
    elif rule.applies is not None and not rule.applies(situation.day, situation.state):
        verdict = "not asked"
    else:
        detail = check(candidate, situation)
        verdict = "passed" if detail is None else "refused"
        saw = saw if detail is None else f"{detail} ({saw})"
    return Asked(gate, rule.reason.value, title, verdict, saw)


def _fields(c: Candidate, _: Situation, __: RiskConfig) -> str:
    return f"price {c.price:g}, strength {c.strength:g}, confidence {c.confidence:g}, side {c.side}"


def _event_age(c: Candidate, _: Situation, config: RiskConfig) -> str:
    return f"{(c.ts_recv - c.ts_event) / _MS:g} ms, at most {config.data.max_age / _MS:g} ms"


def _quote_age(c: Candidate, _: Situation, config: RiskConfig) -> str:
    if c.ts_quote <= 0:
        return "there was no book"
    age_ns = c.ts_event - c.ts_quote
    return f"{age_ns / _MS:g} ms, at most {config.data.max_quote_age / _MS:g} ms"


def _lateness(c: Candidate, s: Situation, config: RiskConfig) -> str:
    late_ns = s.now_wall_ns - c.ts_recv
    return f"{late_ns / _MS:g} ms after receipt, at most {config.data.max_late / _MS:g} ms"


def _validity(_: Candidate, s: Situation, __: RiskConfig) -> str:
    return f"valid for another {(s.valid_until_ns - s.now_wall_ns) / _MS:g} ms"


def _gap(c: Candidate, s: Situation, config: RiskConfig) -> str:
    if s.gap_ts_recv is None:
        return "no gap"
    since_ns = c.ts_recv - s.gap_ts_recv
    return f"gap {since_ns / _MS:g} ms before, at least {config.data.gap_hold / _MS:g} ms"


def _flags(c: Candidate, _: Situation, __: RiskConfig) -> str:
    names = [flag.name or "" for flag in TickFlag(c.flags)]
    return f"flags of the last tick: {', '.join(names) or 'none'}"


def _book(c: Candidate, _: Situation, __: RiskConfig) -> str:
    return f"bid {c.bid:g} x {c.bid_size:g}, ask {c.ask:g} x {c.ask_size:g}"


def _spread(c: Candidate, _: Situation, config: RiskConfig) -> str:
    return f"{2 * half_spread_bps(c):.2f} bps, at most {config.liquidity.max_spread_bps:g} bps"


def _depth(c: Candidate, s: Situation, config: RiskConfig) -> str:
    price, size = (c.ask, c.ask_size) if c.side > 0 else (c.bid, c.bid_size)
    value, least = price * size * s.day.multiplier, config.liquidity.min_depth_notional
    return f"{value:g} on the side to be taken, at least {least:g}"


def _turnover(c: Candidate, s: Situation, config: RiskConfig) -> str:
    turnover = c.session_turnover * s.day.multiplier
    return f"{turnover:g} in the session, at least {config.liquidity.min_session_turnover:g}"


def _state(_: Candidate, s: Situation, __: RiskConfig) -> str:
    return f"the gate is {s.state.value}"


def _session(_: Candidate, s: Situation, config: RiskConfig) -> str:
    return f"calendar {s.day.calendar_name}, sessions {config.market.sessions}"


def _reference(_: Candidate, s: Situation, __: RiskConfig) -> str:
    return f"previous close {s.day.pre_close:g}"


def _limit_up(c: Candidate, s: Situation, __: RiskConfig) -> str:
    return f"ask {c.ask:g}, limit {s.day.limit_up:g}"


def _limit_down(c: Candidate, s: Situation, __: RiskConfig) -> str:
    return f"bid {c.bid:g}, limit {s.day.limit_down:g}"


def _settlement(c: Candidate, s: Situation, __: RiskConfig) -> str:
    position = s.bookings.position(c.instrument)
    sellable = position.sellable_units(c.session)
    return f"{position.units} units booked, {sellable} may be sold today"


def _lot(_: Candidate, s: Situation, config: RiskConfig) -> str:
    return f"order size {config.market.order_size.of(s.day.board):g}"


def _confidence(c: Candidate, _: Situation, config: RiskConfig) -> str:
    return f"{c.confidence:g}, at least {config.limits.min_confidence:g}"


def _cool_down(c: Candidate, s: Situation, config: RiskConfig) -> str:
    last = s.bookings.last_ts_recv(c)
    least = f"at least {config.limits.cool_down / _MS:g} ms"
    if last is None:
        return f"the first of its kind, {least}"
    return f"{(c.ts_recv - last) / _MS:g} ms since the same signal, {least}"


def _rate(c: Candidate, s: Situation, config: RiskConfig) -> str:
    full = s.bookings.full_ring(c, config.limits.rate_window)
    return f"rate reached: {full or 'none'}"


def _exposure(c: Candidate, s: Situation, config: RiskConfig) -> str:
    units, gross = s.bookings.position(c.instrument).units, s.bookings.gross_units
    limits = config.limits
    return f"{units} units of {limits.max_position}, {gross} in all of {limits.max_gross}"


def _edge(c: Candidate, _: Situation, __: RiskConfig) -> str:
    return "no estimate" if c.edge_bps != c.edge_bps else f"edge {c.edge_bps:.2f} bps"


def _cost(c: Candidate, s: Situation, config: RiskConfig) -> str:
    total_bps, of_fees_bps = cost_bps(c, s, config.cost), fees_bps(c, s, config.cost)
    return f"{_edge(c, s, config)}, cost {total_bps:.2f} bps of which fees {of_fees_bps:.2f} bps"


SAW: Final[Mapping[str, Saw]] = {
    "finite_fields": _fields,
    "young_event": _event_age,
    "young_quote": _quote_age,
    "in_time": _lateness,
    "not_expired": _validity,
    "away_from_gap": _gap,
    "not_crossed": _book,
    "not_locked": _book,
    "two_sided": _book,
    "regular": _flags,
    "not_halted": _flags,
    "has_book": _book,
    "narrow_spread": _spread,
    "enough_depth": _depth,
    "enough_turnover": _turnover,
    "not_stopped": _state,
    "in_session": _session,
    "has_reference": _reference,
    "buyable": _limit_up,
    "sellable": _limit_down,
    "settled": _settlement,
    "legal_lot": _lot,
    "reducing": _state,
    "confident": _confidence,
    "cooled_down": _cool_down,
    "within_rate": _rate,
    "within_exposure": _exposure,
    "has_edge": _edge,
    "pays": _cost,
}
"""What each rule looks at, by the name of its maker."""


def as_rows(asked: list[Asked]) -> list[dict[str, Any]]:
    """Return them for JSON."""
    return [msgspec.structs.asdict(one) for one in asked]
