"""Why a candidate was refused: one code a rule, ``CATEGORY_CONDITION``.

The codes are part of the journal's and the stream's contract: add, never rename.
"""

from enum import StrEnum


class Gate(StrEnum):
    """The four gates, in the order they are asked."""

    DATA = "data"
    LIQUIDITY = "liquidity"
    RISK = "risk"
    COST = "cost"


class Reason(StrEnum):
    """Reason codes of the risk gate, in the order of the gates."""

    DATA_NAN = "DATA_NAN"
    DATA_STALE = "DATA_STALE"
    DATA_LATE = "DATA_LATE"
    """Real elapsed time since the gateway received the tick: the one reason a replay cannot see."""
    DATA_EXPIRED = "DATA_EXPIRED"
    """Real elapsed time passed ``valid_until``: time-dependent like DATA_LATE."""
    DATA_GAP = "DATA_GAP"
    DATA_CROSSED = "DATA_CROSSED"
    DATA_LOCKED = "DATA_LOCKED"
    DATA_ONE_SIDED = "DATA_ONE_SIDED"
    DATA_ODD_CONDITION = "DATA_ODD_CONDITION"
    DATA_HALTED = "DATA_HALTED"
    LIQUIDITY_NO_BOOK = "LIQUIDITY_NO_BOOK"
    LIQUIDITY_SPREAD = "LIQUIDITY_SPREAD"
    LIQUIDITY_DEPTH = "LIQUIDITY_DEPTH"
    LIQUIDITY_TURNOVER = "LIQUIDITY_TURNOVER"
    MARKET_OUT_OF_SESSION = "MARKET_OUT_OF_SESSION"
    MARKET_LIMIT_UP = "MARKET_LIMIT_UP"
    MARKET_LIMIT_DOWN = "MARKET_LIMIT_DOWN"
    MARKET_NO_REFERENCE = "MARKET_NO_REFERENCE"
    """The board has price limits but the previous close is unknown."""
    MARKET_T_PLUS_1 = "MARKET_T_PLUS_1"
    MARKET_LOT = "MARKET_LOT"
    RISK_HALTED = "RISK_HALTED"
    RISK_REDUCING = "RISK_REDUCING"
    RISK_RATE = "RISK_RATE"
    RISK_COOL_DOWN = "RISK_COOL_DOWN"
    RISK_EXPOSURE = "RISK_EXPOSURE"
    RISK_CONFIDENCE = "RISK_CONFIDENCE"
    COST_EDGE = "COST_EDGE"
    COST_NO_EDGE = "COST_NO_EDGE"
    """The rule gave no estimate of its edge and the configuration asks for one."""


TIME_DEPENDENT = frozenset({Reason.DATA_LATE, Reason.DATA_EXPIRED})
"""Reasons that depend on real elapsed time, so that live and replay may differ in them."""
