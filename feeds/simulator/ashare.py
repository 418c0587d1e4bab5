"""The a-share universe: three-second snapshots, lots, price limits, a lunch break, trading days."""

import datetime as dt
import math
import warnings
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import numpy as np

from engine.core.records import INSTRUMENT, Board, Instruments, instrument_row
from feeds.config import SimulatorConfig
from feeds.simulator.kernels import SNAPSHOT_NS
from feeds.simulator.state import (
    MARKET,
    REGIME_HOLD_NS,
    ROW,
    SECONDS_PER_YEAR,
    SELF_SHARE,
    Array,
    activity_weights,
    stationary_sides,
)

BEIJING_OFFSET_S: Final = 8 * 3600
DAY_NS: Final = 86_400_000_000_000
TRADES_A_SNAPSHOT: Final = 6.0
"""Mean over all instruments."""
DECAY_PER_S: Final = 0.15
SPREAD_FRAC: Final = 3e-4
OVERNIGHT_FRAC: Final = 0.006
LONGEST_GAP_NS: Final = 5_000_000_000
VENUE_DELAY_NS: Final = 20_000_000
EFFECT_BPS_PER_S: Final = 0.3
EFFECT_HORIZON_NS: Final = 60_000_000_000

_BOARDS: Final = (
    (Board.CN_MAIN, 600_000, Decimal("0.10"), 100.0, 100.0),
    (Board.CN_CHINEXT, 300_000, Decimal("0.20"), 100.0, 100.0),
    (Board.CN_MAIN, 1, Decimal("0.10"), 100.0, 100.0),
    (Board.CN_STAR, 688_000, Decimal("0.20"), 1.0, 200.0),
)
"""Board, first code, price limit, lot step, smallest order; instruments take turns."""
_TICK: Final = Decimal("0.01")


def limit_prices(pre_close: float, share: Decimal) -> tuple[float, float]:
    """Return the upper and lower price limit: half-up to 0.01, in decimal arithmetic."""
    reference = Decimal(str(pre_close))
    up = (reference * (1 + share)).quantize(_TICK, ROUND_HALF_UP)
    down = (reference * (1 - share)).quantize(_TICK, ROUND_HALF_UP)
    return float(up), float(down)


def define_instruments(rows: Array) -> Instruments:
    """Make the definitions that hold for one trading day, from each row's ``last`` price.

    The rows' limits are set with them, in place.
    """
    instruments = np.empty(len(rows), INSTRUMENT)
    for index, row in enumerate(rows):
        board, code, share, lot, _ = _BOARDS[index % len(_BOARDS)]
        pre_close = round(float(row["last"]), 2)
        row["limit_up"], row["limit_down"] = limit_prices(pre_close, share)
        instruments[index] = instrument_row(
            f"{code + index // len(_BOARDS):06d}.SIM",
            id=index,
            board=board,
            calendar="XSHG",
            tick_size=0.01,
            lot=lot,
            pre_close=pre_close,
            limit_up=float(row["limit_up"]),
            limit_down=float(row["limit_down"]),
            day_offset_s=BEIJING_OFFSET_S,
        )[0]
    return instruments


def open_rows(config: SimulatorConfig, rng: np.random.Generator) -> Array:
    """Make the market's state before its first day, one ROW an instrument."""
    count = config.instruments
    rows = np.zeros(count, ROW)
    rows["last"] = np.round(8.0 * np.exp(1.1 * rng.standard_normal(count)) + 2.0, 2)
    rows["mid"] = rows["last"]
    rows["ticks_per_unit"] = 100.0
    rows["lots_per_unit"] = 1.0
    rows["lot_step"] = [_BOARDS[index % len(_BOARDS)][3] for index in range(count)]
    rows["lot_min"] = [_BOARDS[index % len(_BOARDS)][4] for index in range(count)]
    rows["size_mean"] = 40_000.0 / rows["mid"]
    rows["phase"] = np.floor(np.arange(count) / count * SNAPSHOT_NS)
    rows["regime_end"] = REGIME_HOLD_NS * rng.standard_exponential(count)
    weights = activity_weights(count) * count
    rows["base"] = TRADES_A_SNAPSHOT * (1.0 - config.branching) * weights
    stationary_sides(rows, config.branching)
    return rows


def open_market(config: SimulatorConfig, start_ns: int) -> Array:
    """Make the market's constants, one MARKET record; excess counts trades a snapshot here."""
    market = np.zeros(1, MARKET)
    jump = config.branching * (1.0 - math.exp(-DECAY_PER_S * 3.0))
    market["beta"] = DECAY_PER_S
    market["jump_self"] = jump * SELF_SHARE
    market["jump_cross"] = jump * (1.0 - SELF_SHARE)
    market["sigma"] = config.volatility / math.sqrt(SECONDS_PER_YEAR)
    effect = EFFECT_BPS_PER_S if config.effect_bps_per_s is None else config.effect_bps_per_s
    market["effect"] = effect * 1e-4
    market["horizon_ns"] = config.effect_horizon or EFFECT_HORIZON_NS
    market["regime_hold_ns"] = REGIME_HOLD_NS
    market["spread_frac"] = SPREAD_FRAC
    market["start_ns"] = start_ns
    market["delay_ns"] = VENUE_DELAY_NS
    return market


def open_day(rows: Array, market: Array, rng: np.random.Generator, day: dt.date) -> Instruments:
    """Prepare one trading day, in place: overnight move, limits, the first cycle.

    Returns:
        The day's definitions.
    """
    record = market[0]
    midnight_utc_ns = (day - dt.date(1970, 1, 1)).days * DAY_NS - BEIJING_OFFSET_S * 1_000_000_000
    record["day_ns"] = float(midnight_utc_ns - int(record["start_ns"]))
    record["cycle"] = record["slot"] = 0
    instruments = define_instruments(rows)
    rows["mid"] *= np.exp(OVERNIGHT_FRAC * rng.standard_normal(len(rows)))
    rows["bid"] = np.maximum(rows["last"] - 0.01, 0.01).round(2)
    rows["ask"] = rows["last"]
    rows["flow"] = rows["activity"] = rows["pressure"] = 0.0
    rows["last_side"] = 0
    rows["t"] = record["day_ns"] + 34_200e9
    return instruments


def trading_days(first: dt.date) -> Iterator[dt.date]:
    """Yield trading days from ``first`` on: Shanghai's calendar, weekdays beyond its end."""
    import exchange_calendars

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sessions = exchange_calendars.get_calendar("XSHG", start=str(first)).sessions
    day = first
    for session in sessions:
        day = session.date()
        yield day
    while True:
        day += dt.timedelta(days=1)
        if day.weekday() < 5:
            yield day
