"""The compiled market: an event at a time (trades and quotes) or a snapshot at a time.

Both kernels write TICK records into ``out`` and stop when the next event might not fit; where they
stop has no influence on what follows. Trades arrive as a mutually exciting Hawkes process with an
exponential kernel, drawn exactly and without rejection (Dassios and Zhao, 2013): between events the
excess intensity only decays, so the next event is the earlier of a constant and of a decaying
stream.
"""

import math
from typing import Any

import numpy as np
from numba import njit

Array = Any
Generator = np.random.Generator

SNAPSHOT_NS = 3_000_000_000
MORNING_CYCLES = 2400
DAY_CYCLES = 4800
AUCTION_CYCLE = DAY_CYCLES - 60
MORNING_NS = 34_200_000_000_000
AFTERNOON_NS = 46_800_000_000_000
"""Cycles are three seconds: 09:30 to 11:30, then 13:00 to 15:00, the last three minutes by call
auction."""
TRADE, QUOTE, SNAPSHOT = 1, 2, 3
ONE_SIDED, AUCTION = 4, 128
PRIOR_TRADES = 2.0
RESCALE_AT = 30.0


@njit(error_model="numpy", cache=True, nogil=True)
def _share_nb(row: Array) -> Any:
    return row["flow"] / (row["activity"] + PRIOR_TRADES)


@njit(error_model="numpy", cache=True, nogil=True)
def _mean_share_nb(row: Array, decay: float, spans: float) -> Any:
    """Average the signed flow share while flow and activity decay, over ``spans`` horizons."""
    activity = row["activity"]
    if activity <= 0.0 or spans <= 0.0:
        return _share_nb(row)
    lost = activity * (1.0 - decay)
    return row["flow"] / activity * math.log1p(lost / (activity * decay + PRIOR_TRADES)) / spans


@njit(error_model="numpy", cache=True, nogil=True)
def _advance_nb(
    rng: Generator, row: Array, market: Array, regimes: Array, transitions: Array, t: float
) -> None:
    """Bring one instrument's efficient price, regime, pressure and flow forward to ``t`` (ns)."""
    elapsed_ns = t - row["t"]
    row["t"] = t
    if t >= row["regime_end"]:
        draw = rng.random()
        following = 0
        while following < transitions.shape[1] - 1:
            if draw < transitions[row["regime"], following]:
                break
            following += 1
        row["regime"] = following
        row["regime_end"] = t + rng.standard_exponential() * market["regime_hold_ns"]
    elapsed_s = elapsed_ns * 1e-9
    spans = elapsed_ns / market["horizon_ns"]
    decay = math.exp(-spans)
    sigma = market["sigma"]
    drift = market["effect"] * _mean_share_nb(row, decay, spans)
    drift += regimes[row["regime"], 1] * sigma
    noise = regimes[row["regime"], 0] * sigma * math.sqrt(elapsed_s) * rng.standard_normal()
    row["mid"] = row["mid"] * math.exp(drift * elapsed_s + noise)
    slow = math.sqrt(decay)
    pressure = row["pressure"] * slow + 0.4 * math.sqrt(1.0 - decay) * rng.standard_normal()
    row["pressure"] = min(max(pressure, -0.9), 0.9)
    row["flow"] = row["flow"] * decay
    row["activity"] = row["activity"] * decay


@njit(error_model="numpy", cache=True, nogil=True)
def _size_nb(rng: Generator, row: Array, scale: float, width: float) -> Any:
    units = row["size_mean"] * scale * math.exp(width * rng.standard_normal())
    lots = math.floor(units * row["lots_per_unit"] / row["lot_step"])
    return max(lots * row["lot_step"] / row["lots_per_unit"], row["lot_min"])


@njit(error_model="numpy", cache=True, nogil=True)
def _requote_nb(rng: Generator, row: Array, market: Array, regimes: Array, heat: float) -> None:
    """Set the top of book around the efficient price; it widens with volatility and activity."""
    vol = regimes[row["regime"], 0]
    width = market["spread_frac"] * vol * (0.6 + 0.2 * heat + 0.2 * rng.standard_exponential())
    half = 0.5 * width * row["mid"]
    per_unit = row["ticks_per_unit"]
    bid_ticks = max(math.floor((row["mid"] - half) * per_unit), 1.0)
    ask_ticks = max(math.ceil((row["mid"] + half) * per_unit), bid_ticks + 1.0)
    row["bid"] = bid_ticks / per_unit
    row["ask"] = ask_ticks / per_unit
    share = _share_nb(row)
    row["bid_size"] = _size_nb(rng, row, math.exp(share) / vol, 0.5)
    row["ask_size"] = _size_nb(rng, row, math.exp(-share) / vol, 0.5)


