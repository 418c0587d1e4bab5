"""An order book as two dicts: obviously right, and slow."""

import math
from collections.abc import Iterable
from typing import NamedTuple

Level = tuple[float, float]


class TwinTop(NamedTuple):
    bids: list[Level]
    asks: list[Level]


class BookTwin:
    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                side[price] = size
                if size == 0:
                    del side[price]

    def reset(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        self.bids.clear()
        self.asks.clear()
        self.apply(bids, asks)

    def cut_bids(self, price: float) -> None:
        self.bids = {p: s for p, s in self.bids.items() if p < price and math.isfinite(price)}

    def cut_asks(self, price: float) -> None:
        self.asks = {p: s for p, s in self.asks.items() if p > price and math.isfinite(price)}

    def top(self, depth: int) -> TwinTop:
        bids = sorted(self.bids.items(), reverse=True)
        return TwinTop(bids[:depth], sorted(self.asks.items())[:depth])

    def best(self) -> tuple[float | None, float | None, float, float]:
        bids, asks = self.top(1)
        bid, bid_size = bids[0] if bids else (None, 0.0)
        ask, ask_size = asks[0] if asks else (None, 0.0)
        return bid, ask, bid_size, ask_size
