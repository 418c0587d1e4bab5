"""The crypto universe: trades and quotes around the clock, small ticks, arrivals in clusters."""

import math
from typing import Final

import numpy as np

from engine.core.records import INSTRUMENT, Board, Instruments, instrument_row
from feeds.config import SimulatorConfig
from feeds.simulator.state import (
    MARKET,
    QUOTES_PER_TRADE,
    REGIME_HOLD_NS,
    ROW,
    SECONDS_PER_YEAR,
    SELF_SHARE,
    Array,
    activity_weights,
    stationary_sides,
)

_NAMES: Final = (
    "BTC", "ETH", "SOL", "BNB", "XRP", "DOGE", "ADA", "AVAX", "LINK", "DOT", "TRX", "LTC", "BCH",
    "NEAR", "UNI", "ATOM", "ETC", "FIL", "APT", "ARB",
)  # fmt: skip
_PRICES: Final = (
    62_000.0, 3400.0, 130.0, 410.0, 0.63, 0.16, 0.72, 42.0, 20.0, 9.4, 0.14, 88.0, 450.0, 4.1, 12.0,
    11.5, 34.0, 8.3, 13.0, 2.1,
)  # fmt: skip
RATE: Final = 1000.0
"""Ticks a second where the configuration gives none."""
TURNOVER_A_TRADE: Final = 2000.0
SPREAD_FRAC: Final = 1e-4
VENUE_DELAY_NS: Final = 500_000
EFFECT_BPS_PER_S: Final = 1.0
EFFECT_HORIZON_NS: Final = 5_000_000_000


def _decimals(value: float) -> int:
    """Return the power of ten, 0 or more, that makes steps of about 1e-5 of ``value``."""
    return max(0, 4 - math.floor(math.log10(value)))


def _name_and_price(index: int) -> tuple[str, float]:
    if index < len(_NAMES):
        return f"{_NAMES[index]}USDT.SIM", _PRICES[index]
    return f"C{index:05d}USDT.SIM", _PRICES[index % len(_PRICES)] * 0.7


def define_instruments(count: int) -> Instruments:
    """Make the definitions of the first ``count`` instruments, shape (I,)."""
    rows = np.empty(count, INSTRUMENT)
    for index in range(count):
        symbol, price = _name_and_price(index)
        rows[index] = instrument_row(
            symbol,
            id=index,
            board=Board.CRYPTO,
            tick_size=10.0 ** -_decimals(price),
            lot=10.0 ** -_decimals(TURNOVER_A_TRADE / price),
            price_decimals=_decimals(price),
        )[0]
    return rows


def open_rows(config: SimulatorConfig, rng: np.random.Generator) -> Array:
    """Make the market's state at its start, one ROW an instrument."""
    count = config.instruments
    rows = np.zeros(count, ROW)
    prices = np.array([_name_and_price(index)[1] for index in range(count)])
    sizes = TURNOVER_A_TRADE / prices
    rows["mid"] = prices * np.exp(0.02 * rng.standard_normal(count))
    rows["ticks_per_unit"] = [10.0 ** _decimals(price) for price in prices]
    rows["lots_per_unit"] = [10.0 ** _decimals(size) for size in sizes]
    rows["lot_step"] = 1.0
    rows["lot_min"] = 1.0 / rows["lots_per_unit"]
    rows["size_mean"] = sizes
    rows["limit_up"] = np.inf
    rows["regime_end"] = REGIME_HOLD_NS * rng.standard_exponential(count)
    trades = (config.rate or RATE) / (2.0 + QUOTES_PER_TRADE)
    rows["base"] = trades * (1.0 - config.branching) * activity_weights(count)
    stationary_sides(rows, config.branching)
    for row in rows:
        row["bid"] = math.floor(row["mid"] * row["ticks_per_unit"]) / row["ticks_per_unit"]
        row["ask"] = (math.floor(row["mid"] * row["ticks_per_unit"]) + 1) / row["ticks_per_unit"]
    return rows


def open_market(config: SimulatorConfig, rows: Array, start_ns: int) -> Array:
    """Make the market's constants, one MARKET record."""
    market = np.zeros(1, MARKET)
    trades = (config.rate or RATE) / (2.0 + QUOTES_PER_TRADE)
    beta = trades / len(rows)
    market["base"] = rows["base"].sum()
    market["excess"] = rows["buy_excess"].sum() + rows["sell_excess"].sum()
    market["beta"] = beta
    market["jump_self"] = config.branching * beta * SELF_SHARE
    market["jump_cross"] = config.branching * beta * (1.0 - SELF_SHARE)
    market["quotes_per_trade"] = QUOTES_PER_TRADE
    market["sigma"] = config.volatility / math.sqrt(SECONDS_PER_YEAR)
    effect = EFFECT_BPS_PER_S if config.effect_bps_per_s is None else config.effect_bps_per_s
    market["effect"] = effect * 1e-4
    market["horizon_ns"] = config.effect_horizon or EFFECT_HORIZON_NS
    market["regime_hold_ns"] = REGIME_HOLD_NS
    market["spread_frac"] = SPREAD_FRAC
    market["start_ns"] = start_ns
    market["delay_ns"] = VENUE_DELAY_NS
    return market
