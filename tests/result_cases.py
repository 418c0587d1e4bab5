"""Results of backtests, made up: accounts of given equities, trades of given outcomes."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from replay.backtest.records import EQUITY, FILL, TRADE, BacktestResult

DAY_NS = 86_400 * 10**9
FIRST = date(2021, 11, 29)
CASH = 1_000_000.0
CLOSE_NS = 7 * 3600 * 10**9
"""15:00 in Beijing, in UTC."""


def weekdays(count: int, first: date = FIRST) -> list[date]:
    """Return so many weekdays in a row."""
    days: list[date] = []
    while len(days) < count:
        if first.weekday() < 5:
            days.append(first)
        first += timedelta(days=1)
    return days


def midnight_ns(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_NS


def equity_rows(
    equities: Sequence[float], exposures: Sequence[float] = (), traded: float = 0.0
) -> npt.NDArray[np.void]:
    """Make a row a weekday; what is traded is bought and sold alike."""
    rows = np.zeros(len(equities), EQUITY)
    days = weekdays(len(equities))
    rows["ts"] = [midnight_ns(day) + CLOSE_NS for day in days]
    rows["day"] = [int(day.strftime("%Y%m%d")) for day in days]
    rows["equity"] = equities
    rows["exposure"] = exposures if len(exposures) else 0.0
    rows["positions"] = rows["exposure"] > 0.0
    rows["cash"] = rows["equity"] - rows["exposure"]
    rows["bought"] = rows["sold"] = traded
    return rows


def trade_rows(
    pnls: Sequence[float], put_in: float = 10_000.0, entry: int = 0, hold: int = 1
) -> npt.NDArray[np.void]:
    """Make round trips of 100 shares, a weekday between their entries, of so many days each."""
    rows = np.zeros(len(pnls), TRADE)
    days = weekdays(entry + len(pnls) + hold)
    rows["ts_entry"] = [midnight_ns(days[entry + i]) + CLOSE_NS for i in range(len(pnls))]
    rows["ts_exit"] = [midnight_ns(days[entry + i + hold]) + CLOSE_NS for i in range(len(pnls))]
    rows["side"], rows["quantity"] = 1, 100.0
    rows["price_entry"] = put_in / 100.0
    rows["price_exit"] = rows["price_entry"] + np.asarray(pnls) / 100.0
    rows["pnl"] = pnls
    rows["return"] = rows["pnl"] / put_in
    rows["drawdown"] = np.maximum(-rows["return"], 0.0)
    return rows


def fill_rows(trades: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Make two fills a trade, its entry and its exit."""
    rows = np.zeros(2 * len(trades), FILL)
    for at, (name, sign) in enumerate((("entry", 1), ("exit", -1))):
        half = rows[at::2]
        half["ts"], half["price"] = trades[f"ts_{name}"], trades[f"price_{name}"]
        half["side"] = sign * trades["side"]
        half["trade"] = np.arange(len(trades))
        half["quantity"], half["instrument"] = trades["quantity"], trades["instrument"]
        half["strategy"] = trades["strategy"]
        half["ts_signal"] = half["ts"] - 60 * 10**9
        half["commission"] = 5.0
    rows.sort(order=["ts", "trade"])
    return rows


def a_result(
    equities: Sequence[float],
    trades: npt.NDArray[np.void] | None = None,
    exposures: Sequence[float] = (),
    traded: float = 0.0,
    symbols: tuple[str, ...] = ("600000.XSHG", "000001.XSHE"),
) -> BacktestResult:
    """Make the result of an account that began with CASH and had these equities at days' ends."""
    trades = trade_rows([]) if trades is None else trades
    return BacktestResult(
        cash=CASH,
        fills=fill_rows(trades),
        trades=trades,
        equity=equity_rows(equities, exposures, traded),
        symbols=symbols,
        strategies=("macd", "donchian"),
        records=1000,
        signals=2 * len(trades),
        unfilled={"LIMIT_UP": 2},
        refusals={"DATA_NOT_READY": 7},
        wall_s=0.01,
    )


def a_walk(days: int, seed: int = 1, drift: float = 0.0005, spread: float = 0.01) -> list[float]:
    """Make equities that go up and down at random."""
    returns = np.random.default_rng(seed).normal(drift, spread, days)
    walked: list[float] = (CASH * np.cumprod(1.0 + returns)).tolist()
    return walked
