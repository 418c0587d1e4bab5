"""Settings of backtests, ``[backtest]``: how orders follow signals, what fills them, what it costs.

Money is in the instruments' currency, which is taken to be one and the same for all of them.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from engine.core.settings import DurationNs, Settings

Span = Annotated[DurationNs, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Money = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]

_DAY_NS: Final = 86_400 * 10**9


class SizingConfig(Settings):
    """How much an entry buys, or sells short, rounded down to whole lots."""

    by: Literal["cash", "shares", "equity"] = "cash"
    """``cash``: for so much money; ``shares``: so many units; ``equity``: for that part of the
    account's equity at the time."""
    amount: Money = 100_000.0


class SlippageConfig(Settings):
    """What is lost against the price the market showed, on every fill."""

    model: Literal["none", "ticks", "bps", "spread", "impact"] = "none"
    """``ticks``: price steps; ``bps``: basis points; ``spread``: a part of the spread at the time,
    of ``spread_bps`` where no book is known; ``impact``: ``amount`` times the daily volatility
    times the square root of the order's part of a day's volume (the square-root law)."""
    amount: Amount = 0.0
    spread_bps: Amount = 10.0
    """The spread taken for markets whose book is not in the data."""
    volatility: Amount = 0.0
    """Of a day, as a fraction, for ``impact``; 0: measured from the data's finished days."""
    volume: Amount = 0.0
    """Of a day, in units, for ``impact``; 0: measured."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.model == "none" and self.amount:
            raise ValueError("`amount` goes with a `model` other than none")
        if self.model != "none" and not self.amount:
            raise ValueError(f"the model {self.model} takes an `amount` above 0")
        if self.model != "impact" and (self.volatility or self.volume):
            raise ValueError("`volatility` and `volume` go with the model impact")
        return self


class BacktestConfig(Settings):
    """How a backtest trades what the pipeline signals."""

    cash: Money = 1_000_000.0
    """What the account begins with."""
    latency: Span = 0
    """From a signal until its order meets the market's prices as they were recorded."""
    fill: Literal["open", "close", "vwap"] = "open"
    """The price of the next bar that fills an order; ticks fill at the next tick."""
    open_grace: Span = 10**9
    """An order that comes so long after a bar's open still gets that bar."""
    direction: Literal["long", "long_short"] = "long"
    """``long``: a SELL ends what a BUY began; ``long_short``: it also begins a short position,
    where the market lets it."""
    leverage: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    """Most value of all positions, as a multiple of the equity; 1: nothing is borrowed."""
    max_positions: Annotated[int, Field(ge=0)] = 0
    """Most positions at a time; 0: any number."""
    max_hold: Span = 0
    """A position is ended after so long; 0: by signals alone."""
    entry_life: Literal["day", "gtc"] = "day"
    """``day``: an entry that its first trading day did not fill is given up; ``gtc``: it waits."""
    exit_life: Literal["day", "gtc"] = "gtc"
    order_life: Annotated[DurationNs, Field(gt=0)] = 30 * _DAY_NS
    """Longest wait of any order."""
    participation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Most of a bar's volume, or of the size a tick shows, that one fill takes; 0: any."""
    ex_right: Literal["shares", "cash", "off"] = "shares"
    """What a position gets on an ex-right day: shares at the ratio of the last close to the
    reference price and the fraction in cash; all of it in cash; or nothing."""
    sessions: Literal["continuous", "whole", "off"] = "whole"
    """When ticks not of an auction fill: in continuous trading, in the whole session, or always."""
    auctions: bool = False
    """Whether orders that rest fill at prints marked as of an auction, before the open and at the
    close too, whatever ``sessions`` says; else nothing so marked fills."""
    price_limits: bool = True
    require_reference: bool = True
    """No fill where the board has price limits and the day's reference price is unknown."""
    settlement: bool = True
    """Hold to T+1, and to the ban on short sales, where the rulebook has them."""
    lots: bool = True
    fees: bool = True
    commission_bps: Amount | None = None
    """The broker's commission on every board, instead of the rulebook's or ``risk.cost.fees``."""
    commission_minimum: Amount = 0.0
    """Least commission of a fill; with ``commission_bps``."""
    sizing: SizingConfig = SizingConfig()
    slippage: SlippageConfig = SlippageConfig()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.sizing.by == "cash" and self.sizing.amount > self.cash * self.leverage:
            raise ValueError(
                f"sizing.amount {self.sizing.amount:g} is more than cash times leverage, "
                f"{self.cash * self.leverage:g}: nothing could be bought"
            )
        if self.sizing.by == "equity" and self.sizing.amount > self.leverage:
            raise ValueError(
                f"sizing.amount {self.sizing.amount:g} is a part of the equity and at most "
                f"leverage, {self.leverage:g}"
            )
        if self.commission_minimum and self.commission_bps is None:
            raise ValueError("`commission_minimum` goes with `commission_bps`")
        if not self.fees and self.commission_bps is not None:
            raise ValueError("`commission_bps` contradicts fees = false")
        return self
