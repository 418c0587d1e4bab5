"""Puts ticks, raw lines and depth records into the log in the order in which they were taken."""

from typing import Final, NamedTuple

import numpy as np

from engine.core.records import TICK, TickKind
from feeds.books.depth_records import DepthRecords
from feeds.importers.intake import LogIntake
from feeds.importers.merging import Batch

ROWS_AT_ONCE: Final = 16_384
"""Rows and depth records held until they are cleaned and written together."""
TickFields = tuple[float, ...]
"""The fields of a TICK record in its order; the turnover of a trade may be left 0."""


class RawLine(NamedTuple):
    """A line kept as it came.

    Args:
        text: The line.
        ts_recv: When it was received, ns.
        place: The report's number of its file.
        row: Its number there.
        known: It is what its file was said to hold.
    """

    text: bytes
    ts_recv: int
    place: int
    row: int
    known: bool


class Interleaver:
    """Collects what an import makes and writes it some thousand at a time; call ``flush`` last.

    Args:
        intake: Where it goes.
    """

    def __init__(self, intake: LogIntake) -> None:
        self._intake = intake
        self._ticks: list[TickFields] = []
        self._rows: list[int] = []
        self._places: list[int] = []
        self._between: list[tuple[int, RawLine | DepthRecords]] = []

    def tick(self, fields: TickFields, place: int, row: int) -> None:
        """Take a tick and where it came from."""
        self._ticks.append(fields)
        self._places.append(place)
        self._rows.append(row)
        self._flush_if_full()

    def between(self, item: RawLine | DepthRecords | None) -> None:
        """Take what stands behind the ticks taken so far; None is nothing."""
        if item is not None:
            self._between.append((len(self._ticks), item))
            self._flush_if_full()

    def flush(self) -> None:
        """Clean and write what was taken, in order."""
        ticks = np.array(self._ticks, TICK)
        of_trading = np.isin(ticks["kind"], (TickKind.TRADE, TickKind.SNAPSHOT))
        with np.errstate(invalid="ignore", over="ignore"):
            turnover = np.where(of_trading, ticks["price"] * ticks["size"], 0.0)
        ticks["turnover"] = np.where(of_trading & np.isnan(turnover), 0.0, turnover)
        places = np.array(self._places, np.int32)
        kept, good = self._intake.screen(Batch(ticks, np.array(self._rows, np.int64), places))
        kept_before = np.concatenate(([0], np.cumsum(good)))
        done = 0
        for before, item in self._between:
            upto = int(kept_before[before])
            self._intake.write_screened(kept, done, upto)
            done = upto
            if isinstance(item, RawLine):
                self._intake.raw(*item[:4], known=item.known)
            else:
                self._intake.depth(item)
        self._intake.write_screened(kept, done, len(kept.ticks))
        for held in (self._ticks, self._rows, self._places, self._between):
            held.clear()

    def _flush_if_full(self) -> None:
        if len(self._ticks) + len(self._between) >= ROWS_AT_ONCE:
            self.flush()
