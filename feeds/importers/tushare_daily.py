"""Daily bars of Chinese shares with Tushare's ``daily`` columns, CSV or Parquet.

Columns: ts_code (000001.SZ), trade_date (yyyymmdd), open, high, low, close, pre_close (the
exchange's ex-right reference), vol (lots of 100 shares), amount (1,000 yuan); ``change`` and
``pct_chg`` follow from these and are not read. Prices are unadjusted.

Rules, one BAR a row:
- ``volume`` is in shares, ``turnover`` in yuan. The bar opens at 9:30 and closes at 15:00, Beijing.
- Bars are written by day, then by symbol, whatever the order of rows and files; 000001.SZ becomes
  000001.SZSE, .SH becomes .SSE, .BJ becomes .BSE. The board follows from the code; that a share is
  ST cannot be seen from it.
- Refused: a code or date that is none, text for a number, missing (NaN), negative or zero prices, a
  high below or a low above the other prices, a second row of one code and date (the first given
  counts). A missing ``pre_close`` is kept as unknown and noted, a day without volume is HALTED.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import Bars, Board, Instruments, empty_bars, instrument_row
from feeds.importers.bar_rules import BarShelf, mend_bars, refuse_bad_bars
from feeds.importers.columns import (
    ColumnBlock,
    floats,
    read_columns,
    require_columns,
    whole_numbers,
)
from feeds.importers.intake import LogIntake
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter, is_parquet, reading
from feeds.importers.report import ImportReport
from feeds.importers.zones import NS_PER_DAY, NS_PER_S, are_dates, day_start_ns

VENUES: Final = {"SZ": "SZSE", "SH": "SSE", "BJ": "BSE"}
SHARES_A_LOT: Final = 100.0
YUAN_A_UNIT: Final = 1000.0
OPEN_NS: Final = 34_200 * NS_PER_S
CLOSE_NS: Final = 54_000 * NS_PER_S
BEIJING_NS: Final = 8 * 3600 * NS_PER_S

_CODE: Final = re.compile(r"\d{6}\.(?:SZ|SH|BJ)")
_TEXT: Final = ("ts_code", "trade_date")
_NUMBERS: Final = ("open", "high", "low", "close", "pre_close", "vol", "amount")
_COLUMNS: Final = (*_TEXT, *_NUMBERS)
_BOARDS: Final = (
    ("SH", ("600", "601", "603", "605"), Board.CN_MAIN),
    ("SH", ("688", "689"), Board.CN_STAR),
    ("SZ", ("000", "001", "002", "003"), Board.CN_MAIN),
    ("SZ", ("300", "301", "302"), Board.CN_CHINEXT),
    ("BJ", ("4", "8", "92"), Board.CN_BEIJING),
)
_ROWS_AT_ONCE: Final = 65_536


def import_tushare_daily(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Put the daily bars of all files into the log in order.

    Raises:
        InputFileError: a file is damaged or lacks a column.
    """
    del options
    shelf = BarShelf(intake)
    for path in files:
        if is_parquet(path):
            blocks = _parquet_blocks(path, intake.report, meter)
        else:
            blocks = read_columns(path, _COLUMNS, (), intake.report, meter)
        for block in blocks:
            good, bars = _bars(block, intake)
            shelf.add(bars, block.rows[good], block.place)
    shelf.write(intake.report.instruments)


def board_of(code: str) -> Board:
    """Return the board of a code such as 300750.SZ; OTHER for indices, funds and B shares."""
    number, _, market = code.partition(".")
    for where, prefixes, board in _BOARDS:
        if market == where and number.startswith(prefixes):
            return board
    return Board.OTHER


def define_share(code: str) -> Instruments:
    """Make the definition of a share from its Tushare code, such as 000001.SZ."""
    number, _, market = code.partition(".")
    board = board_of(code)
    return instrument_row(
        f"{number}.{VENUES[market]}",
        board=board,
        calendar="XSHG",
        tick_size=0.01,
        lot=1.0 if board in (Board.CN_STAR, Board.CN_BEIJING) else SHARES_A_LOT,
        price_decimals=2,
        day_offset_s=BEIJING_NS // NS_PER_S,
    )


def _parquet_blocks(path: Path, report: ImportReport, meter: ByteMeter) -> Iterator[ColumnBlock]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = report.place(path)
    try:
        with reading(path):
            table = pq.ParquetFile(path)
            require_columns(path, _COLUMNS, table.schema_arrow.names)
            row = 1
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=list(_COLUMNS)):
                report.read(place, batch.num_rows)
                cells = {name: _as_text(batch.column(name)) for name in _COLUMNS}
                rows = np.arange(row, row + batch.num_rows)
                row += batch.num_rows
                yield ColumnBlock(cells, rows, place, "")
    except pa.ArrowException as error:
        raise InputFileError(path, f"damaged Parquet file: {error}") from None
    meter(path.stat().st_size)


def _as_text(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _bars(block: ColumnBlock, intake: LogIntake) -> tuple[npt.NDArray[np.bool_], Bars]:
    report = intake.report
    good = np.ones(len(block.rows), np.bool_)

    def refuse(reason: str, bad: npt.NDArray[np.bool_]) -> None:
        report.refuse(reason, block.place, block.rows[good & bad].tolist())
        good[bad] = False

    codes = block.cells["ts_code"]
    refuse("bad_code", np.array([_CODE.fullmatch(code) is None for code in codes], np.bool_))
    dates, no_date = whole_numbers(block.cells["trade_date"])
    refuse("bad_date", no_date | ~are_dates(dates))
    numbers = {name: floats(block.cells[name]) for name in _NUMBERS}
    for _, bad in numbers.values():
        refuse("not_a_number", bad)
    bars = _filled({name: values for name, (values, _) in numbers.items()})
    kept = refuse_bad_bars(bars[good], block.rows[good], block.place, report)
    good[good] = kept
    bars = bars[good]
    _stamp(bars, dates[good])
    bars["instrument"] = [intake.register(define_share(codes[i])) for i in np.flatnonzero(good)]
    mend_bars(bars, report, expect_pre_close=True)
    return good, bars


def _filled(numbers: dict[str, npt.NDArray[np.float64]]) -> Bars:
    bars = empty_bars(len(numbers["open"]))
    for name in ("open", "high", "low", "close", "pre_close"):
        bars[name] = numbers[name]
    bars["volume"] = numbers["vol"] * SHARES_A_LOT
    bars["turnover"] = numbers["amount"] * YUAN_A_UNIT
    return bars


def _stamp(bars: Bars, dates: npt.NDArray[np.int64]) -> None:
    found, where = np.unique(dates, return_inverse=True)
    starts = np.array([day_start_ns(int(date)) for date in found], np.int64)[where]
    bars["ts_open"] = starts + OPEN_NS - BEIJING_NS
    bars["ts_event"] = starts + CLOSE_NS - BEIJING_NS
    bars["session"] = starts // NS_PER_DAY