@njit(error_model="numpy", cache=True, nogil=True)
def _put_quote_nb(row: Array, tick: Array) -> None:
    tick["bid"] = row["bid"]
    tick["ask"] = row["ask"]
    tick["bid_size"] = row["bid_size"]
    tick["ask_size"] = row["ask_size"]


@njit(error_model="numpy", cache=True, nogil=True)
def _open_tick_nb(market: Array, t: float, instrument: int, kind: int, tick: Array) -> None:
    tick["ts_event"] = market["start_ns"] + int(t)
    tick["ts_recv"] = tick["ts_event"] + market["delay_ns"]
    tick["price"] = math.nan
    tick["size"] = 0.0
    tick["turnover"] = 0.0
    tick["bid"] = math.nan
    tick["ask"] = math.nan
    tick["bid_size"] = 0.0
    tick["ask_size"] = 0.0
    tick["instrument"] = instrument
    tick["kind"] = kind
    tick["side"] = 0
    tick["flags"] = 0


@njit(error_model="numpy", cache=True, nogil=True)
def _next_event_nb(rng: Generator, market: Array) -> Any:
    """Draw the time (ns) of the market's next event, exactly."""
    events = 1.0 + market["quotes_per_trade"]
    beta = market["beta"]
    excess = market["excess"] * math.exp(-beta * 1e-9 * (market["t"] - market["t_ref"])) * events
    wait = rng.standard_exponential() / (market["base"] * events)
    draw = rng.standard_exponential()
    if excess > 0.0:
        left = 1.0 - beta * draw / excess
        if left > 0.0:
            wait = min(wait, -math.log(left) / beta)
    return market["t"] + wait * 1e9


@njit(error_model="numpy", cache=True, nogil=True)
def _rescale_nb(rows: Array, market: Array) -> None:
    """Move the reference time of every excess up to now, and sum them afresh."""
    factor = math.exp(-market["beta"] * 1e-9 * (market["t"] - market["t_ref"]))
    total = 0.0
    for i in range(rows.shape[0]):
        rows[i]["buy_excess"] *= factor
        rows[i]["sell_excess"] *= factor
        total += rows[i]["buy_excess"] + rows[i]["sell_excess"]
    market["excess"] = total
    market["t_ref"] = market["t"]


@njit(error_model="numpy", cache=True, nogil=True)
def _pick_nb(rng: Generator, rows: Array, market: Array, factor: float) -> Any:
    """Choose whose event it is, in proportion to the intensities."""
    left = rng.random() * (market["base"] + market["excess"] * factor)
    last = rows.shape[0] - 1
    for i in range(last):
        left -= rows[i]["base"] + (rows[i]["buy_excess"] + rows[i]["sell_excess"]) * factor
        if left < 0.0:
            return i
    return last


@njit(error_model="numpy", cache=True, nogil=True)
def _trade_nb(
    rng: Generator, row: Array, market: Array, factor: float, heat: float, tick: Array
) -> None:
    """Trade against the standing quote; excite both sides; count the flow."""
    excess = (row["buy_excess"] + row["sell_excess"]) * factor
    buying = row["base"] * 0.5 * (1.0 + row["pressure"]) + row["buy_excess"] * factor
    buy = rng.random() * (row["base"] + excess) < buying
    size = _size_nb(rng, row, 0.2 + 0.1 * heat, 0.8)
    price = row["ask"] if buy else row["bid"]
    tick["price"] = price
    tick["size"] = size
    tick["turnover"] = price * size
    tick["side"] = 1 if buy else -1
    own = market["jump_self"] / factor
    other = market["jump_cross"] / factor
    row["buy_excess"] += own if buy else other
    row["sell_excess"] += other if buy else own
    market["excess"] += own + other
    row["flow"] += 1.0 if buy else -1.0
    row["activity"] += 1.0


@njit(error_model="numpy", cache=True, nogil=True)
def trades_and_quotes_nb(
    rng: Generator, rows: Array, market_rows: Array, regimes: Array, transitions: Array, out: Array
) -> int:
    """Make trades and quotes until ``out`` may not hold the next event.

    Args:
        rng: numpy Generator.
        rows: ROW, shape (I,).
        market_rows: MARKET, shape (1,).
        regimes: Volatility and drift, shape (R, 2).
        transitions: Cumulative probabilities, shape (R, R).
        out: TICK, shape (N,), N >= 2.

    Returns:
        Number of ticks written; a trade is followed by the quote it leaves behind.
    """
    market = market_rows[0]
    count = 0
    while count + 2 <= out.shape[0]:
        t = _next_event_nb(rng, market)
        market["t"] = t
        if market["beta"] * 1e-9 * (t - market["t_ref"]) > RESCALE_AT:
            _rescale_nb(rows, market)
        factor = math.exp(-market["beta"] * 1e-9 * (t - market["t_ref"]))
        i = _pick_nb(rng, rows, market, factor)
        row = rows[i]
        _advance_nb(rng, row, market, regimes, transitions, t)
        excess = (row["buy_excess"] + row["sell_excess"]) * factor
        heat = min(excess / row["base"], 8.0)
        if rng.random() * (1.0 + market["quotes_per_trade"]) < 1.0:
            _open_tick_nb(market, t, i, TRADE, out[count])
            _trade_nb(rng, row, market, factor, heat, out[count])
            count += 1
        _requote_nb(rng, row, market, regimes, heat)
        _open_tick_nb(market, t, i, QUOTE, out[count])
        _put_quote_nb(row, out[count])
        count += 1
    return count


