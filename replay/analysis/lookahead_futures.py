"""Other futures of a log: the same records up to a cut, and something else from there on. Pure.

``truncated``: nothing follows. ``shifted``: every instrument's records take the values of its next
ones, so that what stood one record further on comes at once; times stay. ``mirrored``: prices are
reflected in the first one after the cut and raised by a hundredth, so that every rise becomes a
fall and no price stays; sides change.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import ALL_INSTRUMENTS, Schema, TickKind
from replay.analysis.lookahead_tape import Tape

Records = npt.NDArray[np.void]
Future = Callable[[Tape, int], Tape]

_TICK_VALUES: Final = (
    "price", "size", "turnover", "bid", "ask", "bid_size", "ask_size", "side", "flags",
)  # fmt: skip
_BAR_VALUES: Final = (
    "open", "high", "low", "close", "volume", "turnover", "buy_volume", "sell_volume", "ofi",
    "bid", "ask", "bid_size", "ask_size", "pre_close", "flags", "trades",
)  # fmt: skip
_TICK_PRICES: Final = ("price", "bid", "ask")
_BAR_PRICES: Final = ("open", "high", "low", "close", "bid", "ask", "pre_close")
_TICK_SWAPS: Final = (("bid", "ask"), ("bid_size", "ask_size"))
_BAR_SWAPS: Final = (*_TICK_SWAPS, ("high", "low"), ("buy_volume", "sell_volume"))
_RAISE: Final = 1.01
_BAR_TIMES: Final = ("ts_open", "ts_event", "ts_recv")
_DAY_NS: Final = 86_400 * 10**9
_SHARED: Final = (int(TickKind.HEARTBEAT), int(TickKind.GAP))


def truncated(tape: Tape, cut: int) -> Tape:
    """Return the records before the cut; none lie in memory behind them."""
    ticks, bars = tape.split(cut)
    return tape.with_records(tape.ticks[:ticks].copy(), tape.bars[:bars].copy())


def shifted(tape: Tape, cut: int) -> Tape:
    """Return a tape whose records from the cut on have the values of the instrument's next."""
    return _changed(tape, cut, _shift_ticks, _shift_bars)


def mirrored(tape: Tape, cut: int) -> Tape:
    """Return a tape whose prices from the cut on are reflected, sides and sizes swapped."""
    return _changed(tape, cut, _mirror_ticks, _mirror_bars)


FUTURES: Final[Mapping[str, Future]] = {
    "truncated": truncated,
    "shifted": shifted,
    "mirrored": mirrored,
}


def moved(tape: Tape, by_ns: int) -> Tape:
    """Return the same market at another time."""
    ticks, bars = tape.ticks.copy(), tape.bars.copy()
    for records, names in ((ticks, ("ts_event", "ts_recv")), (bars, _BAR_TIMES)):
        for name in names:
            records[name] += by_ns
    bars["session"] += by_ns // _DAY_NS
    return tape.with_records(ticks, bars)


def only(tape: Tape, instrument: int) -> Tape:
    """Return the records of one instrument, and those that concern all."""
    ticks = np.isin(tape.ticks["instrument"], (instrument, ALL_INSTRUMENTS))
    bars = tape.bars["instrument"] == instrument
    kept = {Schema.TICK: _before(ticks), Schema.BAR: _before(bars)}
    spans = [
        span
        if span.schema == Schema.INSTRUMENTS
        else span._replace(
            start=int(kept[span.schema][span.start]), stop=int(kept[span.schema][span.stop])
        )
        for span in tape.spans
    ]
    return replace(
        tape,
        ticks=tape.ticks[ticks],
        bars=tape.bars[bars],
        tick_origins=tape.tick_origins[ticks],
        bar_origins=tape.bar_origins[bars],
        spans=tuple(spans),
    )


def _before(kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many are kept before each place and before the end, shape (N + 1,)."""
    return np.concatenate([[0], np.cumsum(kept)])


def _changed(
    tape: Tape, cut: int, of_ticks: Callable[[Records], None], of_bars: Callable[[Records], None]
) -> Tape:
    at_tick, at_bar = tape.split(cut)
    ticks, bars = tape.ticks.copy(), tape.bars.copy()
    of_ticks(ticks[at_tick:])
    of_bars(bars[at_bar:])
    return tape.with_records(ticks, bars)


def _shift_ticks(future: Records) -> None:
    own = np.flatnonzero(~np.isin(future["kind"], _SHARED))
    group = future["instrument"][own].astype(np.int64) * 8 + future["kind"][own]
    _shift(future, own, group, _TICK_VALUES)


def _shift_bars(future: Records) -> None:
    _shift(future, np.arange(len(future)), future["instrument"].astype(np.int64), _BAR_VALUES)


def _shift(
    future: Records,
    own: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    names: tuple[str, ...],
) -> None:
    """Give each record the values of the next of its group; the last keeps its own."""
    order = own[np.argsort(group, kind="stable")]
    sorted_group = np.sort(group)
    followed = np.flatnonzero(sorted_group[1:] == sorted_group[:-1])
    for name in names:
        values = future[name][order]
        values[followed] = values[followed + 1]
        future[name][order] = values


def _mirror_ticks(future: Records) -> None:
    quoted = 0.5 * (future["bid"] + future["ask"])
    first = np.where(future["price"] > 0.0, future["price"], quoted)
    own = ~np.isin(future["kind"], _SHARED) & (future["instrument"] != ALL_INSTRUMENTS)
    _mirror(future, first, own, _TICK_PRICES, _TICK_SWAPS)
    future["side"] *= -1


def _mirror_bars(future: Records) -> None:
    _mirror(future, future["open"].copy(), np.ones(len(future), bool), _BAR_PRICES, _BAR_SWAPS)
    future["ofi"] *= -1.0


def _mirror(
    future: Records,
    price: npt.NDArray[np.float64],
    own: npt.NDArray[np.bool_],
    names: tuple[str, ...],
    swaps: tuple[tuple[str, str], ...],
) -> None:
    """Replace p by RAISE * a * a / p, a being the first price of its instrument here."""
    known = np.flatnonzero(own & (price > 0.0))
    who, first = np.unique(future["instrument"][known], return_index=True)
    if not len(who):
        return
    place = np.clip(np.searchsorted(who, future["instrument"]), 0, len(who) - 1)
    anchor = np.where(who[place] == future["instrument"], price[known][first][place], np.nan)
    for name in names:
        values = future[name]
        change = own & (values > 0.0) & ~np.isnan(anchor)
        values[change] = _RAISE * anchor[change] ** 2 / values[change]
    for one, other in swaps:
        future[one], future[other] = future[other].copy(), future[one].copy()
