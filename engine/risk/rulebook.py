"""The market's own rules by board and date: price limits, lots, settlement, fees, auctions.

A rulebook is a table of entries, each in force from its ``since`` until the next entry for the
same board; the functions here look up and compute, and know no market by name.
"""

import tomllib
from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from engine.core.errors import ConfigError
from engine.core.records import Board
from engine.risk.rulebook_table import Fee, Listing, Lot, RulebookTable, Settlement

DEFAULT_RULEBOOK: Final = Path(__file__).resolve().parents[2] / "configs" / "cn_a_share.toml"
HIGHEST_PRICE: Final = 1e12
"""Prices from here on are no prices: limits are not computed for them."""

_FEN: Final = Decimal("0.01")


class _Entry(Protocol):
    @property
    def boards(self) -> tuple[Board, ...]: ...

    @property
    def since(self) -> date: ...


_E = TypeVar("_E", bound=_Entry)


class Limits(NamedTuple):
    """How far a price may go from the previous close, as fractions of it."""

    up_frac: Decimal
    down_frac: Decimal

    def prices(self, pre_close: float, tick_size: float) -> tuple[float, float]:
        """Return (lowest, highest) price.

        Previous close times (1 ± limit), rounded half-up to the tick in decimal arithmetic, at
        least one tick from the previous close and never below one tick (the exchanges' Trading
        Rules, section on price limits).

        Raises:
            ValueError: ``pre_close`` or ``tick_size`` is not a positive price.
        """
        if not (0 < pre_close < HIGHEST_PRICE and 0 < tick_size < HIGHEST_PRICE):
            raise ValueError(f"previous close {pre_close} and tick {tick_size} must be prices")
        reference, tick = _exact(pre_close), _exact(tick_size)
        up = _to_tick(reference * (1 + self.up_frac), tick)
        down = _to_tick(reference * (1 - self.down_frac), tick)
        return (
            float(max(min(down, reference - tick), tick)),
            float(max(up, reference + tick)),
        )


class Rulebook:
    """Pure look-ups in one RulebookTable; a board that it does not name has no rules."""

    def __init__(self, table: RulebookTable) -> None:
        self.table = table

    def limits(self, board: Board, day: date, days_listed: int | None = None) -> Limits | None:
        """Return the price limits in force, None where there are none.

        Args:
            board: The board.
            day: The trading day.
            days_listed: 1 on the day of listing; None if unknown, taken as long ago.
        """
        listing = _in_force(self.table.listing, board, day)
        if listing is not None and _is_new(listing, days_listed):
            return _limits(listing.up_pct, listing.down_pct)
        entry = _in_force(self.table.price_limit, board, day)
        return None if entry is None else _limits(entry.up_pct, entry.down_pct)

    def limit_prices(
        self,
        pre_close: float,
        board: Board,
        day: date,
        *,
        tick_size: float = 0.01,
        days_listed: int | None = None,
    ) -> tuple[float, float] | None:
        """Return (lowest, highest) price of the day, None where there are no limits.

        Raises:
            ValueError: ``pre_close`` or ``tick_size`` is not a positive price.
        """
        limits = self.limits(board, day, days_listed)
        return None if limits is None else limits.prices(pre_close, tick_size)

    def lot(self, board: Board, day: date) -> Lot | None:
        """Return the legal order sizes, None where the rulebook says nothing."""
        return _in_force(self.table.lot, board, day)

    def settlement(self, board: Board, day: date) -> Settlement | None:
        """Return when what was bought may be sold, None where the rulebook says nothing."""
        return _in_force(self.table.settlement, board, day)

    def fees(self, side: Literal["buy", "sell"], board: Board, day: date) -> tuple[Fee, ...]:
        """Return the fees and taxes in force on one side of a trade."""
        names = dict.fromkeys(fee.name for fee in self.table.fee)
        in_force = (
            _in_force((fee for fee in self.table.fee if fee.name == name), board, day)
            for name in names
        )
        return tuple(fee for fee in in_force if fee is not None and fee.side in (side, "both"))

    def fee_bps(self, side: Literal["buy", "sell"], board: Board, day: date) -> float:
        """Return the rates of all fees added up, in basis points, minimum amounts left aside."""
        return float(sum(fee.rate_bps for fee in self.fees(side, board, day)))

    def charge(
        self, side: Literal["buy", "sell"], board: Board, day: date, notional: Decimal
    ) -> Decimal:
        """Return what one trade of this value pays, each fee rounded half-up to 0.01."""
        return sum(
            (_amount(fee, notional) for fee in self.fees(side, board, day)), start=Decimal(0)
        )

    def closing_auction_s(self, board: Board, venue: str, day: date) -> int:
        """Return how long before the close continuous trading ends, in seconds."""
        entries = [a for a in self.table.closing_auction if not a.venues or venue in a.venues]
        entry = _in_force(entries, board, day)
        return 0 if entry is None else entry.length_s


def load_rulebook(file: Path | None = None) -> Rulebook:
    """Read and check a rulebook, by default the A-share one that comes with the package.

    Raises:
        ConfigError: the file is missing, is no TOML or breaks the table's schema.
    """
    path = DEFAULT_RULEBOOK if file is None else file
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            path, "", error.strerror, "name a rulebook file that can be read"
        ) from error
    return Rulebook(parse_rulebook(text, path))


def parse_rulebook(text: str, file: str | Path) -> RulebookTable:
    """Read a rulebook's TOML text; ``file`` is for messages.

    Raises:
        ConfigError: the text is no TOML or breaks the table's schema.
    """
    try:
        return RulebookTable.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, "", str(error), "write TOML") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(file, key, first.get("input"), first["msg"]) from error


def _in_force(entries: Iterable[_E], board: Board, day: date) -> _E | None:
    past = [entry for entry in entries if entry.since <= day and board in entry.boards]
    return max(past, key=lambda entry: entry.since, default=None)


def _is_new(listing: Listing, days_listed: int | None) -> bool:
    return days_listed is not None and days_listed <= listing.first_days


def _limits(up_pct: Decimal | None, down_pct: Decimal | None) -> Limits | None:
    if up_pct is None or down_pct is None:
        return None
    return Limits(up_pct / 100, down_pct / 100)


def _exact(price: float) -> Decimal:
    return Decimal(repr(float(price)))


def _to_tick(price: Decimal, tick: Decimal) -> Decimal:
    return (price / tick).to_integral_value(ROUND_HALF_UP) * tick


def _amount(fee: Fee, notional: Decimal) -> Decimal:
    amount = max(notional * fee.rate_bps / 10_000, fee.minimum)
    return amount.quantize(_FEN, ROUND_HALF_UP)
