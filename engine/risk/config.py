"""Settings of the risk gate. A limit of 0 turns its rule off, unless the field says otherwise.

The defaults are meant for any market at once: crypto, US equities, FX, futures and A-shares,
from ticks or from bars without a book.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engine.core.records import Board
from engine.core.settings import DurationNs, Settings
from engine.risk.rules import RiskState

Span = Annotated[DurationNs, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10_000)]

CALENDAR_ALIASES = {
    "XSHE": "XSHG", "SZSE": "XSHG", "BJSE": "XSHG", "CCFX": "XSHG", "CFFEX": "XSHG",
}  # fmt: skip
"""Venues whose days and hours are another calendar's. CFFEX's index futures keep the stock
exchanges' hours since 2016-01-01."""


class DataRulesConfig(Settings):
    """Is what the candidate was made of fit to be acted on?"""

    max_age: Span = 5_000_000_000
    """Most time from the venue to the gateway; a venue's clock ahead of ours is no age at all."""
    max_late: Span = 2_000_000_000
    """Most real time from the gateway's receipt to the gate; never fires in a replay."""
    max_quote_age: Span = 60_000_000_000
    """Most event time since the book last changed."""
    gap_hold: Span = 1_000_000_000
    """Stream time after a gap during which nothing is let through."""
    refuse_crossed: bool = True
    refuse_locked: bool = True
    refuse_one_sided: bool = True
    """A book without one side, unless its price limit explains that."""
    refuse_odd_condition: bool = True
    refuse_halted: bool = True


class LiquidityRulesConfig(Settings):
    """Is there somebody to trade with, near the price?"""

    require_book: Literal["auto", "always", "never"] = "auto"
    """``auto``: only where the instrument has had a book, so that bars without one pass."""
    max_spread_bps: Amount = 100.0
    """Widest spread, in basis points of the mid."""
    min_depth_notional: Amount = 100.0
    """Least value on the side to be taken, in quote currency; sources without sizes pass."""
    min_session_turnover: Amount = 0.0
    """Least value traded in the session so far, in quote currency."""


class OrderSizes(Settings):
    """Size of the orders that will follow the signals, by board, in units of trading; 0: unsaid."""

    crypto: Amount = 0.0
    us_equity: Amount = 0.0
    fx: Amount = 0.0
    futures: Amount = 0.0
    cn_main: Amount = 0.0
    cn_main_st: Amount = 0.0
    cn_chinext: Amount = 0.0
    cn_star: Amount = 0.0
    cn_beijing: Amount = 0.0
    other: Amount = 0.0

    def of(self, board: Board) -> float:
        """Return the order size on a board."""
        size: float = getattr(self, board.name.lower())
        return size


class MarketRulesConfig(Settings):
    """May this be traded here and now, by the market's own rules?"""

    sessions: Literal["auto", "continuous", "whole", "off"] = "auto"
    """``continuous``: auctions excluded; ``whole``: from the open to the close, both included;
    ``auto``: continuous where there is a book, whole for bars without one."""
    calendar_aliases: dict[str, str] = CALENDAR_ALIASES
    """Calendar names in the data to calendars of exchange_calendars, ``24/7`` or ``FX``."""
    price_limits: bool = True
    require_reference: bool = True
    """Refuse where the board has price limits and the previous close is unknown."""
    settlement: bool = True
    """Hold to T+1 where the rulebook has it."""
    order_size: OrderSizes = OrderSizes()
    rulebook: Path | None = None
    """Another rulebook than configs/cn_a_share.toml."""


class LimitRulesConfig(Settings):
    """How much, how often?"""

    min_confidence: Amount = 0.0
    cool_down: Span = 1_000_000_000
    """Least stream time between two signals of one strategy, instrument and side."""
    rate_window: Annotated[DurationNs, Field(gt=0)] = 1_000_000_000
    max_signals_per_instrument: Count = 10
    """Most signals in any ``rate_window`` of stream time; likewise the next two."""
    max_signals_per_strategy: Count = 500
    max_signals: Count = 1_000
    max_position: Count = 10
    """Most units one instrument may stand from flat: a BUY is +1 unit, a SELL -1."""
    max_gross: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    """Most units over all instruments, long and short added up."""


class BoardFees(Settings):
    """What one trade costs, in basis points of its value."""

    buy_bps: Amount
    sell_bps: Amount


class FeeTable(Settings):
    """Fees by board; a board without an entry pays what the rulebook says, or nothing."""

    crypto: BoardFees | None = BoardFees(buy_bps=5.0, sell_bps=5.0)
    """A taker's fee on a large perpetual-swap venue."""
    us_equity: BoardFees | None = BoardFees(buy_bps=0.5, sell_bps=0.8)
    """About 0.0035 USD a share at 70 USD; regulatory fees on the sale."""
    fx: BoardFees | None = BoardFees(buy_bps=0.0, sell_bps=0.0)
    """Paid in the spread."""
    futures: BoardFees | None = BoardFees(buy_bps=0.23, sell_bps=0.23)
    """CFFEX index futures."""
    cn_main: BoardFees | None = None
    cn_main_st: BoardFees | None = None
    cn_chinext: BoardFees | None = None
    cn_star: BoardFees | None = None
    cn_beijing: BoardFees | None = None
    other: BoardFees | None = BoardFees(buy_bps=1.0, sell_bps=1.0)

    def of(self, board: Board) -> BoardFees | None:
        """Return the configured fees of a board, None to ask the rulebook."""
        fees: BoardFees | None = getattr(self, board.name.lower())
        return fees


class CostRulesConfig(Settings):
    """Does the move that the rule expects pay for the trade?"""

    check_edge: bool = True
    require_edge: bool = False
    """Refuse a candidate without an estimate of its edge; otherwise it passes uncosted."""
    round_trip: bool = True
    """Count getting out as well as getting in: both fees, the whole spread, slippage twice."""
    slippage_bps: Amount = 0.5
    """Beyond the spread, a leg."""
    margin_bps: Amount = 0.0
    """What must remain after all costs."""
    fees: FeeTable = FeeTable()


class RiskConfig(Settings):
    """The four gates and the state that the engine starts in."""

    state: RiskState = RiskState.ACTIVE
    data: DataRulesConfig = DataRulesConfig()
    liquidity: LiquidityRulesConfig = LiquidityRulesConfig()
    market: MarketRulesConfig = MarketRulesConfig()
    limits: LimitRulesConfig = LimitRulesConfig()
    cost: CostRulesConfig = CostRulesConfig()
