"""The fourth gate: does the move that the rule expects pay for the trade?"""

from typing import Final

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.risk.config import RiskConfig
from engine.risk.rules import Check, Rule, Situation


def has_edge(config: RiskConfig) -> Check | None:
    """The rule gave an estimate of its edge, where ``require_edge`` asks for one."""

    def check(c: Candidate, _: Situation) -> str | None:
        return "no estimate of the edge" if c.edge_bps != c.edge_bps else None

    return check if config.cost.check_edge and config.cost.require_edge else None


def pays(config: RiskConfig) -> Check | None:
    """The expected edge exceeds fees, spread, slippage and ``margin_bps``; NaN passes."""
    legs = 2 if config.cost.round_trip else 1
    constant_bps = legs * config.cost.slippage_bps + config.cost.margin_bps

    def check(c: Candidate, s: Situation) -> str | None:
        if legs == 2:
            fees_bps = s.day.buy_bps + s.day.sell_bps
        else:
            fees_bps = s.day.buy_bps if c.side > 0 else s.day.sell_bps
        cost_bps = fees_bps + legs * half_spread_bps(c) + constant_bps
        if c.edge_bps <= cost_bps:
            return f"edge {c.edge_bps:.2f} bps, cost {cost_bps:.2f} bps"
        return None

    return check if config.cost.check_edge else None


def half_spread_bps(candidate: Candidate) -> float:
    """Return half the spread in basis points of the mid, 0 where no spread is known."""
    sum_of_sides = candidate.bid + candidate.ask
    if candidate.ask > candidate.bid and sum_of_sides > 0:
        return 10_000 * (candidate.ask - candidate.bid) / sum_of_sides
    return 0.0


COST_RULES: Final = (
    Rule(Reason.COST_NO_EDGE, has_edge),
    Rule(Reason.COST_EDGE, pays),
)
