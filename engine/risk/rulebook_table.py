"""The schema of a rulebook file: what each kind of entry may say."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.core.settings import Settings
from engine.risk.boards import BoardName

Percent = Annotated[Decimal, Field(gt=0, le=1000)]
DownPercent = Annotated[Decimal, Field(gt=0, lt=100)]


class RuleEntry(Settings):
    """What holds on some boards from a day on, until a later entry for the same board."""

    boards: Annotated[tuple[BoardName, ...], Field(min_length=1)]
    since: date


class PriceLimit(RuleEntry):
    """How far a price may go from the previous close, in percent of it."""

    up_pct: Percent
    down_pct: DownPercent


class Listing(RuleEntry):
    """Price limits of a stock's first days; without percentages there are none."""

    first_days: Annotated[int, Field(ge=1)]
    up_pct: Percent | None = None
    down_pct: DownPercent | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "Listing":
        if (self.up_pct is None) != (self.down_pct is None):
            raise ValueError("give both up_pct and down_pct, or neither")
        return self


class Lot(RuleEntry):
    """Order sizes: at least ``minimum``, then in steps of ``step``."""

    minimum: Annotated[Decimal, Field(gt=0)]
    step: Annotated[Decimal, Field(gt=0)]


class Settlement(RuleEntry):
    """When what was bought may be sold again."""

    days: Annotated[int, Field(ge=0, le=1)]
    """0: at once; 1: from the next trading day on."""
    short: bool
    """Whether what is not held may be sold."""


class Fee(RuleEntry):
    """A fee or tax on the value of a trade."""

    name: str
    side: Literal["buy", "sell", "both"]
    rate_bps: Annotated[Decimal, Field(ge=0)]
    minimum: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    """Least amount a trade, in the rulebook's currency."""


class ClosingAuction(RuleEntry):
    """How long before the close continuous trading ends."""

    venues: tuple[str, ...] = ()
    """The venues after the dot of ``SYMBOL.VENUE`` to which it applies; empty: all."""
    length_s: Annotated[int, Field(ge=0, le=3600)]


class RulebookTable(Settings):
    """A whole rulebook file."""

    market: str
    currency: str
    price_limit: tuple[PriceLimit, ...] = ()
    listing: tuple[Listing, ...] = ()
    lot: tuple[Lot, ...] = ()
    settlement: tuple[Settlement, ...] = ()
    fee: tuple[Fee, ...] = ()
    closing_auction: tuple[ClosingAuction, ...] = ()

    @model_validator(mode="after")
    def _no_two_for_one_day(self) -> "RulebookTable":
        for kind in ("price_limit", "listing", "lot", "settlement", "fee", "closing_auction"):
            seen = set()
            for entry in getattr(self, kind):
                about = getattr(entry, "name", ""), getattr(entry, "venues", ())
                for board in entry.boards:
                    key = (board, entry.since, about)
                    if key in seen:
                        raise ValueError(f"two {kind} entries for {board.name} on {entry.since}")
                    seen.add(key)
        return self
