"""The first gate: is what the candidate was made of fit to be acted on?

Comparisons with NaN are false, so a rule about a quantity that is not there lets the candidate
pass; whether it must be there is a rule of its own.
"""

from typing import Final

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.core.records import TickFlag
from engine.risk.config import RiskConfig
from engine.risk.rules import Check, Rule, Situation

_CROSSED: Final = int(TickFlag.CROSSED)
_LOCKED: Final = int(TickFlag.LOCKED)
_ODD: Final = int(TickFlag.ODD_CONDITION)
_HALTED: Final = int(TickFlag.HALTED)


def finite_fields(_: RiskConfig) -> Check:
    """Price, strength and confidence are numbers, the price positive, the side BUY or SELL."""

    def check(c: Candidate, _: Situation) -> str | None:
        total = c.price + c.strength + c.confidence
        if total - total == 0.0 and c.price > 0.0 and c.side in (1, -1):
            return None
        return f"price {c.price}, strength {c.strength}, confidence {c.confidence}, side {c.side}"

    return check


def young_event(config: RiskConfig) -> Check | None:
    """The tick reached the gateway within ``max_age`` of its event time."""
    max_age = config.data.max_age

    def check(c: Candidate, _: Situation) -> str | None:
        age = c.ts_recv - c.ts_event
        return f"received {age} ns after the event" if age > max_age else None

    return check if max_age else None


def young_quote(config: RiskConfig) -> Check | None:
    """The book changed within ``max_quote_age`` before the event."""
    max_age = config.data.max_quote_age

    def check(c: Candidate, _: Situation) -> str | None:
        if c.ts_quote > 0 and c.ts_event - c.ts_quote > max_age:
            return f"book last changed {c.ts_event - c.ts_quote} ns before"
        return None

    return check if max_age else None


def in_time(config: RiskConfig) -> Check | None:
    """The gate sees the tick within ``max_late`` of its receipt, in real time."""
    max_late = config.data.max_late

    def check(c: Candidate, s: Situation) -> str | None:
        late = s.now_wall_ns - c.ts_recv
        return f"{late} ns since the gateway received it" if late > max_late else None

    return check if max_late else None


def not_expired(_: RiskConfig) -> Check:
    """The signal would still be valid, in real time."""

    def check(_: Candidate, s: Situation) -> str | None:
        if 0 < s.valid_until_ns < s.now_wall_ns:
            return f"expired {s.now_wall_ns - s.valid_until_ns} ns ago"
        return None

    return check


def away_from_gap(config: RiskConfig) -> Check | None:
    """No gap in the instrument's stream within ``gap_hold`` before the tick, in stream time."""
    hold = config.data.gap_hold

    def check(c: Candidate, s: Situation) -> str | None:
        gap = s.gap_ts_recv
        if gap is not None and 0 <= c.ts_recv - gap < hold:
            return f"gap {c.ts_recv - gap} ns before"
        return None

    return check if hold else None


def not_crossed(config: RiskConfig) -> Check | None:
    """The best bid is not above the best ask."""

    def check(c: Candidate, _: Situation) -> str | None:
        if c.bid > c.ask or c.flags & _CROSSED:
            return f"bid {c.bid}, ask {c.ask}"
        return None

    return check if config.data.refuse_crossed else None


def not_locked(config: RiskConfig) -> Check | None:
    """The best bid does not equal the best ask."""

    def check(c: Candidate, _: Situation) -> str | None:
        if c.bid == c.ask or c.flags & _LOCKED:
            return f"bid {c.bid}, ask {c.ask}"
        return None

    return check if config.data.refuse_locked else None


def two_sided(config: RiskConfig) -> Check | None:
    """Both sides of the book are there, or the price is at the limit that empties one."""

    def check(c: Candidate, s: Situation) -> str | None:
        has_bid, has_ask = c.bid == c.bid, c.ask == c.ask
        if has_bid == has_ask:
            return None
        if has_bid and c.bid > s.day.limit_up - s.day.half_tick:
            return None
        if has_ask and c.ask < s.day.limit_down + s.day.half_tick:
            return None
        return f"bid {c.bid}, ask {c.ask}"

    return check if config.data.refuse_one_sided else None


def regular(config: RiskConfig) -> Check | None:
    """The last print is not marked as irregular."""

    def check(c: Candidate, _: Situation) -> str | None:
        return "the last tick is marked irregular" if c.flags & _ODD else None

    return check if config.data.refuse_odd_condition else None


def not_halted(config: RiskConfig) -> Check | None:
    """The instrument is trading."""

    def check(c: Candidate, _: Situation) -> str | None:
        return "the instrument is halted" if c.flags & _HALTED else None

    return check if config.data.refuse_halted else None


DATA_RULES: Final = (
    Rule(Reason.DATA_NAN, finite_fields),
    Rule(Reason.DATA_STALE, young_event),
    Rule(Reason.DATA_STALE, young_quote),
    Rule(Reason.DATA_LATE, in_time),
    Rule(Reason.DATA_EXPIRED, not_expired),
    Rule(Reason.DATA_GAP, away_from_gap),
    Rule(Reason.DATA_HALTED, not_halted, passes_clean=True),
    Rule(Reason.DATA_CROSSED, not_crossed, passes_clean=True),
    Rule(Reason.DATA_LOCKED, not_locked, passes_clean=True),
    Rule(Reason.DATA_ONE_SIDED, two_sided, passes_clean=True),
    Rule(Reason.DATA_ODD_CONDITION, regular, passes_clean=True),
)
