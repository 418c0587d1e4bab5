"""Every indicator once more, over whole arrays and written the plain way.

A twin takes bars and parameters and returns its outputs, NaN where undefined. Windows are laid
out whole instead of updated; recursions are written as loops over lists.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from engine.core.records import Bars

Floats = npt.NDArray[np.float64]
Outputs = dict[str, Floats]


def windowed(values: Floats, length: int, of: Callable[..., Any]) -> Floats:
    """Return ``of(windows, axis=1)`` at every window's last value."""
    out = np.full(len(values), np.nan)
    if len(values) >= length:
        out[length - 1 :] = of(sliding_window_view(values, length), axis=1)
    return out


def carried(known: npt.NDArray[np.bool_], values: Floats) -> Floats:
    """Spread values of the known rows over all rows; unknown rows repeat the last one."""
    count = np.cumsum(known)
    return np.concatenate([[np.nan], values])[count]


def seeded_average(values: list[float], alpha: float, first: float) -> list[float]:
    """Return first, then exponential averages of ``values``."""
    out = [first]
    for value in values:
        out.append(alpha * value + (1 - alpha) * out[-1])
    return out


def talib_ema(values: Floats, length: int) -> Floats:
    """Return an exponential average that begins with the simple one of the first ``length``."""
    out = np.full(len(values), np.nan)
    if len(values) >= length:
        first = float(np.mean(values[:length]))
        out[length - 1 :] = seeded_average(list(values[length:]), 2 / (length + 1), first)
    return out


def sma(bars: Bars, length: int = 20) -> Outputs:
    return {"value": windowed(bars["close"], length, np.mean)}


def ema(bars: Bars, length: int = 20) -> Outputs:
    return {"value": talib_ema(bars["close"], length)}


def wma(bars: Bars, length: int = 20) -> Outputs:
    weights = np.arange(1, length + 1)
    mean: Callable[..., Any] = lambda w, axis: np.average(w, axis=axis, weights=weights)  # noqa: E731
    return {"value": windowed(bars["close"], length, mean)}


def macd(bars: Bars, fast: int = 12, slow: int = 26, signal: int = 9) -> Outputs:
    closes = bars["close"]
    fast, slow = min(fast, slow), max(fast, slow)
    short = np.full(len(closes), np.nan)
    short[slow - fast :] = talib_ema(closes[slow - fast :], fast)
    line = short - talib_ema(closes, slow)
    average = np.full(len(closes), np.nan)
    average[slow - 1 :] = talib_ema(line[slow - 1 :], signal)
    line[: slow + signal - 2] = np.nan
    return {"line": line, "signal": average, "histogram": line - average}


def macd_cn(bars: Bars, fast: int = 12, slow: int = 26, signal: int = 9) -> Outputs:
    closes = list(bars["close"])
    fast, slow = min(fast, slow), max(fast, slow)
    if not closes:
        return {name: np.empty(0) for name in ("line", "signal", "histogram")}
    short = np.array(seeded_average(closes[1:], 2 / (fast + 1), closes[0]))
    dif = short - np.array(seeded_average(closes[1:], 2 / (slow + 1), closes[0]))
    dea = np.array(seeded_average(list(dif[1:]), 2 / (signal + 1), dif[0]))
    outputs = {"line": dif, "signal": dea, "histogram": 2 * (dif - dea)}
    for values in outputs.values():
        values[: slow + signal - 2] = np.nan
    return outputs


def rsi(bars: Bars, length: int = 14) -> Outputs:
    changes = np.diff(bars["close"])
    out = np.full(len(bars), np.nan)
    if len(changes) >= length:
        averages = [
            seeded_average(list(part[length:]), 1 / length, float(np.mean(part[:length])))
            for part in (np.maximum(changes, 0), np.maximum(-changes, 0))
        ]
        up, down = np.array(averages)
        with np.errstate(invalid="ignore"):
            out[length:] = 100 - 100 * down / (up + down)
    return {"value": out}


def kdj(bars: Bars, length: int = 9, k_smooth: int = 3, d_smooth: int = 3) -> Outputs:
    top = windowed(bars["high"], length, np.max)
    bottom = windowed(bars["low"], length, np.min)
    k = d = 50.0
    rows: list[tuple[float, float, float]] = []
    for at, close in enumerate(bars["close"]):
        row = rows[-1] if rows else (np.nan, np.nan, np.nan)
        if at >= length - 1 and top[at] > bottom[at]:
            k = (
                k * (k_smooth - 1) + 100 * (close - bottom[at]) / (top[at] - bottom[at])
            ) / k_smooth
            d = (d * (d_smooth - 1) + k) / d_smooth
            if at >= length + k_smooth + d_smooth - 3:
                row = (k, d, 3 * k - 2 * d)
        rows.append(row)
    table = np.array(rows).reshape(-1, 3)
    return {"k": table[:, 0], "d": table[:, 1], "j": table[:, 2]}


