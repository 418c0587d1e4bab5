"""What the execution simulator knows, as fixed-size records that its compiled code works on."""

from enum import IntEnum
from typing import Final

import numpy as np

MAX_FEES: Final = 8
"""Most fees and taxes on one side of a trade."""


class Why(IntEnum):
    """Why an order was not filled, or a signal made none; the names are what results count by."""

    NO_TRADING = 0
    """There was no record of its instrument while it waited: a suspended day."""
    HALTED = 1
    """The instrument was marked as halted, or its bar had no volume."""
    OUT_OF_SESSION = 2
    AUCTION = 3
    """The tick was of an auction: such ticks do not fill, or it was no print, or the order came
    too late for it."""
    IRREGULAR = 4
    """The tick was marked as odd, crossed or one that sets no price."""
    NO_PRICE = 5
    """Nothing on the side to be taken."""
    NO_REFERENCE = 6
    """The board has price limits and the reference price is unknown."""
    LIMIT_UP = 7
    LIMIT_DOWN = 8
    ONE_PRICE = 9
    """A day on which everything traded at one price, away from the reference."""
    BEYOND_LIMIT = 10
    """Traded outside the limits that the rulebook gives: the day's real limits are unknown."""
    T_PLUS_1 = 11
    NO_ESTIMATE = 12
    """The impact model has no finished day to go by."""
    NO_VOLUME = 13
    """The part of the volume that may be taken is less than a lot."""
    BELOW_LOT = 14
    """The size is less than the board's least order."""
    NO_CASH = 15
    MAX_POSITIONS = 16
    SHORT_NOT_ALLOWED = 17
    ALREADY_HELD = 18
    """A signal for a side that is held already."""
    NOTHING_TO_SELL = 19
    ALREADY_ORDERED = 20
    """An order for that side is on its way already."""
    REPLACED = 21
    """A newer signal came first."""
    EXPIRED = 22
    """It waited for longer than an order may."""
    OPEN_AT_END = 23
    """It had not met the market when the data ended."""
    OUTSIDE_SPAN = 24
    """Its signal came outside the span that is traded."""


ORDER: Final = np.dtype(
    [
        ("row", "<i8"),
        ("ts", "<i8"),
        ("instrument", "<u4"),
        ("strategy", "<u4"),
        ("side", "<i4"),
        ("reserved", "<i4"),
    ],
    align=True,
)
"""A signal on its way to the market. ``row``: of the record that caused it, in its segment; ``ts``:
when that was received, ns."""

FACTS: Final = np.dtype(
    [
        ("tick", "f8"),
        ("lot", "f8"),
        ("multiplier", "f8"),
        ("pre_close", "f8"),
        ("limit_up", "f8"),
        ("limit_down", "f8"),
        ("offset_ns", "i8"),
        ("board", "i4"),
        ("group", "i4"),
        ("ex_right", "i4"),
        ("known", "i4"),
    ],
    align=True,
)
"""An instrument's definition. ``board``: row in the table of boards; ``group``: which calendar it
trades by; ``ex_right``: whether a changed definition may tell of an ex-right day."""

BOARD: Final = np.dtype([("first", "i4"), ("stop", "i4")], align=True)
"""Which rows of the rules are a board's, in order of their day."""

FEE: Final = np.dtype(
    [("rate_e8", "i8"), ("minimum", "f8"), ("kind", "i4"), ("exact", "i4")], align=True
)
"""``rate_e8``: in hundred-millionths of the value; ``kind``: 0 commission, 1 tax, 2 transfer fee;
``exact``: whether the amount is rounded half-up to 0.01."""

RULE: Final = np.dtype(
    [
        ("since", "i4"),
        ("limited", "i4"),
        ("up_ppm", "i8"),
        ("down_ppm", "i8"),
        ("first_days", "i4"),
        ("first_limited", "i4"),
        ("first_up_ppm", "i8"),
        ("first_down_ppm", "i8"),
        ("lot_minimum", "f8"),
        ("lot_step", "f8"),
        ("has_lot", "i4"),
        ("t_plus", "i4"),
        ("long_only", "i4"),
        ("buy_fees", "i4"),
        ("sell_fees", "i4"),
        ("reserved", "i4"),
    ],
    align=True,
)
"""What holds on a board from a day on (days since 1970-01-01). Limits in millionths of the
reference price."""

