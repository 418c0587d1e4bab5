"""Candidates that pass every gate, and gates over a small universe, for the tests of the gate."""

from typing import Any

import numpy as np

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.core.records import Board, Instruments, instrument_row
from engine.risk.config import RiskConfig
from engine.risk.gate import RiskGate
from engine.risk.rulebook import load_rulebook

S = 1_000_000_000
DAY_S = 86_400
RULEBOOK = load_rulebook()

CRYPTO, SHARE, STOCK, FX, FUTURE, STAR, FREE = range(7)


def utc_ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


NOON = utc_ns("2024-06-05T15:00")
"""A Wednesday on which New York and the crypto venue trade."""
MORNING = utc_ns("2024-06-05T02:00")
"""The same day, 10:00 in Shanghai."""


def universe() -> Instruments:
    share: dict[str, Any] = {"calendar": "XSHG", "tick_size": 0.01, "day_offset_s": 28_800}
    rows = [
        instrument_row("BTCUSDT.BINANCE", id=CRYPTO, board=Board.CRYPTO),
        instrument_row(
            "600000.SH", id=SHARE, board=Board.CN_MAIN, lot=100, pre_close=10.0, **share
        ),
        instrument_row("AIG.US", id=STOCK, board=Board.US_EQUITY, calendar="XNYS", lot=1),
        instrument_row("EURUSD.FXCM", id=FX, board=Board.FX, calendar="FX"),
        instrument_row(
            "IF2101.CFFEX", id=FUTURE, board=Board.FUTURES, calendar="XSHG", tick_size=0.2,
            multiplier=300.0, pre_close=5000.0, limit_up=5500.0, limit_down=4500.0,
        ),
        instrument_row("688001.SH", id=STAR, board=Board.CN_STAR, lot=1, pre_close=50.0, **share),
        instrument_row("X.TEST", id=FREE, lot=0.5),
    ]  # fmt: skip
    return np.concatenate(rows)


def make_candidate(instrument: int = CRYPTO, **fields: Any) -> Candidate:
    """Make a BUY that passes every gate with the default configuration, changed by ``fields``."""
    ts = fields.get("ts_event", MORNING if instrument in (SHARE, FUTURE, STAR) else NOON)
    price = {FUTURE: 5000.0, STAR: 50.0}.get(instrument, 10.0)
    values: dict[str, Any] = {
        "row": 0, "ts_event": ts, "ts_recv": ts, "price": price, "strength": 1.0,
        "confidence": 1.0, "edge_bps": np.nan, "bid": price - 0.01, "ask": price,
        "bid_size": 1000.0, "ask_size": 1000.0, "pre_close": np.nan, "session_turnover": 1e9,
        "ts_quote": ts, "window": 0, "instrument": instrument, "strategy": 0, "flags": 0,
        "side": 1, "model": -1,
        "session": ts // (DAY_S * S),
    }  # fmt: skip
    return Candidate(**(values | fields))


def bookless(instrument: int, **fields: Any) -> Candidate:
    """Make the same without a book, as from daily bars."""
    nothing = {
        "bid": np.nan,
        "ask": np.nan,
        "bid_size": 0.0,
        "ask_size": 0.0,
        "ts_quote": 0,
    }
    return make_candidate(instrument, **(nothing | fields))


def make_gate(**sections: Any) -> RiskGate:
    """Make a gate over the universe with a configuration of these sections."""
    return RiskGate(RiskConfig.model_validate(sections), universe(), rulebook=RULEBOOK)


def ask_gate(gate: RiskGate, candidate: Candidate, *, late_ns: int = 0) -> Reason | None:
    """Check one candidate as a replay does, ``late_ns`` after its receipt."""
    return gate.check(
        candidate,
        valid_until_ns=candidate.ts_recv + 60 * S,
        now_wall_ns=candidate.ts_recv + late_ns,
    ).reason


def accept_all(gate: RiskGate, *candidates: Candidate) -> None:
    """Book candidates that must all pass."""
    for candidate in candidates:
        reason = ask_gate(gate, candidate)
        assert reason is None, reason
        gate.accept(candidate)
