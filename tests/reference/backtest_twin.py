"""A Donchian breakout on daily A-share bars, traded by the rules, in NumPy over all symbols.

Written from the rules and not from the engine: one table of days by symbols, one step a day.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """Daily bars, each shape (days, symbols), NaN where a symbol did not trade."""

    days: npt.NDArray[np.int64]
    symbols: list[str]
    open: Matrix
    high: Matrix
    low: Matrix
    close: Matrix
    pre_close: Matrix


@dataclass
class Book:
    """What the twin traded.

    ``trades``: symbol, entry day, exit day (0: open), quantity bought, price in, price out, profit.
    """

    trades: list[tuple[str, int, int, float, float, float, float]] = field(default_factory=list)
    fills: int = 0
    signals: int = 0
    missed: dict[str, int] = field(default_factory=dict)
    equity: list[float] = field(default_factory=list)

    def miss(self, why: str, count: int) -> None:
        """Count what was not filled."""
        if count:
            self.missed[why] = self.missed.get(why, 0) + count


def read_market(path: Path) -> Market:
    """Read the daily bars of all symbols."""
    names = ["ts_code", "trade_date", "open", "high", "low", "close", "pre_close"]
    table = pq.read_table(path, columns=names)
    codes, column = np.unique(table["ts_code"].to_numpy().astype(str), return_inverse=True)
    days, row = np.unique(table["trade_date"].to_numpy(), return_inverse=True)
    made = []
    for name in names[2:]:
        matrix = np.full((len(days), len(codes)), np.nan)
        matrix[row, column] = table[name].to_numpy()
        made.append(matrix)
    venues = {"SH": "SSE", "SZ": "SZSE"}
    symbols = [f"{code[:6]}.{venues[code[7:]]}" for code in codes]
    return Market(days.astype(np.int64), symbols, *made)


def breakouts(market: Market, length: int) -> npt.NDArray[np.int64]:
    """Return the side of each day's breakout, 0 where there is none, shape (days, symbols).

    A close beyond the channel of the ``length`` bars before it; the next one that way only after
    a close back at the middle or a breakout the other way. Days without a bar are passed over.
    """
    traded = ~np.isnan(market.close)
    count = traded.sum(axis=0)
    order = np.argsort(~traded, axis=0, kind="stable")
    high, low, close = (
        np.take_along_axis(m, order, axis=0) for m in (market.high, market.low, market.close)
    )
    sides = np.zeros(market.close.shape, np.int64)
    side = np.zeros(market.close.shape[1], np.int64)
    for bar in range(length, len(close)):
        top = high[bar - length : bar].max(axis=0)
        bottom = low[bar - length : bar].min(axis=0)
        now = close[bar]
        there = bar < count
        inside = there & (bottom <= now) & (now <= top)
        back = inside & (side * (now - 0.5 * (top + bottom)) <= 0)
        side[back] = 0
        way = np.where(now > top, 1, np.where(now < bottom, -1, 0))
        fresh = there & ~inside & (way != side)
        side[fresh] = way[fresh]
        sides[order[bar][fresh], np.flatnonzero(fresh)] = way[fresh]
    return sides


def to_fen(values: Matrix) -> npt.NDArray[np.int64]:
    """Return yuan as whole fen."""
    return np.rint(np.nan_to_num(values) * 100).astype(np.int64)


def fees_fen(notional_fen: npt.NDArray[np.int64], *, sell: bool) -> npt.NDArray[np.int64]:
    """Return commission (2.5 bps, at least 5 yuan), transfer fee (0.2), stamp duty (10 on sales).

    The rates of 2019 and 2020; each is rounded half-up to the fen.
    """

    def at(rate_e7: int) -> npt.NDArray[np.int64]:
        return (notional_fen * rate_e7 * 2 + 10**7) // (2 * 10**7)

    total = np.maximum(at(2_500), 500) + at(200)
    return total + at(10_000) if sell else total


def trade_breakouts(market: Market, length: int, money: float, cash: float) -> Book:
    """Buy upward breakouts for so much money each at the next open, sell on downward ones."""
    sides = breakouts(market, length)
    book = Book(signals=int(np.count_nonzero(sides)))
    symbols = len(market.symbols)
    quantity = np.zeros(symbols, np.int64)
    last, flow = np.full(symbols, np.nan), np.zeros(symbols)
    entry = np.zeros((4, symbols))
    waiting, since = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    why = np.full(symbols, "NO_TRADING", dtype=object)
    for day in range(len(market.days)):
        opens, pre = market.open[day], market.pre_close[day]
        there = ~np.isnan(opens)
        stale = (waiting > 0) & (since < day - 1)
        for reason in why[stale]:
            book.miss(reason, 1)
        waiting[stale] = 0
        cash += _ex_right(there, quantity, last, pre, flow)
        up, down = _limits(pre)
        price, problem = _opening(market, day, waiting, up, down)
        why[(waiting != 0) & there] = problem[(waiting != 0) & there]
        fits = (waiting != 0) & there & (problem == "")
        for at, side in ((fits & (waiting < 0), -1), (fits & (waiting > 0), 1)):
            cash += _fill(book, market, day, at, side, price, money, quantity, entry, flow)
            waiting[at] = 0
        last[there] = market.close[day][there]
        book.equity.append(cash + float(np.nansum(quantity * last)))
        _order(book, sides[day], quantity, waiting, since, why, day)
    for reason in why[waiting != 0]:
        book.miss("OPEN_AT_END" if reason == "NO_TRADING" else reason, 1)
    for i in np.flatnonzero(quantity):
        _, bought, paid, day = entry[:, i]
        profit = flow[i] + quantity[i] * last[i]
        book.trades.append(
            (market.symbols[i], int(day), 0, bought, paid, float(last[i]), float(profit))
        )
    return book


def _ex_right(
    there: npt.NDArray[np.bool_],
    quantity: npt.NDArray[np.int64],
    last: Matrix,
    pre: Matrix,
    flow: Matrix,
) -> float:
    """Give holders shares at the ratio of the closes, and the fraction in cash; return the cash."""
    held = there & (quantity > 0) & (to_fen(last) > to_fen(pre))
    due = quantity[held] * last[held] / pre[held]
    whole = np.floor(due + 1e-9).astype(np.int64)
    money = (due - whole) * pre[held]
    quantity[held] = whole
    flow[held] += money
    return float(money.sum())


def _limits(pre: Matrix) -> tuple[Matrix, Matrix]:
    """Return the limit prices: ten per cent on every board before August 2020."""
    fen = to_fen(pre)
    up, down = (fen * 110 + 50) // 100, (fen * 90 + 50) // 100
    return np.maximum(up, fen + 1) / 100, np.maximum(np.minimum(down, fen - 1), 1) / 100


def _opening(
    market: Market, day: int, waiting: npt.NDArray[np.int64], up: Matrix, down: Matrix
) -> tuple[Matrix, npt.NDArray[np.object_]]:
    """Return the price at which each order fills, and what keeps it from doing so."""
    opens, high, low = market.open[day], market.high[day], market.low[day]
    close, pre = market.close[day], market.pre_close[day]
    buys, sells = waiting > 0, waiting < 0
    problem = np.full(len(opens), "", dtype=object)
    step = 0.005
    one_price = (high - low < step) & (waiting * (close - pre) > step)
    problem[one_price] = "ONE_PRICE"
    at_top, at_bottom = buys & (opens > up - step), sells & (opens < down + step)
    problem[at_top & (low > up - step)] = "LIMIT_UP"
    problem[at_bottom & (high < down + step)] = "LIMIT_DOWN"
    problem[(high > up + step) | (low < down - step)] = "BEYOND_LIMIT"
    opened = (problem == "") | (problem == "ONE_PRICE")
    problem[(at_top | at_bottom) & opened] = ""
    return np.where(at_top, up, np.where(at_bottom, down, opens)), problem


def _fill(
    book: Book,
    market: Market,
    day: int,
    at: npt.NDArray[np.bool_],
    side: int,
    price: Matrix,
    money: float,
    quantity: npt.NDArray[np.int64],
    entry: Matrix,
    flow: Matrix,
) -> float:
    """Fill the orders of one side; return the cash that moved."""
    if side > 0:
        lots = np.floor(money / np.where(at, price, 1.0) / 100 + 1e-9).astype(np.int64) * 100
        small = at & (lots == 0)
        book.miss("BELOW_LOT", int(small.sum()))
        at = at & (lots > 0)
        quantity[at] = lots[at]
    notional = quantity * to_fen(np.where(at, price, 0.0))
    fees = fees_fen(notional, sell=side < 0)
    moved = np.where(at, (-side * notional - fees) / 100, 0.0)
    book.fills += int(at.sum())
    if side > 0:
        flow[at] = moved[at]
        entry[:, at] = np.stack([price, quantity, price, np.full(len(price), market.days[day])])[
            :, at
        ]
        return float(moved.sum())
    for i in np.flatnonzero(at):
        _, bought, paid, began = entry[:, i]
        profit = float(flow[i] + moved[i])
        book.trades.append(
            (market.symbols[i], int(began), int(market.days[day]), bought, paid, price[i], profit)
        )
    quantity[at] = 0
    return float(moved.sum())


def _order(
    book: Book,
    sides: npt.NDArray[np.int64],
    quantity: npt.NDArray[np.int64],
    waiting: npt.NDArray[np.int64],
    since: npt.NDArray[np.int64],
    why: npt.NDArray[np.object_],
    day: int,
) -> None:
    """Turn the day's signals into orders for the next."""
    given = sides != 0
    replaced = given & (waiting != 0)
    book.miss("REPLACED", int(replaced.sum()))
    waiting[replaced] = 0
    held = given & (sides > 0) & (quantity > 0)
    empty = given & (sides < 0) & (quantity == 0)
    book.miss("ALREADY_HELD", int(held.sum()))
    book.miss("NOTHING_TO_SELL", int(empty.sum()))
    new = given & ~held & ~empty
    waiting[new], since[new], why[new] = sides[new], day, "NO_TRADING"
