"""What a backtest leaves: fills, round trips and the account's days, as tables.

Prices and money are float64 in the instruments' currency, quantities in their unit of trading
(shares), times int64 nanoseconds since the epoch (UTC).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import CheckFailedError

FILL: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("ts_signal", "<i8"),
        ("instrument", "<u4"),
        ("strategy", "<u4"),
        ("side", "<i4"),
        ("trade", "<i4"),
        ("quantity", "<f8"),
        ("price", "<f8"),
        ("slippage", "<f8"),
        ("commission", "<f8"),
        ("tax", "<f8"),
        ("transfer_fee", "<f8"),
    ],
    align=True,
)
"""One execution. ``side``: 1 bought, -1 sold. ``trade``: row of the round trip it belongs to.
``slippage``: money lost against the price the market showed, already in ``price``."""

TRADE: Final = np.dtype(
    [
        ("ts_entry", "<i8"),
        ("ts_exit", "<i8"),
        ("instrument", "<u4"),
        ("strategy", "<u4"),
        ("side", "<i4"),
        ("open", "<i4"),
        ("quantity", "<f8"),
        ("price_entry", "<f8"),
        ("price_exit", "<f8"),
        ("cost", "<f8"),
        ("pnl", "<f8"),
        ("return", "<f8"),
        ("drawdown", "<f8"),
        ("adjusted", "<f8"),
    ],
    align=True,
)
"""One round trip, from flat to flat. ``open``: 1 if it was still open at the end and is valued at
the last price. ``cost``: all fees and taxes. ``pnl``: money, after costs. ``return``: pnl over the
money put in. ``drawdown``: the deepest fall of its value from its highest, as a share of that.
``adjusted``: money received on ex-right days, in ``pnl``."""

EQUITY: Final = np.dtype(
    [
        ("ts", "<i8"),
        ("day", "<i4"),
        ("positions", "<i4"),
        ("equity", "<f8"),
        ("cash", "<f8"),
        ("exposure", "<f8"),
        ("bought", "<f8"),
        ("sold", "<f8"),
        ("cost", "<f8"),
        ("value", "<f8"),
        ("adjusted", "<f8"),
    ],
    align=True,
)
"""The account at the end of one trading day. ``day``: yyyymmdd of the market's calendar.
``exposure``: value of all positions, absolute; ``value``: signed, so that it and the cash are the
equity. ``bought``, ``sold``, ``cost`` and ``adjusted``, money of ex-right days: of that day."""


@dataclass(frozen=True)
class BacktestResult:
    """What came of one backtest.

    Attributes:
        cash: What the account began with.
        fills: FILL, shape (F,), in order of time.
        trades: TRADE, shape (T,), in order of entry.
        equity: EQUITY, shape (D,), a row a trading day.
        symbols: Instruments by id.
        strategies: Names by number.
        records: Market records played.
        signals: Signals made.
        unfilled: Orders that were not filled, by reason.
        refusals: Candidates the risk gate refused, by reason.
        wall_s: Time taken, without preparation.
        filled: Signals whose order was filled, wholly or in part.
        notes: What else was counted: ex-right days, days without a reference, own orders.
        bad_input: What was refused in the logs, by reason.
    """

    cash: float
    fills: npt.NDArray[np.void]
    trades: npt.NDArray[np.void]
    equity: npt.NDArray[np.void]
    symbols: tuple[str, ...]
    strategies: tuple[str, ...]
    records: int
    signals: int
    unfilled: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    filled: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    bad_input: dict[str, int] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what does not add up, a line each: money, round trips, signals."""
        days, trades, fills = self.equity, self.trades, self.fills
        fees = sum(float(fills[name].sum()) for name in ("commission", "tax", "transfer_fee"))
        flows = float((days["sold"] - days["bought"] - days["cost"] + days["adjusted"]).sum())
        last = days[-1] if len(days) else np.zeros(1, EQUITY)[0]
        ended = self.cash if not len(days) else float(last["equity"])
        scale = max(self.cash, float(days["bought"].sum() + days["sold"].sum()))
        money = {
            "cash and positions are not the equity": days["equity"] - days["cash"] - days["value"],
            "what was bought and sold does not lead to the last day's cash": (
                float(last["cash"]) - self.cash - flows if len(days) else 0.0
            ),
            "the trades' profits are not the equity's change": (
                float(trades["pnl"].sum()) - (ended - self.cash)
            ),
            "the fills' fees are not the days'": fees - float(days["cost"].sum()),
            "the trades' costs are not the fills' fees": float(trades["cost"].sum()) - fees,
        }
        found = [name for name, off in money.items() if np.any(np.abs(off) > 1e-9 * scale)]
        counts = {
            "signals are not those filled and those not": (
                self.signals - self.filled - sum(self.unfilled.values())
            ),
            "open trades are not the last day's positions": (
                int(trades["open"].sum()) - int(last["positions"])
            ),
            "trades without a fill": len(trades) - len(np.unique(fills["trade"])),
            "days out of order": int(np.count_nonzero(np.diff(days["day"]) <= 0)),
        }
        return found + [name for name, off in counts.items() if off]

    def check(self) -> None:
        """Make sure that everything adds up.

        Raises:
            CheckFailedError: it does not; says what.
        """
        if found := self.problems():
            raise CheckFailedError("the backtest does not add up: " + "; ".join(found))