@njit(error_model="numpy", cache=True, nogil=True)
def _trade_window_nb(rng: Generator, row: Array, market: Array, closing: bool, tick: Array) -> None:
    """Sum three seconds of trading into one snapshot."""
    share = 0.5 * (1.0 + row["pressure"])
    buys = rng.poisson(row["base"] * share + row["buy_excess"])
    sells = rng.poisson(row["base"] * (1.0 - share) + row["sell_excess"])
    if closing:
        buys += 1
    decay = math.exp(-market["beta"] * 3.0)
    own, other = market["jump_self"], market["jump_cross"]
    row["buy_excess"] = row["buy_excess"] * decay + own * buys + other * sells
    row["sell_excess"] = row["sell_excess"] * decay + own * sells + other * buys
    row["flow"] += buys - sells
    row["activity"] += buys + sells
    if buys + sells == 0:
        return
    bought = _size_nb(rng, row, 0.2 * buys, 0.5) if buys > 0 else 0.0
    sold = _size_nb(rng, row, 0.2 * sells, 0.5) if sells > 0 else 0.0
    at_ask = row["bid"] if math.isnan(row["ask"]) else row["ask"]
    at_bid = row["ask"] if math.isnan(row["bid"]) else row["bid"]
    last_is_buy = rng.random() * (buys + sells) < buys
    row["last"] = at_ask if last_is_buy else at_bid
    row["last_side"] = 1 if last_is_buy else -1
    tick["size"] = bought + sold
    tick["turnover"] = bought * at_ask + sold * at_bid


@njit(error_model="numpy", cache=True, nogil=True)
def _hold_limits_nb(row: Array) -> None:
    """Lock the book at a price limit: the side that nobody offers is NaN."""
    if row["ask"] > row["limit_up"]:
        row["ask"] = math.nan
        row["ask_size"] = 0.0
        row["bid"] = min(row["bid"], row["limit_up"])
        row["bid_size"] = row["bid_size"] * 20.0
    elif row["bid"] < row["limit_down"]:
        row["bid"] = math.nan
        row["bid_size"] = 0.0
        row["ask"] = max(row["ask"], row["limit_down"])
        row["ask_size"] = row["ask_size"] * 20.0


@njit(error_model="numpy", cache=True, nogil=True)
def snapshots_nb(
    rng: Generator, rows: Array, market_rows: Array, regimes: Array, transitions: Array, out: Array
) -> int:
    """Make three-second snapshots until ``out`` is full or the trading day ends.

    Args:
        rng: numpy Generator.
        rows: ROW, shape (I,), phases not decreasing.
        market_rows: MARKET, shape (1,); its ``cycle`` is DAY_CYCLES when the day has ended.
        regimes: Volatility and drift, shape (R, 2).
        transitions: Cumulative probabilities, shape (R, R).
        out: TICK, shape (N,).

    Returns:
        Number of ticks written.
    """
    market = market_rows[0]
    count = 0
    while count < out.shape[0] and market["cycle"] < DAY_CYCLES:
        cycle, i = market["cycle"], market["slot"]
        session = MORNING_NS + cycle * SNAPSHOT_NS
        if cycle >= MORNING_CYCLES:
            session = AFTERNOON_NS + (cycle - MORNING_CYCLES) * SNAPSHOT_NS
        row = rows[i]
        t = market["day_ns"] + session + row["phase"]
        _advance_nb(rng, row, market, regimes, transitions, t)
        auction = cycle >= AUCTION_CYCLE
        closing = cycle == DAY_CYCLES - 1
        tick = out[count]
        _open_tick_nb(market, t, i, SNAPSHOT, tick)
        if closing or not auction:
            _trade_window_nb(rng, row, market, closing, tick)
        heat = min((row["buy_excess"] + row["sell_excess"]) / row["base"], 8.0)
        _requote_nb(rng, row, market, regimes, heat)
        _hold_limits_nb(row)
        _put_quote_nb(row, tick)
        tick["price"] = row["last"]
        tick["side"] = row["last_side"]
        if math.isnan(row["bid"]) or math.isnan(row["ask"]):
            tick["flags"] |= ONE_SIDED
        if auction:
            tick["flags"] |= AUCTION
        count += 1
        market["slot"] = i + 1
        if market["slot"] == rows.shape[0]:
            market["slot"] = 0
            market["cycle"] = cycle + 1
    return count