MARKET: Final = np.dtype(
    [
        ("last", "f8"),
        ("bid", "f8"),
        ("ask", "f8"),
        ("bid_size", "f8"),
        ("ask_size", "f8"),
        ("pre_close", "f8"),
        ("limit_up", "f8"),
        ("limit_down", "f8"),
        ("first_up", "f8"),
        ("first_down", "f8"),
        ("day_end_ns", "i8"),
        ("print_ns", "i8"),
        ("volume", "f8"),
        ("variance", "f8"),
        ("mean_volume", "f8"),
        ("close_before", "f8"),
        ("day", "i4"),
        ("days", "i4"),
        ("rule", "i4"),
        ("held", "i4"),
        ("waiting", "i4"),
        ("limited", "i4"),
        ("listed_late", "i4"),
        ("traded", "i4"),
    ],
    align=True,
)
"""One instrument as the last record left it. ``days``: trading days seen; ``listed_late``: its
first day was not the market's first. ``print_ns``: when the latest auction printed, its first print
counting. ``held``, ``waiting``: slots with a position, an order."""

SLOT: Final = np.dtype(
    [
        ("quantity", "f8"),
        ("value", "f8"),
        ("flows", "f8"),
        ("put_in", "f8"),
        ("peak", "f8"),
        ("drawdown", "f8"),
        ("entry_quantity", "f8"),
        ("entry_notional", "f8"),
        ("exit_quantity", "f8"),
        ("exit_notional", "f8"),
        ("cost", "f8"),
        ("adjusted", "f8"),
        ("placed", "i8"),
        ("ts_signal", "i8"),
        ("ts_entry", "i8"),
        ("trade", "i4"),
        ("bought_day", "i4"),
        ("side", "i4"),
        ("live_day", "i4"),
        ("why", "i4"),
        ("own", "i4"),
        ("part", "i4"),
        ("reserved", "i4"),
    ],
    align=True,
)
"""A strategy's position in one instrument, and its order that waits (``side`` not 0). ``flows``:
money out and in since the position began, without costs. ``own``: the order came of ``max_hold``,
not of a signal; ``part``: part of it is filled."""

ACCOUNT: Final = np.dtype(
    [
        ("cash", "f8"),
        ("value", "f8"),
        ("gross", "f8"),
        ("bought", "f8"),
        ("sold", "f8"),
        ("cost", "f8"),
        ("adjusted", "f8"),
        ("ts", "i8"),
        ("day", "i4"),
        ("positions", "i4"),
        ("fills", "i4"),
        ("trades", "i4"),
        ("days", "i4"),
        ("reserved", "i4"),
        ("order", "i8"),
        ("filled", "i8"),
        ("own_orders", "i8"),
        ("own_filled", "i8"),
        ("own_unfilled", "i8"),
        ("ex_rights", "i8"),
        ("no_reference_days", "i8"),
        ("odd_references", "i8"),
    ],
    align=True,
)
"""The account and the counters; ``bought`` to ``adjusted`` are of the day at hand."""

GROUP: Final = np.dtype(
    [
        ("day", "i4"),
        ("first_day", "i4"),
        ("last_ns", "i8"),
        ("edge", "i8"),
        ("stop", "i8"),
        ("auction_edge", "i8"),
        ("auction_stop", "i8"),
    ],
    align=True,
)
"""Instruments of one calendar: the day at hand, the latest time seen, which session edges are
theirs (``edge`` = -1: always open), and between which of the edges auctions may print."""

SETTINGS: Final = np.dtype(
    [
        ("latency_ns", "i8"),
        ("grace_ns", "i8"),
        ("max_hold_ns", "i8"),
        ("order_life_ns", "i8"),
        ("start_ns", "i8"),
        ("stop_ns", "i8"),
        ("amount", "f8"),
        ("leverage", "f8"),
        ("participation", "f8"),
        ("slip_amount", "f8"),
        ("slip_spread_bps", "f8"),
        ("slip_volatility", "f8"),
        ("slip_volume", "f8"),
        ("fill", "i4"),
        ("by", "i4"),
        ("slip", "i4"),
        ("both_ways", "i4"),
        ("max_positions", "i4"),
        ("entry_gtc", "i4"),
        ("exit_gtc", "i4"),
        ("ex_right", "i4"),
        ("sessions", "i4"),
        ("auctions", "i4"),
        ("limits", "i4"),
        ("reference", "i4"),
        ("settlement", "i4"),
        ("lots", "i4"),
        ("strategies", "i4"),
        ("reserved", "i4"),
    ],
    align=True,
)
"""BacktestConfig as numbers."""

FILL_KINDS: Final = ("open", "close", "vwap")
SIZINGS: Final = ("cash", "shares", "equity")
SLIPPAGES: Final = ("none", "ticks", "bps", "spread", "impact")
EX_RIGHTS: Final = ("off", "shares", "cash")
