"""The third gate: may this be traded here and now, by the market's rules and by our own?"""

import math
from typing import Final

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.core.records import TickFlag
from engine.risk.config import RiskConfig
from engine.risk.positions import moved
from engine.risk.rules import Check, RiskState, Rule, Situation

_NO_SIZE: Final = int(TickFlag.NO_SIZE)
_NOT_CONTINUOUS: Final = int(TickFlag.OUT_OF_SESSION | TickFlag.AUCTION)


def not_stopped(_: RiskConfig) -> Check:
    """The operator has not halted everything."""

    def check(_: Candidate, s: Situation) -> str | None:
        return "halted by the operator" if s.state is RiskState.HALTED else None

    return check


def in_session(config: RiskConfig) -> Check | None:
    """The venue trades at the event time, by its calendar and by its own mark on the tick."""
    mode = config.market.sessions

    def check(c: Candidate, s: Situation) -> str | None:
        continuous = mode == "continuous" or (mode == "auto" and c.ts_quote > 0)
        if continuous and c.flags & _NOT_CONTINUOUS:
            return "the last tick is marked as outside continuous trading"
        calendar = s.day.calendar
        if calendar is None:
            return f"calendar {s.day.calendar_name!r} is unknown"
        is_on = calendar.is_continuous if continuous else calendar.is_open
        if is_on(c.ts_event):
            return None
        if not calendar.covers(c.ts_event):
            return f"calendar {calendar.name} has no records of that year"
        return f"{calendar.name} is closed"

    return check if mode != "off" else None


def has_reference(config: RiskConfig) -> Check | None:
    """Where the board has price limits they can be computed."""

    def check(_: Candidate, s: Situation) -> str | None:
        return "no previous close to take price limits from" if s.day.no_reference else None

    return check if config.market.price_limits and config.market.require_reference else None


def buyable(config: RiskConfig) -> Check | None:
    """A BUY finds a seller below the upper limit: the price is not locked there."""

    def check(c: Candidate, s: Situation) -> str | None:
        limit = s.day.limit_up
        if c.side < 0 or not (c.ask > limit - s.day.half_tick or _no_ask(c)):
            return None
        if c.ask > limit + s.day.half_tick:
            return f"ask {c.ask} above the limit {limit}"
        if _no_ask(c) and max(c.price, c.bid) > limit - s.day.half_tick:
            return f"price {c.price} locked at the limit {limit}"
        return None

    return check if config.market.price_limits else None


def sellable(config: RiskConfig) -> Check | None:
    """A SELL finds a buyer above the lower limit: the price is not locked there."""

    def check(c: Candidate, s: Situation) -> str | None:
        limit = s.day.limit_down
        if c.side > 0 or not (c.bid < limit + s.day.half_tick or _no_bid(c)):
            return None
        if c.bid < limit - s.day.half_tick:
            return f"bid {c.bid} below the limit {limit}"
        if _no_bid(c) and min(c.price, c.ask) < limit + s.day.half_tick:
            return f"price {c.price} locked at the limit {limit}"
        return None

    return check if config.market.price_limits else None


def settled(config: RiskConfig) -> Check | None:
    """A SELL does not need what was bought on the same day."""

    def check(c: Candidate, s: Situation) -> str | None:
        if c.side > 0 or not s.day.t_plus_1:
            return None
        position = s.bookings.position(c.instrument)
        if position.units > 0 and position.sellable_units(c.session) <= 0:
            return f"all {position.units} units were bought today"
        return None

    return check if config.market.settlement else None


def legal_lot(_: RiskConfig) -> Check:
    """The configured order size is one that the board takes."""

    def check(_: Candidate, s: Situation) -> str | None:
        return s.day.lot_problem

    return check


def reducing(_: RiskConfig) -> Check:
    """While reducing, the signal brings its instrument's booked position nearer to flat."""

    def check(c: Candidate, s: Situation) -> str | None:
        if s.state is not RiskState.REDUCING:
            return None
        units = s.bookings.position(c.instrument).units
        return None if units * c.side < 0 else f"reducing only; {units} units are booked"

    return check


def confident(config: RiskConfig) -> Check | None:
    """The confidence is at least ``min_confidence``."""
    least = config.limits.min_confidence

    def check(c: Candidate, _: Situation) -> str | None:
        return None if c.confidence >= least else f"confidence {c.confidence}"

    return check if least else None


def cooled_down(config: RiskConfig) -> Check | None:
    """Its strategy gave this side of this instrument at least ``cool_down`` ago."""
    cool_down = config.limits.cool_down

    def check(c: Candidate, s: Situation) -> str | None:
        last = s.bookings.last_ts_recv(c)
        if last is not None and abs(c.ts_recv - last) < cool_down:
            return f"the same signal {c.ts_recv - last} ns before"
        return None

    return check if cool_down else None


def within_rate(config: RiskConfig) -> Check:
    """No more signals in ``rate_window`` than the instrument, its strategy and all may give."""
    window = config.limits.rate_window

    def check(c: Candidate, s: Situation) -> str | None:
        whose = s.bookings.full_ring(c, window)
        return None if whose is None else f"rate of {whose} reached"

    return check


def within_exposure(config: RiskConfig) -> Check | None:
    """The booked position and the sum of all stay within their caps, or shrink."""
    max_position, max_gross = config.limits.max_position, config.limits.max_gross

    def check(c: Candidate, s: Situation) -> str | None:
        units = s.bookings.position(c.instrument).units
        after = moved(units, c.side, long_only=s.day.long_only)
        grown = abs(after) - abs(units)
        if grown <= 0:
            return None
        if max_position and abs(after) > max_position:
            return f"{units} units are booked"
        if max_gross and s.bookings.gross_units + grown > max_gross:
            return f"{s.bookings.gross_units} units are booked in all"
        return None

    return check if max_position or max_gross else None


def _no_ask(c: Candidate) -> bool:
    return c.ask != c.ask or (c.ask_size == 0.0 < c.bid_size and not c.flags & _NO_SIZE)


def _no_bid(c: Candidate) -> bool:
    return c.bid != c.bid or (c.bid_size == 0.0 < c.ask_size and not c.flags & _NO_SIZE)


MARKET_RULES: Final = (
    Rule(Reason.RISK_HALTED, not_stopped, lambda _, state: state is RiskState.HALTED),
    Rule(Reason.MARKET_OUT_OF_SESSION, in_session),
    Rule(Reason.MARKET_NO_REFERENCE, has_reference, lambda day, _: day.no_reference),
    Rule(Reason.MARKET_LIMIT_UP, buyable, lambda day, _: day.limit_up < math.inf),
    Rule(Reason.MARKET_LIMIT_DOWN, sellable, lambda day, _: day.limit_down > -math.inf),
    Rule(Reason.MARKET_T_PLUS_1, settled, lambda day, _: day.t_plus_1),
    Rule(Reason.MARKET_LOT, legal_lot, lambda day, _: day.lot_problem is not None),
    Rule(Reason.RISK_REDUCING, reducing, lambda _, state: state is RiskState.REDUCING),
    Rule(Reason.RISK_CONFIDENCE, confident),
    Rule(Reason.RISK_COOL_DOWN, cooled_down),
    Rule(Reason.RISK_RATE, within_rate),
    Rule(Reason.RISK_EXPOSURE, within_exposure),
)