def bollinger(bars: Bars, length: int = 20, width: float = 2.0) -> Outputs:
    middle = windowed(bars["close"], length, np.mean)
    sd = windowed(bars["close"], length, np.std)
    return {"middle": middle, "upper": middle + width * sd, "lower": middle - width * sd, "sd": sd}


def zscore(bars: Bars, length: int = 20) -> Outputs:
    closes = bars["close"]
    sd = windowed(closes, length, np.std)
    flat = windowed(closes, length, np.ptp) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (closes - windowed(closes, length, np.mean)) / sd
    return {"value": np.where(flat, 0.0, score)}


def true_ranges(bars: Bars) -> Floats:
    """Return the true range of every bar but the first."""
    before = bars["close"][:-1]
    high, low = bars["high"][1:], bars["low"][1:]
    return np.max([high - low, np.abs(high - before), np.abs(low - before)], axis=0)  # type: ignore[no-any-return]  # of an Any


def atr(bars: Bars, length: int = 14) -> Outputs:
    out = np.full(len(bars), np.nan)
    if len(bars) > length:
        ranges = true_ranges(bars)
        first = float(np.mean(ranges[:length]))
        out[length:] = seeded_average(list(ranges[length:]), 1 / length, first)
    return {"value": out}


def adx(bars: Bars, length: int = 14) -> Outputs:
    names = ("adx", "plus_di", "minus_di")
    out = {name: np.full(len(bars), np.nan) for name in names}
    if len(bars) < length:
        return out
    rise, fall = np.diff(bars["high"]), -np.diff(bars["low"])
    plus = np.where((rise > fall) & (rise > 0), rise, 0)
    minus = np.where((fall > rise) & (fall > 0), fall, 0)
    sums = [float(np.sum(v[: length - 1])) for v in (plus, minus, true_ranges(bars))]
    average = 0.0
    seen: list[float] = []
    row = (np.nan, np.nan, np.nan)
    for at in range(length - 1, len(rise)):
        new = (plus[at], minus[at], true_ranges(bars)[at])
        sums = [total - total / length + value for total, value in zip(sums, new, strict=True)]
        directed = sums[0] + sums[1]
        dx = 100 * abs(sums[0] - sums[1]) / directed if directed else None
        if len(seen) < length:
            seen.append(dx or 0.0)
            average = sum(seen) / length
        elif dx is not None:
            average = (average * (length - 1) + dx) / length
        if len(seen) == length and directed and sums[2]:
            row = (average, 100 * sums[0] / sums[2], 100 * sums[1] / sums[2])
        for name, value in zip(names, row, strict=True):
            out[name][at + 1] = value
    return out


def cci(bars: Bars, length: int = 14) -> Outputs:
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    mean = windowed(typical, length, np.mean)
    spread: Callable[..., Any] = lambda w, axis: np.mean(  # noqa: E731
        np.abs(w - np.mean(w, axis=axis, keepdims=True)), axis=axis
    )
    flat = windowed(typical, length, np.ptp) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        index = (typical - mean) / (0.015 * windowed(typical, length, spread))
    return {"value": np.where(flat, 0.0, index)}


def obv(bars: Bars) -> Outputs:
    signs = np.concatenate([[1.0], np.sign(np.diff(bars["close"]))])[: len(bars)]
    return {"value": np.cumsum(signs * bars["volume"])}


def vwap(bars: Bars) -> Outputs:
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    amount = np.where(bars["turnover"] > 0, bars["turnover"], typical * bars["volume"])
    out = np.full(len(bars), np.nan)
    for day in np.unique(bars["session"]):
        of_day = bars["session"] == day
        volume = np.cumsum(bars["volume"][of_day])
        with np.errstate(invalid="ignore", divide="ignore"):
            out[of_day] = np.cumsum(amount[of_day]) / volume
    return {"value": out}


def donchian(bars: Bars, length: int = 20) -> Outputs:
    upper = windowed(bars["high"], length, np.max)
    lower = windowed(bars["low"], length, np.min)
    return {"upper": upper, "lower": lower, "middle": (upper + lower) / 2}


def roc(bars: Bars, length: int = 10) -> Outputs:
    closes = bars["close"]
    out = np.full(len(closes), np.nan)
    out[length:] = 100 * (closes[length:] - closes[:-length]) / closes[:-length]
    return {"value": out}


