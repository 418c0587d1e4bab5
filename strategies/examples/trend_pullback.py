"""A plain Python strategy: buy the end of a dip in a rising market, sell the mirror image."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from engine.core.signals import Signal
from strategies.python_strategy import Bar, DataGap, QuoteTick, Strategy, TradeTick
from strategies.spec import Use

_log: Final = logging.getLogger(__name__)


class TrendPullback(Strategy):
    """Waits for RSI to come back from an extreme while the close is on the trend's side.

    A buy needs the close above its average and RSI back above ``oversold``; a sell the close below
    it and RSI back below ``overbought``. Strength: how far beyond the bound RSI was a bar ago, as a
    share of the furthest it can be. Confidence: 0.5, and 0.75 where the largest trade since the
    last bar was on the same side. It keeps still while the spread is wide, and for some bars after
    another strategy's signal on the instrument.
    """

    name = "trend_pullback"
    version = "1"
    defaults: ClassVar[Mapping[str, Any]] = {
        "trend_length": 50,
        "rsi_length": 14,
        "oversold": 35.0,
        "overbought": 65.0,
        "max_spread_bps": 10.0,
        "quiet_bars": 3,
    }
    wants_trades = True
    wants_quotes = True

    def indicators(self) -> Mapping[str, Use]:
        """Ask for the trend's average and RSI with every bar."""
        return {
            "trend": Use("ema", {"length": self.params["trend_length"]}),
            "rsi": Use("rsi", {"length": self.params["rsi_length"]}),
        }

    def on_start(self) -> None:
        """Begin with nothing known of any instrument."""
        self.rsi: dict[str, float] = {}
        self.spread_bps: dict[str, float] = {}
        self.largest: dict[str, TradeTick] = {}
        self.quiet: dict[str, int] = {}
        self.proposed = 0

    def on_trade_tick(self, tick: TradeTick) -> None:
        """Remember the largest trade since the last bar."""
        known = self.largest.get(tick.instrument)
        if known is None or tick.size > known.size:
            self.largest[tick.instrument] = tick

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Remember the spread; NaN while one side of the book is missing."""
        self.spread_bps[tick.instrument] = (tick.ask - tick.bid) / tick.mid * 1e4

    def on_gap(self, gap: DataGap) -> None:
        """Forget what was seen before data went missing."""
        self.rsi.clear()
        self.spread_bps.clear()
        self.largest.clear()

    def on_signal(self, signal: Signal) -> None:
        """Keep still after another strategy's signal."""
        self.quiet[signal.instrument] = self.params["quiet_bars"]

    def on_bar(self, bar: Bar) -> None:
        """Decide at every close."""
        largest = self.largest.pop(bar.instrument, None)
        trend, rsi = bar.indicators.get("trend"), bar.indicators.get("rsi")
        if trend is None or rsi is None:
            self.rsi.pop(bar.instrument, None)
            return
        before, self.rsi[bar.instrument] = self.rsi.get(bar.instrument), rsi
        quiet = self.quiet.get(bar.instrument, 0)
        self.quiet[bar.instrument] = max(0, quiet - 1)
        if before is None or quiet > 0 or not self._is_tight(bar.instrument):
            return
        low, high = self.params["oversold"], self.params["overbought"]
        if before < low <= rsi and bar.close > trend:
            self._propose_side(bar, 1, (low - before) / low, largest)
        elif before > high >= rsi and bar.close < trend:
            self._propose_side(bar, -1, (before - high) / (100.0 - high), largest)

    def on_stop(self) -> None:
        """Say how much it had to say."""
        _log.info("%s proposed %d times", self.name, self.proposed)

    def _is_tight(self, instrument: str) -> bool:
        """Say whether the spread is known and narrow; where there are no quotes it is not asked."""
        spread_bps = self.spread_bps.get(instrument, 0.0)
        return bool(spread_bps <= self.params["max_spread_bps"])

    def _propose_side(
        self, bar: Bar, side: int, strength: float, largest: TradeTick | None
    ) -> None:
        agrees = largest is not None and largest.side == side
        propose = self.buy if side > 0 else self.sell
        propose(bar.instrument, strength, 0.75 if agrees else 0.5)
        self.proposed += 1
