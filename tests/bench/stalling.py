"""A Python strategy in a file of its own that signals on every trade, and holds the loop."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from strategies.python_strategy import Strategy, TradeTick


class Stalling(Strategy):
    """Buys and sells in turn; on trade number ``stall_at`` it sleeps for ``stall_ms``.

    Each trade keeps it busy for ``busy_us``.
    """

    name: ClassVar[str] = "Stalling"
    wants_trades: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "stall_at": 1_000_000_000,
        "stall_ms": 0,
        "busy_us": 0,
    }

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._seen = 0

    def on_trade_tick(self, tick: TradeTick) -> None:
        """Propose; stand still first, if it is the one."""
        self._seen += 1
        free_ns = time.perf_counter_ns() + self.params["busy_us"] * 1_000
        while time.perf_counter_ns() < free_ns:
            pass
        if self._seen == self.params["stall_at"]:
            time.sleep(self.params["stall_ms"] / 1e3)
        propose = self.buy if self._seen % 2 else self.sell
        propose(tick.instrument, 1.0, 1.0)
