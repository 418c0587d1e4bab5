"""The rule in NautilusTrader: one engine for all symbols.

It fills a market order at once, at the book as it stands. So for bars the strategy decides at a
bar's close and sends its order at the next open, which comes as a trade tick of its own and is what
the book is then; and for ticks an order takes a nanosecond to the venue, where the next tick is the
book by then.
"""

import time
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
from bench.backtest_markets import DailyMarket, TickMarket
from bench.backtest_rules import FILLED, LENGTH, Filled, Played
from bench.bench_nautilus import build_objects, make_instrument
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import LatencyModel
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.indicators import DonchianChannel
from nautilus_trader.model.currencies import CNY, USD
from nautilus_trader.model.data import Bar, BarType, TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

IMPORTS: Final = "nautilus_trader.backtest.engine"
_CASH: Final = 1_000_000_000
_BUY: Final = OrderSide.BUY
_SELL: Final = OrderSide.SELL


class Loaded(NamedTuple):
    """What one run needs.

    Attributes:
        instruments: The peer's definitions, by instrument.
        objects: Bars and ticks in order of time.
        currency: Of the account.
        latency_ns: Of an order; 0: none.
    """

    instruments: list[Any]
    objects: list[Any]
    currency: Any
    latency_ns: int


class Watched:
    """One instrument as the strategy sees it."""

    __slots__ = ("channel", "held", "instrument_id", "waiting")

    def __init__(self, instrument_id: Any) -> None:
        self.instrument_id = instrument_id
        self.channel = DonchianChannel(LENGTH)
        self.held = False
        self.waiting: Any = None


class Breakout(Strategy):  # type: ignore[misc] # untyped base
    """The rule, on bars or on quotes."""

    def __init__(self, instruments: list[Any], shares: float, *, on_bars: bool) -> None:
        super().__init__()
        self.watched = {one.id: Watched(one.id) for one in instruments}
        self.on_bars = on_bars
        self.quantity = Quantity.from_int(int(shares))
        self.only = self.watched[instruments[0].id]

    def on_start(self) -> None:
        """Ask for data."""
        for identity in self.watched:
            if self.on_bars:
                self.subscribe_bars(bar_type_of(identity))
            else:
                self.subscribe_quote_ticks(identity)
            self.subscribe_trade_ticks(identity)

    def on_bar(self, bar: Any) -> None:
        """Decide; the order waits for the next open."""
        one = self.watched[bar.bar_type.instrument_id]
        channel = one.channel
        if channel.initialized:
            close = bar.close.as_double()
            if not one.held:
                if close > channel.upper:
                    one.waiting = _BUY
            elif close < channel.lower:
                one.waiting = _SELL
        channel.update_raw(bar.high.as_double(), bar.low.as_double())

    def on_trade_tick(self, tick: Any) -> None:
        """Send what waits for an open."""
        if self.on_bars:
            one = self.watched[tick.instrument_id]
            if one.waiting is not None:
                self.order(one, one.waiting)
                one.waiting = None

    def on_quote_tick(self, tick: Any) -> None:
        """Decide, and send at once."""
        one = self.only
        channel = one.channel
        mid = (tick.bid_price.as_double() + tick.ask_price.as_double()) * 0.5
        if channel.initialized:
            if not one.held:
                if mid > channel.upper:
                    self.order(one, _BUY)
            elif mid < channel.lower:
                self.order(one, _SELL)
        channel.update_raw(mid, mid)

    def order(self, one: Watched, side: Any) -> None:
        """Send a market order."""
        one.held = side == _BUY
        self.submit_order(self.order_factory.market(one.instrument_id, side, self.quantity))


def bar_type_of(identity: Any) -> Any:
    """Return the peer's name of an instrument's daily bars."""
    return BarType.from_str(f"{identity}-1-DAY-LAST-EXTERNAL")


def _share(symbol: str, commission: float) -> Any:
    fee = Decimal(repr(commission))
    return Equity(
        instrument_id=InstrumentId(Symbol(symbol.replace(".", "-")), Venue("CN")),
        raw_symbol=Symbol(symbol.replace(".", "-")),
        currency=CNY,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
        maker_fee=fee,
        taker_fee=fee,
    )


def prepare_daily(market: DailyMarket, commission: float) -> Loaded:
    """Make a bar at every close, and a trade tick of the same volume at every open."""
    instruments = [_share(symbol, commission) for symbol in market.symbols]
    types = [bar_type_of(one.id) for one in instruments]
    columns = ("instrument", "ts_open", "ts_event", "open", "high", "low", "close", "volume")
    objects: list[Any] = []
    trade = TradeId("open")
    for number, opened, closed, *prices, volume in market.bars[list(columns)].tolist():
        size = Quantity(volume, 0)
        made = [Price(price, 2) for price in prices]
        name = instruments[number].id
        nobody = AggressorSide.NO_AGGRESSOR
        objects.append(TradeTick(name, made[0], size, nobody, trade, opened, opened))
        objects.append(Bar(types[number], *made, size, closed, closed))
    objects.sort(key=lambda one: one.ts_init)
    return Loaded(instruments, objects, CNY, 0)


def prepare_ticks(market: TickMarket, commission: float) -> Loaded:
    """Make quotes and trades; those of one millisecond are a nanosecond apart."""
    ticks = market.ticks.copy()
    ticks["ts_event"] = ticks["ts_recv"] = market.ordered
    like = make_instrument()
    fee = Decimal(repr(commission))
    share = Equity.from_dict({**Equity.to_dict(like), "maker_fee": str(fee), "taker_fee": str(fee)})
    return Loaded([share], build_objects(ticks, share), USD, 1)


def run(loaded: Loaded, shares: float, times: Any) -> Played:
    """Run the engine.

    Args:
        loaded: What to trade.
        shares: Of every trade.
        times: Unique times of rows, ns, to find fills' rows by; None: rows are not told.
    """
    engine = BacktestEngine(
        BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True),
            risk_engine=RiskEngineConfig(bypass=True),
            run_analysis=False,
            trader_id="BENCH-001",
        )
    )
    first = loaded.instruments[0]
    latency = LatencyModel(base_latency_nanos=loaded.latency_ns) if loaded.latency_ns else None
    engine.add_venue(
        first.id.venue,
        OmsType.NETTING,
        AccountType.CASH,
        [Money(_CASH, loaded.currency)],
        loaded.currency,
        latency_model=latency,
        bar_execution=False,
        trade_execution=loaded.latency_ns == 0,
    )
    for instrument in loaded.instruments:
        engine.add_instrument(instrument)
    engine.add_data(loaded.objects, validate=False, sort=False)
    engine.add_strategy(Breakout(loaded.instruments, shares, on_bars=loaded.latency_ns == 0))
    began = time.perf_counter()
    engine.run()
    seconds = time.perf_counter() - began
    numbers = {one.id: number for number, one in enumerate(loaded.instruments)}
    filled = _fills(engine, numbers, times)
    engine.dispose()
    return Played(seconds, filled)


def _fills(engine: Any, numbers: dict[Any, int], times: Any) -> Filled:
    rows = []
    for order in engine.cache.orders():
        side = 1 if order.side == _BUY else -1
        for event in order.events:
            if type(event).__name__ == "OrderFilled":
                price, paid = event.last_px.as_double(), event.commission.as_double()
                number = numbers[order.instrument_id]
                rows.append((number, event.ts_event, -1, side, price, paid))
    filled = np.array(rows, FILLED)
    filled = filled[np.lexsort((filled["ts"], filled["instrument"]))]
    if times is not None:
        filled["row"] = np.searchsorted(times, filled["ts"])
    return filled
