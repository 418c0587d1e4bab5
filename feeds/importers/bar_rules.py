"""The rules bars from outside must keep, and how they are put in order and written."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Bars, TickFlag
from feeds.importers.intake import LogIntake
from feeds.importers.report import ImportReport

_PRICES: Final = ("open", "high", "low", "close")
NO_PRE_CLOSE: Final = "no_pre_close"


def refuse_bad_bars(
    bars: Bars, rows: npt.NDArray[np.int64], place: int, report: ImportReport
) -> npt.NDArray[np.bool_]:
    """Refuse bars by the first rule they break; tell which remain, shape (N,).

    nan: a price, the volume or the turnover is missing or not finite. negative: one is below 0.
    zero_price: a price is 0. bad_range: the high is below, or the low above, another price.

    Args:
        bars: BAR, shape (N,).
        rows: Row number of each, shape (N,).
        place: The report's number of their place.
        report: Counts the refusals.
    """
    prices = np.stack([bars[name] for name in _PRICES])
    amounts = np.vstack([prices, bars["volume"], bars["turnover"]])
    with np.errstate(invalid="ignore"):
        rules = {
            "nan": ~np.isfinite(amounts).all(axis=0),
            "negative": (amounts < 0).any(axis=0),
            "zero_price": (prices == 0).any(axis=0),
            "bad_range": (bars["high"] < prices.max(axis=0)) | (bars["low"] > prices.min(axis=0)),
        }
    good = np.ones(len(bars), np.bool_)
    for reason, broken in rules.items():
        report.refuse(reason, place, rows[good & broken].tolist())
        good &= ~broken
    return good


def mend_bars(bars: Bars, report: ImportReport, *, expect_pre_close: bool) -> None:
    """Write an unusable ``pre_close`` as NaN, noted; flag bars without volume HALTED.

    Args:
        bars: Good bars, BAR, shape (N,), written.
        report: Counts what was missing.
        expect_pre_close: Whether the source is one that gives it.
    """
    with np.errstate(invalid="ignore"):
        missing = ~((bars["pre_close"] > 0) & np.isfinite(bars["pre_close"]))
    bars["pre_close"][missing] = np.nan
    if expect_pre_close and missing.any():
        report.notes[NO_PRE_CLOSE] += int(np.count_nonzero(missing))
    bars["flags"][bars["volume"] == 0] |= np.uint16(TickFlag.HALTED)
    bars["count"] = 1


class BarShelf:
    """Holds the good bars of all files and writes them in order of close time, then instrument.

    Whole in memory: bars are few beside ticks, and files of bars come in any order.

    Args:
        intake: Where they go.
    """

    def __init__(self, intake: LogIntake) -> None:
        self._intake = intake
        self._bars: list[Bars] = []
        self._rows: list[npt.NDArray[np.int64]] = []
        self._places: list[npt.NDArray[np.int32]] = []

    def add(self, bars: Bars, rows: npt.NDArray[np.int64], place: int) -> None:
        """Keep bars of one place, shape (N,); ``ts_recv`` becomes ``ts_event``."""
        bars["ts_recv"] = bars["ts_event"]
        self._bars.append(bars)
        self._rows.append(rows)
        self._places.append(np.full(len(bars), place, np.int32))

    def write(self, names: list[str]) -> None:
        """Refuse second bars of one instrument and time, ``duplicate_row``; write the others.

        Args:
            names: What orders instruments at one time, by id.
        """
        if not self._bars:
            return
        bars, rows = np.concatenate(self._bars), np.concatenate(self._rows)
        places = np.concatenate(self._places)
        by_name = np.argsort(np.argsort(np.array(names)))
        order = np.lexsort((by_name[bars["instrument"]], bars["ts_event"]))
        bars, rows, places = bars[order], rows[order], places[order]
        again = np.zeros(len(bars), np.bool_)
        again[1:] = (bars["ts_event"][1:] == bars["ts_event"][:-1]) & (
            bars["instrument"][1:] == bars["instrument"][:-1]
        )
        for place, row in zip(places[again].tolist(), rows[again].tolist(), strict=True):
            self._intake.report.refuse("duplicate_row", place, (row,))
        self._intake.bars(bars[~again], places[~again])
