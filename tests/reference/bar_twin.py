"""Samples and bars written the plain way: dictionaries and lists, every bar kept as its samples."""

import math
from dataclasses import dataclass, field
from typing import Any

DAY_NS = 86_400 * 10**9
NAN = math.nan
Sample = dict[str, Any]


@dataclass
class MarketTwin:
    """What is known of one instrument; ``take`` gives the sample of a tick, None without price."""

    offset_ns: int = 0
    pre_close: float = NAN
    book: dict[str, float] = field(
        default_factory=lambda: {"bid": NAN, "ask": NAN, "bid_size": 0.0, "ask_size": 0.0}
    )
    trade_prices: list[float] = field(default_factory=list)
    trade_sides: list[int] = field(default_factory=list)
    day: int | None = None
    day_turnover: float = 0.0

    def take(self, tick: dict[str, Any]) -> Sample | None:
        """Take a trade, quote or snapshot, as a dictionary of TICK's fields."""
        day = (tick["ts_event"] + self.offset_ns) // DAY_NS
        if self.day is None or day > self.day:
            self.day, self.day_turnover = day, 0.0
        sample: Sample = {
            "ts": tick["ts_event"], "recv": tick["ts_recv"], "volume": 0.0, "turnover": 0.0,
            "bought": 0.0, "sold": 0.0, "trades": 0, "ofi": 0.0, "day": self.day,
        }  # fmt: skip
        price = NAN
        if tick["kind"] in (1, 3) and tick["price"] > 0.0:
            price = tick["price"]
            self._trade(tick, sample)
        if tick["kind"] in (2, 3):
            self._quote(tick, sample)
        sample |= self.book
        if math.isnan(price):
            price = (self.book["bid"] + self.book["ask"]) / 2
        sample["price"] = price
        return None if math.isnan(price) else sample

    def _trade(self, tick: dict[str, Any], sample: Sample) -> None:
        side = tick["side"] or self.lee_ready(tick["price"])
        turnover = tick["turnover"] or tick["price"] * tick["size"]
        sample["volume"], sample["turnover"] = tick["size"], turnover
        sample["bought"] = tick["size"] if side == 1 else 0.0
        sample["sold"] = tick["size"] if side == -1 else 0.0
        sample["trades"] = int(tick["kind"] == 1 or tick["size"] > 0)
        self.day_turnover += turnover
        self.trade_prices.append(tick["price"])
        self.trade_sides.append(side)

    def lee_ready(self, price: float) -> int:
        """Return the side of an unmarked trade at a price, now."""
        if not math.isnan(self.book["bid"]) and not math.isnan(self.book["ask"]):
            middle = (self.book["bid"] + self.book["ask"]) / 2
            if price != middle:
                return 1 if price > middle else -1
        if self.trade_prices and price != self.trade_prices[-1]:
            return 1 if price > self.trade_prices[-1] else -1
        return self.trade_sides[-1] if self.trade_sides else 0

    def _quote(self, tick: dict[str, Any], sample: Sample) -> None:
        new = {name: tick[name] for name in self.book}
        prices = [self.book["bid"], self.book["ask"], new["bid"], new["ask"]]
        if not any(map(math.isnan, prices)):
            sample["ofi"] = order_flow(self.book, new)
        self.book = new


def order_flow(old: dict[str, float], new: dict[str, float]) -> float:
    """Return demand's change less supply's, of Cont, Kukanov and Stoikov (2014)."""
    if new["bid"] > old["bid"]:
        demand = new["bid_size"]
    elif new["bid"] < old["bid"]:
        demand = -old["bid_size"]
    else:
        demand = new["bid_size"] - old["bid_size"]
    if new["ask"] < old["ask"]:
        supply = new["ask_size"]
    elif new["ask"] > old["ask"]:
        supply = -old["ask_size"]
    else:
        supply = new["ask_size"] - old["ask_size"]
    return demand - supply


@dataclass
class BarTwin:
    """One bar specification of one instrument; finished bars are in ``done``."""

    kind: str
    measure: float
    market: MarketTwin
    basis: str = "auto"
    inside: list[tuple[Sample, float]] = field(default_factory=list)
    flows: list[float] = field(default_factory=list)
    interval: int | None = None
    last_closed: int | None = None
    done: list[dict[str, Any]] = field(default_factory=list)

    def time_is(self, ts: int, recv: int) -> None:
        """Close a time bar whose interval has ended."""
        if self.kind == "time" and self.inside and self.interval is not None:
            end = (self.interval + 1) * int(self.measure) - self.market.offset_ns
            if ts >= end:
                self._close(recv, end)
                self.last_closed = self.interval

    def add(self, sample: Sample) -> None:
        """Add a sample; close a bar that it fills."""
        if self.kind == "time" and not self.inside:
            self._choose_interval(sample["ts"])
        self.flows.append(sample["ofi"])
        price = self._price(sample)
        if math.isnan(price):
            return
        self.inside.append((sample, price))
        gathered = {
            "time": -math.inf,
            "tick": float(len(self.inside)),
            "volume": sum(s["volume"] for s, _ in self.inside),
            "turnover": sum(s["turnover"] for s, _ in self.inside),
        }
        if gathered[self.kind] >= self.measure:
            self._close(sample["recv"], sample["ts"])

    def _choose_interval(self, ts: int) -> None:
        interval = (ts + self.market.offset_ns) // int(self.measure)
        if self.last_closed is not None:
            interval = max(interval, self.last_closed + 1)
        if self.interval is None or interval > self.interval:
            self.interval, self.flows = interval, []

    def _price(self, sample: Sample) -> float:
        traded = sample["trades"] > 0 or sample["volume"] > 0
        if self.basis == "mid":
            return float((sample["bid"] + sample["ask"]) / 2)
        if traded or (self.basis == "auto" and not self.market.trade_prices):
            return float(sample["price"])
        return NAN

    def _close(self, recv: int, ts: int) -> None:
        prices = [price for _, price in self.inside]
        samples = [sample for sample, _ in self.inside]
        start = samples[0]["ts"]
        if self.kind == "time" and self.interval is not None:
            start = self.interval * int(self.measure) - self.market.offset_ns
        self.done.append(
            {
                "ts_open": start, "ts_event": ts, "ts_recv": recv,
                "open": prices[0], "high": max(prices), "low": min(prices), "close": prices[-1],
                "volume": sum(s["volume"] for s in samples),
                "turnover": sum(s["turnover"] for s in samples),
                "buy_volume": sum(s["bought"] for s in samples),
                "sell_volume": sum(s["sold"] for s in samples),
                "trades": sum(s["trades"] for s in samples),
                "count": len(samples), "session": samples[0]["day"],
                "ofi": sum(self.flows), **self.market.book, "pre_close": self.market.pre_close,
            }
        )  # fmt: skip
        self.inside, self.flows = [], []
