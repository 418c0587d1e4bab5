"""The rulebook's and the configuration's answers for one board on one trading day."""

from datetime import date, timedelta
from typing import Final, NamedTuple

from engine.core.records import Board
from engine.risk.config import RiskConfig
from engine.risk.rulebook import Limits, Rulebook
from engine.risk.rulebook_table import Lot, Settlement

_EPOCH: Final = date(1970, 1, 1)
_FIRST_DAY: Final = (date.min - _EPOCH).days
_LAST_DAY: Final = (date.max - _EPOCH).days


class BoardDay(NamedTuple):
    """What every instrument of a board has in common on one day; fees in basis points."""

    session: int
    limits: Limits | None
    lot: Lot | None
    settlement: Settlement | None
    buy_bps: float
    sell_bps: float
    order_size: float


class BoardDays:
    """Looks up BoardDays and keeps the last one of each board."""

    def __init__(self, rulebook: Rulebook, config: RiskConfig) -> None:
        self._rulebook = rulebook
        self._fees = config.cost.fees
        self._order_size = config.market.order_size
        self._last: dict[Board, BoardDay] = {}

    def of(self, board: Board, session: int) -> BoardDay:
        """Return the rules of a board.

        Args:
            board: The board.
            session: The trading day, in days since 1970-01-01; one that no calendar has counts
                as the nearest that one has.
        """
        last = self._last.get(board)
        if last is None or last.session != session:
            last = self._last[board] = self._look_up(board, session)
        return last

    def _look_up(self, board: Board, session: int) -> BoardDay:
        day = _EPOCH + timedelta(days=min(max(session, _FIRST_DAY), _LAST_DAY))
        buy_bps, sell_bps = self._fees_bps(board, day)
        return BoardDay(
            session=session,
            limits=self._rulebook.limits(board, day),
            lot=self._rulebook.lot(board, day),
            settlement=self._rulebook.settlement(board, day),
            buy_bps=buy_bps,
            sell_bps=sell_bps,
            order_size=self._order_size.of(board),
        )

    def _fees_bps(self, board: Board, day: date) -> tuple[float, float]:
        stated = self._fees.of(board)
        if stated is not None:
            return stated.buy_bps, stated.sell_bps
        return (
            self._rulebook.fee_bps("buy", board, day),
            self._rulebook.fee_bps("sell", board, day),
        )