def realised_volatility(bars: Bars, length: int = 20) -> Outputs:
    squares = np.diff(np.log(bars["close"])) ** 2
    total = np.concatenate([[np.nan], windowed(squares, length, np.sum)])[: len(bars)]
    return {"value": np.sqrt(total), "per_sample": np.sqrt(total / length)}


def _book_known(bars: Bars) -> npt.NDArray[np.bool_]:
    priced = ~np.isnan(bars["bid"]) & ~np.isnan(bars["ask"])
    return priced & (bars["bid_size"] + bars["ask_size"] > 0)  # type: ignore[no-any-return]  # of an Any


def order_flow_imbalance(bars: Bars, length: int = 50) -> Outputs:
    known = _book_known(bars)
    rows = bars[known]
    flow = windowed(rows["ofi"], length, np.sum)
    depth = windowed((rows["bid_size"] + rows["ask_size"]) / 2, length, np.mean)
    return {"value": carried(known, flow), "per_depth": carried(known, flow / depth)}


def book_imbalance(bars: Bars, length: int = 1) -> Outputs:
    known = _book_known(bars)
    rows = bars[known]
    raw = 1 - 2 * rows["ask_size"] / (rows["bid_size"] + rows["ask_size"])
    mean = windowed(raw, length, np.mean)
    raw[np.isnan(mean)] = np.nan
    return {"value": carried(known, mean), "raw": carried(known, raw)}


def weighted_mid(bars: Bars) -> Outputs:
    known = _book_known(bars)
    b = bars[known]
    value = (b["ask"] * b["bid_size"] + b["bid"] * b["ask_size"]) / (b["bid_size"] + b["ask_size"])
    mid = (b["bid"] + b["ask"]) / 2
    return {
        "value": carried(known, value),
        "deviation_bps": carried(known, 1e4 * (value / mid - 1)),
    }


def trade_flow(bars: Bars, length: int = 50) -> Outputs:
    known = (bars["volume"] == 0) | (bars["buy_volume"] + bars["sell_volume"] > 0)
    rows = bars[known]
    net = windowed(rows["buy_volume"] - rows["sell_volume"], length, np.sum)
    total = windowed(rows["buy_volume"] + rows["sell_volume"], length, np.sum)
    ready = np.logical_or.accumulate(total > 0) if len(total) else np.zeros(0, bool)
    share = np.divide(net, total, out=np.zeros_like(net), where=total > 0)
    return {
        "value": carried(known, np.where(ready, net, np.nan)),
        "normalised": carried(known, np.where(ready, share, np.nan)),
    }


def vpin(bars: Bars, bucket_volume: float = 1000.0, buckets: int = 50) -> Outputs:
    """Bought volume as a function of traded volume, read off at the buckets' borders."""
    traded = np.concatenate([[0.0], np.cumsum(bars["buy_volume"] + bars["sell_volume"])])
    bought = np.concatenate([[0.0], np.cumsum(bars["buy_volume"])])
    full = np.floor(traded / bucket_volume).astype(int)
    moved = np.concatenate([[True], np.diff(traded) > 0])
    borders = bucket_volume * np.arange(full[-1] + 1)
    buys = np.diff(np.interp(borders, traded[moved], bought[moved]))
    mean = windowed(np.abs(2 * buys - bucket_volume) / bucket_volume, buckets, np.mean)
    return {"value": np.concatenate([[np.nan], mean])[full[1:]]}


def hawkes(bars: Bars, beta: float = 0.1, events: int = 20) -> Outputs:
    """Every event since the start, each faded by its own age."""
    seconds = np.maximum.accumulate(bars["ts_event"] - bars["ts_event"][:1]) / 1e9
    volume = bars["buy_volume"] + bars["sell_volume"]
    counts = np.where(volume > 0, np.maximum(bars["trades"], 1), 0)
    ages = seconds[:, None] - seconds[None, :]
    fade = np.tril(np.exp(-beta * np.maximum(ages, 0)))
    share = np.divide(bars["buy_volume"], volume, out=np.zeros(len(bars)), where=volume > 0)
    buy, sell = fade @ (counts * share), fade @ (counts * (1 - share))
    early = np.cumsum(counts) < events
    outputs = {"net": buy - sell, "buy": buy, "sell": sell}
    return {name: np.where(early, np.nan, values) for name, values in outputs.items()}


TWINS: Final[Mapping[str, Callable[..., Outputs]]] = {
    f.__name__: f
    for f in (
        sma, ema, wma, macd, macd_cn, rsi, kdj, bollinger, zscore, atr, adx, cci, obv, vwap,
        donchian, roc, realised_volatility, order_flow_imbalance, book_imbalance, weighted_mid,
        trade_flow, vpin, hawkes,
    )
}  # fmt: skip
