# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""Compiled arithmetic of the market's rules: fees, price limits, lots, slippage."""

from typing import Final

import numpy as np
from numba import njit

_PPM: Final = 1_000_000
_FINE: Final = 10_000
"""Parts of a tick that reference prices are counted in."""
_MOST_FINE: Final = 8 * 10**12


@njit(error_model="numpy")
def fee_nb(fee, notional):
    """Return one fee: the rate on the value, at least the minimum, rounded half-up to 0.01.

    The rounding is done in whole numbers, so that half a fen goes up whatever its float is.
    """
    if fee["exact"] == 0:
        return max(notional * fee["rate_e8"] * 1e-8, fee["minimum"])
    milli = np.int64(round(notional * 1000.0))
    rate = fee["rate_e8"]
    if rate > 0 and milli > 9_000_000_000_000_000_000 // rate:
        cents = np.int64(round(notional * 1e-6 * rate))
    else:
        cents = (milli * rate + 500_000_000) // 1_000_000_000
    least = np.int64(np.floor(fee["minimum"] * 100.0 + 0.5))
    return max(cents, least) / 100.0


@njit(error_model="numpy")
def charge_nb(fees, count, notional):
    """Return what a fill of this value pays: commission, tax, transfer fee."""
    commission = tax = transfer = 0.0
    for j in range(count):
        amount = fee_nb(fees[j], notional)
        kind = fees[j]["kind"]
        if kind == 0:
            commission += amount
        elif kind == 1:
            tax += amount
        else:
            transfer += amount
    return commission, tax, transfer


@njit(error_model="numpy")
def to_price_nb(fine, tick):
    """Return the price of so many ten-thousandths of a tick, as the nearest float."""
    steps = round(1.0 / tick)
    if steps > 0 and abs(steps * tick - 1.0) < 1e-9:
        return fine / (_FINE * np.float64(steps))
    return fine / np.float64(_FINE) * tick


@njit(error_model="numpy")
def limits_nb(pre_close, tick, up_ppm, down_ppm):
    """Return (lowest, highest) price, rounded half-up to the tick as decimals are.

    At least one tick from the reference price, and never below one tick.
    """
    if pre_close / tick * _FINE > _MOST_FINE:
        return pre_close * (1 - down_ppm / _PPM), pre_close * (1 + up_ppm / _PPM)
    fine = np.int64(round(pre_close / tick * _FINE))
    half = _PPM * _FINE // 2
    up = (fine * (_PPM + up_ppm) + half) // (_PPM * _FINE) * _FINE
    down = (fine * (_PPM - down_ppm) + half) // (_PPM * _FINE) * _FINE
    up = max(up, fine + _FINE)
    down = max(min(down, fine - _FINE), _FINE)
    return to_price_nb(down, tick), to_price_nb(up, tick)


@njit(error_model="numpy")
def whole_lots_nb(quantity, minimum, step):
    """Return the largest legal order size up to ``quantity``; a step of 0 takes any size."""
    if step <= 0.0:
        return quantity if quantity > 0.0 else 0.0
    if quantity < minimum - 1e-9 * step:
        return 0.0
    return minimum + np.floor((quantity - minimum) / step + 1e-9) * step


@njit(error_model="numpy")
def on_grid_nb(price, tick, side):
    """Return the price on the tick grid, upwards for a buyer and downwards for a seller."""
    if tick <= 0.0:
        return price
    steps = price / tick
    whole = np.ceil(steps - 1e-6) if side > 0 else np.floor(steps + 1e-6)
    return to_price_nb(max(whole, 1.0) * _FINE, tick)


@njit(error_model="numpy")
def slip_nb(settings, m, tick, side, shown, spread, quantity):
    """Return the price after slippage, NaN where the model has nothing to go by.

    Args:
        settings: SETTINGS.
        m: MARKET.
        tick: Least price step, 0 if unknown.
        side: 1 buys, -1 sells.
        shown: The price the market showed.
        spread: Of the book at the time, NaN without one.
        quantity: Of the fill.
    """
    model, amount = settings["slip"], settings["slip_amount"]
    if model == 0:
        return shown
    if model == 1:
        move = amount * tick
    elif model == 2:
        move = shown * amount * 1e-4
    elif model == 3:
        assumed = shown * settings["slip_spread_bps"] * 1e-4
        move = amount * (spread if spread == spread else assumed)
    else:
        volume = settings["slip_volume"] if settings["slip_volume"] > 0.0 else m["mean_volume"]
        daily = settings["slip_volatility"]
        if daily <= 0.0:
            daily = np.sqrt(m["variance"])
        if not volume > 0.0 or not daily > 0.0:
            return np.nan
        move = shown * amount * daily * np.sqrt(quantity / volume)
    price = on_grid_nb(shown + side * move, tick, side)
    half = 0.5 * tick
    if m["limit_down"] - half <= shown <= m["limit_up"] + half:
        price = min(max(price, m["limit_down"]), m["limit_up"])
    return price
