"""The recorded markets of the backtest comparisons: HEQIS's logs, and arrays for its peers."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import Bars, TickFlag, TickKind, Ticks
from replay.backtest.prepared import Prepared

DATA: Final = Path(__file__).resolve().parents[3] / "shared/data"
SHARES_FILE: Final = DATA / "cn_a_share_daily/daily_raw_511_symbols.parquet"
AIG_FILES: Final = tuple(
    DATA / "us_equity_tick" / f"aig_20131007_{kind}.zip" for kind in ("quote", "trade")
)
_ODD: Final = int(TickFlag.ODD_CONDITION | TickFlag.CROSSED)


class Imported(NamedTuple):
    """A log made of recorded data, and the seconds that took."""

    log: Path
    seconds: float


def import_log(kind: str, files: tuple[Path, ...], log: Path) -> Imported:
    """Import recorded files as a user would."""
    command = [sys.executable, "-m", "engine.cli", "import", kind, *map(str, files)]
    done = subprocess.run(
        [*command, "-o", str(log), "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    return Imported(log, float(json.loads(done.stdout)["wall_s"]))


def missing(files: tuple[Path, ...]) -> str:
    """Return which recorded files are not here, as text; empty if all are."""
    absent = [str(path) for path in files if not path.exists()]
    return f"recorded data is not here: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class DailyMarket:
    """Daily bars of many symbols.

    Attributes:
        symbols: By instrument.
        bars: BAR, shape (N,), by instrument and in each by time.
        starts: First row of each instrument's bars, and N; shape (I + 1,).
    """

    symbols: tuple[str, ...]
    bars: Bars
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, prepared: Prepared) -> "DailyMarket":
        """Lay a log's bars out by instrument."""
        bars = np.concatenate([segment.records for segment in prepared.segments])
        bars = bars[np.argsort(bars["instrument"], kind="stable")]
        count = len(prepared.instruments)
        starts = np.searchsorted(bars["instrument"], np.arange(count + 1))
        symbols = tuple(row["symbol"].decode() for row in prepared.instruments)
        return cls(symbols, bars, starts)

    def first(self, symbols: int) -> "DailyMarket":
        """Return the market of the first symbols."""
        stop = self.starts[symbols]
        return DailyMarket(self.symbols[:symbols], self.bars[:stop], self.starts[: symbols + 1])

    def of_symbol(self, instrument: int) -> Bars:
        """Return one instrument's bars."""
        return self.bars[self.starts[instrument] : self.starts[instrument + 1]]


@dataclass(frozen=True)
class TickMarket:
    """One instrument's quotes and trades, row by row.

    Attributes:
        ticks: TICK, shape (N,), from the first quote with two sides on.
        is_quote: Whether a row is a quote with two sides.
        bid: The book's bid as of each row.
        ask: Its ask.
        mid: The middle of both.
        ordered: The rows' times, ns, made unique: rows of one time are 1 ns apart.
        fitting: The first row, from each on, that HEQIS fills at: neither crossed nor marked as
            irregular; N if there is none.
    """

    ticks: Ticks
    is_quote: npt.NDArray[np.bool_]
    bid: npt.NDArray[np.float64]
    ask: npt.NDArray[np.float64]
    mid: npt.NDArray[np.float64]
    ordered: npt.NDArray[np.int64]
    fitting: npt.NDArray[np.int64]

    @classmethod
    def of(cls, prepared: Prepared) -> "TickMarket":
        """Lay a log's ticks out."""
        ticks = np.concatenate([segment.records for segment in prepared.segments])
        kinds = (ticks["kind"] == TickKind.QUOTE) | (ticks["kind"] == TickKind.TRADE)
        ticks = ticks[kinds]
        whole = (ticks["kind"] == TickKind.QUOTE) & (ticks["bid"] > 0) & (ticks["ask"] > 0)
        first = int(np.argmax(whole))
        ticks, whole = ticks[first:], whole[first:]
        rows = np.arange(len(ticks))
        latest = np.maximum.accumulate(np.where(whole, rows, 0))
        bid, ask = ticks["bid"][latest], ticks["ask"][latest]
        new = np.concatenate([[True], np.diff(ticks["ts_recv"]) > 0])
        ordered = ticks["ts_recv"] + rows - np.maximum.accumulate(np.where(new, rows, 0))
        fits = np.where(ticks["flags"] & _ODD == 0, rows, len(rows))
        fitting = np.minimum.accumulate(fits[::-1])[::-1]
        return cls(ticks, whole, bid, ask, 0.5 * (bid + ask), ordered, fitting)


def daily_frame(market: DailyMarket) -> Any:
    """Return all bars as one pandas frame, by symbol and day."""
    import pandas as pd

    names = ("instrument", "ts_open", "open", "high", "low", "close", "volume")
    frame = pd.DataFrame({name: market.bars[name].astype("f8") for name in names[2:]})
    frame.insert(0, "instrument", market.bars["instrument"].astype("i8"))
    frame.insert(1, "opened", pd.to_datetime(market.bars["ts_open"]))
    return frame
