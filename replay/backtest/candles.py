"""Candles of the instruments a report draws, out of the logs that were traded.

The interval is found on the way: it begins with a second and grows whenever an instrument would
have more candles than are wanted, so a minute of ticks and twenty years of days both fit a screen.
"""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Instruments, Schema, TickKind
from feeds.log_reader import LogReader
from replay.bursts import Burst, LogBursts, MergedBursts

MOST: Final = 1_500
"""Most candles of an instrument."""
_SECOND_NS: Final = 10**9
_DAY_S: Final = 86_400
_LADDER_S: Final = (1, 5, 15, 60, 300, 900, 1_800, 3_600, 14_400, _DAY_S, 7 * _DAY_S, 28 * _DAY_S)
"""Each a multiple of the one before, so that candles add up to candles."""
_ORIGIN_NS: Final = 4 * _DAY_S * _SECOND_NS
"""The first Monday of the epoch: weeks begin there, and so do days."""
_CANDLE: Final = np.dtype(
    [("slot", "<i8"), *((name, "<f8") for name in ("open", "high", "low", "close", "volume"))]
)
_TRADED: Final = (int(TickKind.TRADE), int(TickKind.SNAPSHOT))


class Candles(NamedTuple):
    """One instrument's candles.

    Attributes:
        interval_s: Length of each.
        rows: Structured: slot, open, high, low, close, volume; shape (N,), in order of time.
    """

    interval_s: int
    rows: npt.NDArray[np.void]

    def starts_ns(self) -> npt.NDArray[np.int64]:
        """Return when each begins, shape (N,)."""
        starts: npt.NDArray[np.int64] = self.rows["slot"] * self._interval_ns + _ORIGIN_NS
        return starts

    def at(self, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return in which candle each time lies, the nearest before it if in none; from 0."""
        slots = (times_ns - 1 - _ORIGIN_NS) // self._interval_ns
        found = np.searchsorted(self.rows["slot"], slots, side="right") - 1
        return np.maximum(found, 0)

    @property
    def _interval_ns(self) -> int:
        return self.interval_s * _SECOND_NS


class CandleMaker:
    """Grows one instrument's candles from prices in order of time.

    Args:
        most: Most candles that are kept; a longer interval is taken where there would be more.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rung = 0
        self._rows = np.zeros(0, _CANDLE)

    def lengthen(self, length_ns: int) -> None:
        """Take no interval shorter than this, but none longer than a day for its sake."""
        while _LADDER_S[self._rung] * _SECOND_NS < length_ns and _LADDER_S[self._rung] < _DAY_S:
            self._climb()

    def add(self, times_ns: npt.NDArray[np.int64], rows: npt.NDArray[np.void]) -> None:
        """Take in more prices.

        Args:
            times_ns: Of each row, shape (N,).
            rows: Candles of no length; ``slot`` is set here.
        """
        rows["slot"] = (times_ns - 1 - _ORIGIN_NS) // (_LADDER_S[self._rung] * _SECOND_NS)
        self._rows = _merge(np.concatenate((self._rows, _merge(rows))))
        while len(self._rows) > self._most and self._rung + 1 < len(_LADDER_S):
            self._climb()

    def _climb(self) -> None:
        self._rung += 1
        self._rows["slot"] //= _LADDER_S[self._rung] // _LADDER_S[self._rung - 1]
        self._rows = _merge(self._rows)

    def done(self) -> Candles:
        """Return what there is."""
        return Candles(_LADDER_S[self._rung], self._rows)


def candles_of(
    logs: Sequence[Path], symbols: Collection[str], most: int = MOST
) -> dict[str, Candles]:
    """Read logs and return the candles of some instruments, those without a price left out.

    Ticks give candles of trades, and of mids until the instrument first trades.

    Args:
        logs: Tick or bar logs; several are merged by time.
        symbols: Which instruments.
        most: Most candles of each.

    Raises:
        InputFileError: a log that is missing or none.
    """
    wanted: dict[int, str] = {}

    def define(instruments: Instruments) -> None:
        names = {int(row["id"]): row["symbol"].decode() for row in instruments}
        wanted.update({at: name for at, name in names.items() if name in symbols})

    makers = {symbol: CandleMaker(most) for symbol in symbols}
    traded: set[int] = set()
    with ExitStack() as stack:
        readers = [stack.enter_context(LogReader(path)) for path in logs]
        bursts: LogBursts | MergedBursts = (
            LogBursts(readers[0], 4096, define)
            if len(readers) == 1
            else MergedBursts(readers, define)
        )
        for burst in bursts:
            for instrument, symbol in wanted.items():
                _take(makers[symbol], burst, instrument, traded)
    made = {symbol: maker.done() for symbol, maker in makers.items()}
    return {symbol: candles for symbol, candles in made.items() if len(candles.rows)}


def _take(maker: CandleMaker, burst: Burst, instrument: int, traded: set[int]) -> None:
    records = burst.records[: burst.size]
    records = records[records["instrument"] == instrument]
    if not len(records):
        return
    if burst.schema == Schema.BAR:
        rows = np.zeros(len(records), _CANDLE)
        for name in ("open", "high", "low", "close", "volume"):
            rows[name] = records[name]
        times = records["ts_event"]
        maker.lengthen(int((times - records["ts_open"]).max()))
    else:
        rows, times = _prices(records, instrument, traded)
    sound = np.isfinite(rows["close"])
    if sound.any():
        maker.add(times[sound], rows[sound])


def _prices(
    ticks: npt.NDArray[np.void], instrument: int, traded: set[int]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    is_trade = np.isin(ticks["kind"], _TRADED) & np.isfinite(ticks["price"])
    if is_trade.any():
        traded.add(instrument)
    if instrument in traded:
        ticks = ticks[is_trade]
        price, volume = ticks["price"], ticks["size"]
    else:
        ticks = ticks[ticks["kind"] == TickKind.QUOTE]
        price, volume = (ticks["bid"] + ticks["ask"]) / 2.0, np.zeros(len(ticks))
    rows = np.zeros(len(ticks), _CANDLE)
    for name in ("open", "high", "low", "close"):
        rows[name] = price
    rows["volume"] = volume
    return rows, ticks["ts_recv"]


def _merge(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Make one candle of all of a slot."""
    if len(rows) < 2:
        return rows
    rows = rows[np.argsort(rows["slot"], kind="stable")]
    first = np.flatnonzero(np.concatenate(([True], rows["slot"][1:] != rows["slot"][:-1])))
    last = np.concatenate((first[1:], [len(rows)])) - 1
    merged = rows[first].copy()
    merged["high"] = np.maximum.reduceat(rows["high"], first)
    merged["low"] = np.minimum.reduceat(rows["low"], first)
    merged["volume"] = np.add.reduceat(rows["volume"], first)
    merged["close"] = rows["close"][last]
    return merged
