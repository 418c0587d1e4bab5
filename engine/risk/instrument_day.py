"""What the market's rules come to for one instrument on one trading day."""

import math
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from engine.core.candidates import Candidate
from engine.core.records import Board
from engine.risk.config import RiskConfig
from engine.risk.rulebook import HIGHEST_PRICE, Rulebook
from engine.risk.trading_calendar import TradingCalendar

_EPOCH: Final = date(1970, 1, 1)
_FIRST_DAY: Final = (date.min - _EPOCH).days
_LAST_DAY: Final = (date.max - _EPOCH).days
_CENT: Final = 0.01


class InstrumentDay:
    """One instrument's definition and the rules in force; refilled when its day changes.

    Attributes:
        symbol: ``SYMBOL.VENUE``.
        board: The rulebook it trades under.
        calendar: Its opening hours; None where the named calendar is unknown.
        calendar_name: The name as the definition gives it.
        multiplier: Units of value a unit of price and size.
        limit_up: Highest price of the day, +inf without a limit.
        limit_down: Lowest price of the day, -inf without a limit.
        half_tick: Half the least price step: prices nearer than that are the same.
        no_reference: The board has limits but there is no previous close to take them from.
        lot_problem: What is wrong with the configured order size, None if nothing is.
        t_plus_1: What was bought today cannot be sold today.
        long_only: What is not held cannot be sold.
        buy_bps: Fees of buying, basis points.
        sell_bps: Fees of selling, basis points.
    """

    __slots__ = (
        "_day", "_definition_down", "_definition_pre_close", "_definition_up", "_tick_size",
        "board", "buy_bps", "calendar", "calendar_name", "definition_lot", "half_tick",
        "limit_down", "limit_up", "long_only", "lot_problem", "multiplier", "no_reference",
        "pre_close", "sell_bps", "session", "symbol", "t_plus_1",
    )  # fmt: skip

    def __init__(
        self,
        *,
        symbol: str,
        board: Board,
        calendar_name: str,
        calendar: TradingCalendar | None,
        tick_size: float,
        lot: float,
        multiplier: float,
        pre_close: float,
        limits: tuple[float, float],
    ) -> None:
        self.symbol = symbol
        self.board = board
        self.calendar_name = calendar_name
        self.calendar = calendar
        self.definition_lot = lot if 0 < lot < HIGHEST_PRICE else 0.0
        self.multiplier = multiplier if 0 < multiplier < HIGHEST_PRICE else 1.0
        self._tick_size = tick_size if _CENT / 1e8 < tick_size < HIGHEST_PRICE else _CENT
        self.half_tick = self._tick_size / 2
        self._definition_pre_close = pre_close
        self._definition_down, self._definition_up = limits
        self.session: int | None = None
        self.pre_close = math.nan
        self._day = _EPOCH
        self.limit_up, self.limit_down = math.inf, -math.inf
        self.no_reference = False
        self.lot_problem: str | None = None
        self.t_plus_1 = self.long_only = False
        self.buy_bps = self.sell_bps = 0.0

    def is_that_of(self, candidate: Candidate) -> bool:
        """Tell whether what is filled in holds for this candidate."""
        pre_close = candidate.pre_close
        return candidate.session == self.session and (
            pre_close == self.pre_close or pre_close != pre_close
        )

    def refill(self, candidate: Candidate, rulebook: Rulebook, config: RiskConfig) -> None:
        """Look up the rules of the candidate's trading day; about 15 µs."""
        self.session = candidate.session
        self._day = _EPOCH + timedelta(days=min(max(self.session, _FIRST_DAY), _LAST_DAY))
        stated = _is_price(candidate.pre_close)
        self.pre_close = candidate.pre_close if stated else self._definition_pre_close
        self._set_limits(rulebook, is_stated=stated)
        self._set_settlement(rulebook)
        self._set_fees(rulebook, config)
        self.lot_problem = self._check_lot(rulebook, config.market.order_size.of(self.board))

    def _set_limits(self, rulebook: Rulebook, *, is_stated: bool) -> None:
        has_rule = rulebook.limits(self.board, self._day) is not None
        outdated = has_rule and is_stated and self.pre_close != self._definition_pre_close
        known = None
        if has_rule and _is_price(self.pre_close):
            known = rulebook.limit_prices(
                self.pre_close, self.board, self._day, tick_size=self._tick_size
            )
        down, up = known or (-math.inf, math.inf)
        if not outdated:
            down = self._definition_down if _is_price(self._definition_down) else down
            up = self._definition_up if _is_price(self._definition_up) else up
        self.limit_down, self.limit_up = down, up
        self.no_reference = has_rule and not (math.isfinite(up) and math.isfinite(down))

    def _set_settlement(self, rulebook: Rulebook) -> None:
        settlement = rulebook.settlement(self.board, self._day)
        self.t_plus_1 = settlement is not None and settlement.days > 0
        self.long_only = settlement is not None and not settlement.short

    def _set_fees(self, rulebook: Rulebook, config: RiskConfig) -> None:
        fees = config.cost.fees.of(self.board)
        if fees is not None:
            self.buy_bps, self.sell_bps = fees.buy_bps, fees.sell_bps
        else:
            self.buy_bps = rulebook.fee_bps("buy", self.board, self._day)
            self.sell_bps = rulebook.fee_bps("sell", self.board, self._day)

    def _check_lot(self, rulebook: Rulebook, order_size: float) -> str | None:
        if not order_size:
            return None
        lot = rulebook.lot(self.board, self._day)
        step = Decimal(repr(self.definition_lot))
        minimum, step = (step, step) if lot is None else (lot.minimum, lot.step)
        size = Decimal(repr(order_size))
        if size < minimum or (step and (size - minimum) % step):
            return f"order size {size:f} is not {minimum:f} and steps of {step:f}"
        return None


def _is_price(value: float) -> bool:
    return 0 < value < HIGHEST_PRICE
