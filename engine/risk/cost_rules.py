"""The fourth gate: does the move that the rule expects pay for the trade?"""

from typing import Final

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.risk.config import CostRulesConfig, RiskConfig
from engine.risk.rules import Check, Rule, Situation


def has_edge(config: RiskConfig) -> Check | None:
    """The rule gave an estimate of its edge, where ``require_edge`` asks for one."""

    def check(c: Candidate, _: Situation) -> str | None:
        return "no estimate of the edge" if c.edge_bps != c.edge_bps else None

    return check if config.cost.check_edge and config.cost.require_edge else None


def pays(config: RiskConfig) -> Check | None:
    """The expected edge exceeds fees, spread, slippage and ``margin_bps``; NaN passes."""
    cost = config.cost

    def check(c: Candidate, s: Situation) -> str | None:
        total_bps = cost_bps(c, s, cost)
        if c.edge_bps <= total_bps:
            return f"edge {c.edge_bps:.2f} bps, cost {total_bps:.2f} bps"
        return None

    return check if cost.check_edge else None


def cost_bps(c: Candidate, s: Situation, cost: CostRulesConfig) -> float:
    """Return what the trade costs in basis points: fees, spread, slippage and the margin."""
    legs = 2 if cost.round_trip else 1
    constant_bps = legs * cost.slippage_bps + cost.margin_bps
    return fees_bps(c, s, cost) + legs * half_spread_bps(c) + constant_bps


def fees_bps(c: Candidate, s: Situation, cost: CostRulesConfig) -> float:
    """Return the day's fees in basis points, of both legs where the way back counts."""
    if cost.round_trip:
        return s.day.buy_bps + s.day.sell_bps
    return s.day.buy_bps if c.side > 0 else s.day.sell_bps


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
