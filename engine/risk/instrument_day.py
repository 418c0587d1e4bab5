"""What the market's rules come to for one instrument on one trading day."""

import math
from decimal import Decimal
from typing import Final

from engine.core.candidates import Candidate
from engine.core.records import Board
from engine.risk.board_day import BoardDay
from engine.risk.rulebook import HIGHEST_PRICE, Limits
from engine.risk.rulebook_table import Lot
from engine.risk.rules import Asked
from engine.risk.trading_calendar import TradingCalendar

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
        stated_pre_close: The reference price that the stream stated when this was filled in.
        no_reference: The board has limits but there is no previous close to take them from.
        lot_problem: What is wrong with the configured order size, None if nothing is.
        t_plus_1: What was bought today cannot be sold today.
        long_only: What is not held cannot be sold.
        buy_bps: Fees of buying, basis points.
        sell_bps: Fees of selling, basis points.
        checks: What is asked of its candidates, in order; the gate sets it after a refill.
        clean_checks: Those of them that could refuse a clean candidate.
    """

    __slots__ = (
        "_definition_down", "_definition_pre_close", "_definition_up", "_lot", "_tick_size",
        "board", "buy_bps", "calendar", "calendar_name", "checks", "clean_checks", "half_tick",
        "limit_down", "limit_up", "long_only", "lot_problem", "multiplier", "no_reference",
        "pre_close", "sell_bps", "session", "stated_pre_close", "symbol", "t_plus_1",
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
        self._lot = lot if 0 < lot < HIGHEST_PRICE else 0.0
        self.multiplier = multiplier if 0 < multiplier < HIGHEST_PRICE else 1.0
        self._tick_size = tick_size if _CENT / 1e8 < tick_size < HIGHEST_PRICE else _CENT
        self.half_tick = self._tick_size / 2
        self._definition_pre_close = pre_close
        self._definition_down, self._definition_up = limits
        self.session: int | None = None
        self.pre_close = self.stated_pre_close = math.nan
        self.limit_up, self.limit_down = math.inf, -math.inf
        self.no_reference = False
        self.lot_problem: str | None = None
        self.t_plus_1 = self.long_only = False
        self.buy_bps = self.sell_bps = 0.0
        self.checks: list[Asked] = []
        self.clean_checks: list[Asked] = []

    def is_that_of(self, candidate: Candidate) -> bool:
        """Tell whether what is filled in holds for this candidate."""
        pre_close = candidate.pre_close
        return candidate.session == self.session and (
            pre_close == self.pre_close or pre_close != pre_close
        )

    def refill(self, session: int, pre_close: float, rules: BoardDay) -> None:
        """Take the rules of a trading day; about 4 µs where there are limits.

        Args:
            session: The day.
            pre_close: Its reference price as the stream stated it, else NaN.
            rules: What holds for the board on that day.
        """
        self.session = session
        stated = _is_price(pre_close)
        self.stated_pre_close = pre_close if stated else math.nan
        self.pre_close = pre_close if stated else self._definition_pre_close
        self._set_limits(rules.limits, is_stated=stated)
        self.t_plus_1 = rules.settlement is not None and rules.settlement.days > 0
        self.long_only = rules.settlement is not None and not rules.settlement.short
        self.buy_bps, self.sell_bps = rules.buy_bps, rules.sell_bps
        self.lot_problem = self._check_lot(rules.lot, rules.order_size)

    def _set_limits(self, limits: Limits | None, *, is_stated: bool) -> None:
        down, up = -math.inf, math.inf
        if limits is not None and _is_price(self.pre_close):
            down, up = limits.prices(self.pre_close, self._tick_size)
        if not self._is_outdated(limits, is_stated=is_stated):
            down = self._definition_down if _is_price(self._definition_down) else down
            up = self._definition_up if _is_price(self._definition_up) else up
        self.limit_down, self.limit_up = down, up
        self.no_reference = limits is not None and math.inf in (up, -down)

    def _is_outdated(self, limits: Limits | None, *, is_stated: bool) -> bool:
        """Whether the definition's own limits are another day's: its previous close is not ours."""
        if not is_stated or self.pre_close == self._definition_pre_close:
            return False
        return limits is not None or _is_price(self._definition_pre_close)

    def _check_lot(self, lot: Lot | None, order_size: float) -> str | None:
        if not order_size:
            return None
        own = Decimal(repr(self._lot))
        minimum, step = (own, own) if lot is None else (lot.minimum, lot.step)
        size = Decimal(repr(order_size))
        if size < minimum or (step and (size - minimum) % step):
            return f"order size {size:f} is not {minimum:f} and steps of {step:f}"
        return None


def _is_price(value: float) -> bool:
    return 0 < value < HIGHEST_PRICE
