"""The second gate: is there somebody to trade with, near the price?"""

from typing import Final

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.core.records import TickFlag
from engine.risk.config import RiskConfig
from engine.risk.rules import Check, Rule, Situation

_NO_SIZE: Final = int(TickFlag.NO_SIZE)


def has_book(config: RiskConfig) -> Check | None:
    """There is a book, where there has been one (``auto``) or in any case (``always``)."""
    always = config.liquidity.require_book == "always"

    def check(c: Candidate, _: Situation) -> str | None:
        if c.bid == c.bid or c.ask == c.ask:
            return None
        return "no bid and no ask" if always or c.ts_quote > 0 else None

    return check if config.liquidity.require_book != "never" else None


def narrow_spread(config: RiskConfig) -> Check | None:
    """The spread is at most ``max_spread_bps`` of the mid."""
    max_bps = config.liquidity.max_spread_bps

    def check(c: Candidate, _: Situation) -> str | None:
        spread, mid = c.ask - c.bid, (c.ask + c.bid) / 2
        if spread * 10_000 > max_bps * mid:
            return f"bid {c.bid}, ask {c.ask} are more than {max_bps} bps apart"
        return None

    return check if max_bps else None


def enough_depth(config: RiskConfig) -> Check | None:
    """The side to be taken offers ``min_depth_notional``; a source without sizes passes."""
    least = config.liquidity.min_depth_notional

    def check(c: Candidate, s: Situation) -> str | None:
        price, size = (c.ask, c.ask_size) if c.side > 0 else (c.bid, c.bid_size)
        if price * size * s.day.multiplier >= least or price != price:
            return None
        if c.flags & _NO_SIZE or c.bid_size == c.ask_size == 0.0:
            return None
        return f"{size} at {price}"

    return check if least else None


def enough_turnover(config: RiskConfig) -> Check | None:
    """The session has seen ``min_session_turnover``."""
    least = config.liquidity.min_session_turnover

    def check(c: Candidate, s: Situation) -> str | None:
        turnover = c.session_turnover * s.day.multiplier
        return None if turnover >= least else f"session turnover {turnover:.0f}"

    return check if least else None


LIQUIDITY_RULES: Final = (
    Rule(Reason.LIQUIDITY_NO_BOOK, has_book, passes_clean=True),
    Rule(Reason.LIQUIDITY_SPREAD, narrow_spread),
    Rule(Reason.LIQUIDITY_DEPTH, enough_depth),
    Rule(Reason.LIQUIDITY_TURNOVER, enough_turnover),
)
