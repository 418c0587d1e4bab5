"""CFFEX stock index futures: half-second snapshots as decoded CSV, plain or compressed.

Columns are found by name: exchg, code, price, upper_limit, lower_limit, volume, turn_over,
pre_settle, trading_date, action_date (both yyyymmdd), action_time (HHMMSSmmm), bid1, bid1_qty,
ask1, ask1_qty; others are not read. Times are Beijing's.

Rules, one SNAPSHOT a row:
- ``size`` is the row's volume in contracts, ``turnover`` its turn_over divided by the contract
  multiplier, so that turnover / size is a price. A volume of 0 is a change of the book alone.
- A bid or ask of 0 is a missing side (ONE_SIDED); a row with neither side nor price is refused.
- Rows outside the sessions are kept and flagged OUT_OF_SESSION, those of the opening auction (the
  five minutes before the first session) AUCTION as well. A session's last snapshot is stamped
  just after its end: the first second after it still belongs to it. Sessions are 9:30 to 11:30 and
  13:00 to 15:00, before 2016 9:15 to 11:30 and 13:00 to 15:15.
- The instrument's limits and reference price (the settlement of the day before, of which the
  limits are made) are those of the row's trading date, rounded to one decimal; a new date defines
  the instrument anew.
- Products other than IF, IH, IC and IM, other exchanges, and rows whose date, time or numbers do
  not parse are refused. Without a receive time ``ts_recv`` is ``ts_event``, or that of the row
  before where time steps back (TIME_BACK).
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.records import (
    Board,
    Instruments,
    TickFlag,
    TickKind,
    Ticks,
    empty_ticks,
    instrument_row,
)
from feeds.importers.columns import ColumnBlock, floats, read_columns, whole_numbers
from feeds.importers.intake import LogIntake
from feeds.importers.merging import Batch, Source, merge_sources
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.importers.report import ImportReport
from feeds.importers.zones import NS_PER_S, are_dates, day_start_ns, local_to_utc_ns, parse_zone

MULTIPLIERS: Final = {"IF": 300.0, "IH": 300.0, "IC": 200.0, "IM": 200.0}
"""Yuan an index point."""
TICK_SIZE: Final = 0.2
PRICE_DECIMALS: Final = 1
_ZONE: Final = "Asia/Shanghai"
_TEXT: Final = ("exchg", "code")
_WHOLE: Final = ("trading_date", "action_date", "action_time")
_NUMBERS: Final = (
    "price", "upper_limit", "lower_limit", "volume", "turn_over", "pre_settle", "bid1",
    "bid1_qty", "ask1", "ask1_qty",
)  # fmt: skip
_CODE: Final = re.compile(r"(?:IF|IH|IC|IM)[0-9A-Za-z.]{0,20}")
_GRACE_NS: Final = NS_PER_S
_AUCTION_NS: Final = 300 * NS_PER_S
_NEW_HOURS: Final = 20_160_101
_MINUTE_NS: Final = 60 * NS_PER_S


class _Rows(NamedTuple):
    numbers: dict[str, npt.NDArray[np.float64]]
    dates: npt.NDArray[np.int64]
    trading_dates: npt.NDArray[np.int64]
    of_day_ns: npt.NDArray[np.int64]


def import_cffex_ticks(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge snapshot files of any contracts and days into the log by time.

    Raises:
        InputFileError: a file is damaged or lacks a column.
    """
    sources = [Source(partial(_batches, path, options, intake, meter)) for path in files]
    for batch in merge_sources(sources):
        intake.ticks(batch)


def of_day_ns(hhmmssmmm: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return nanoseconds since midnight of HHMMSSmmm, -1 where that is no time, shape (N,)."""
    millis, seconds = hhmmssmmm % 1000, hhmmssmmm // 1000 % 100
    minutes, hours = hhmmssmmm // 100_000 % 100, hhmmssmmm // 10_000_000
    good = (hhmmssmmm >= 0) & (hours < 24) & (minutes < 60) & (seconds < 60)
    whole_s = (hours * 60 + minutes) * 60 + seconds
    return np.where(good, whole_s * NS_PER_S + millis * 1_000_000, -1)


def session_flags(
    dates: npt.NDArray[np.int64], times_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint16]:
    """Return OUT_OF_SESSION and AUCTION flags of rows, shape (N,).

    Args:
        dates: yyyymmdd.
        times_ns: Nanoseconds since midnight in Beijing.
    """
    new = dates >= _NEW_HOURS
    opens = np.where(new, 570, 555) * _MINUTE_NS
    closes = np.where(new, 900, 915) * _MINUTE_NS + _GRACE_NS
    morning = (times_ns >= opens) & (times_ns < 690 * _MINUTE_NS + _GRACE_NS)
    afternoon = (times_ns >= 780 * _MINUTE_NS) & (times_ns < closes)
    auction = (times_ns >= opens - _AUCTION_NS) & (times_ns < opens)
    outside = np.where(morning | afternoon, 0, int(TickFlag.OUT_OF_SESSION))
    flags: npt.NDArray[np.uint16] = (outside | np.where(auction, int(TickFlag.AUCTION), 0)).astype(
        np.uint16
    )
    return flags


def _batches(
    path: Path, options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> Iterator[Batch]:
    report = intake.report
    zone = parse_zone(options.timezone or _ZONE)
    defined: dict[str, int] = {}
    floor_ns = 0
    for raw in read_columns(path, (*_TEXT, *_WHOLE, *_NUMBERS), (), report, meter):
        block, rows = _checked(raw, report)
        ticks = _snapshots(block, rows)
        if not len(ticks):
            continue
        day_ns = np.array([day_start_ns(int(date)) for date in np.unique(rows.dates)])
        starts = day_ns[np.unique(rows.dates, return_inverse=True)[1]]
        ticks["ts_event"] = local_to_utc_ns(starts + rows.of_day_ns, zone)
        ticks["ts_recv"] = np.maximum(np.maximum.accumulate(ticks["ts_event"]), floor_ns)
        floor_ns = int(ticks["ts_recv"][-1])
        yield from _by_day(block, rows, ticks, options, intake, defined)


def _checked(block: ColumnBlock, report: ImportReport) -> tuple[ColumnBlock, _Rows]:
    good = np.ones(len(block.rows), np.bool_)

    def refuse(reason: str, bad: npt.NDArray[np.bool_]) -> None:
        report.refuse(reason, block.place, block.rows[good & bad].tolist())
        good[bad] = False

    exchanges, codes = (block.cells[name] for name in _TEXT)
    refuse("other_exchange", np.array([text != "CFFEX" for text in exchanges], np.bool_))
    refuse("unknown_product", np.array([_CODE.fullmatch(code) is None for code in codes], np.bool_))
    whole = {name: whole_numbers(block.cells[name]) for name in _WHOLE}
    numbers = {name: floats(block.cells[name]) for name in _NUMBERS}
    for _, bad in (*whole.values(), *numbers.values()):
        refuse("not_a_number", bad)
    for name in ("trading_date", "action_date"):
        refuse("bad_date", ~are_dates(whole[name][0]))
    times = of_day_ns(whole["action_time"][0])
    refuse("bad_time", times < 0)
    return block.only(good), _Rows(
        {name: values[good] for name, (values, _) in numbers.items()},
        whole["action_date"][0][good],
        whole["trading_date"][0][good],
        times[good],
    )


def _snapshots(block: ColumnBlock, rows: _Rows) -> Ticks:
    numbers = rows.numbers
    ticks = empty_ticks(len(block.rows))
    ticks["kind"] = TickKind.SNAPSHOT
    multiplier = np.array([MULTIPLIERS[code[:2]] for code in block.cells["code"]], np.float64)
    ticks["price"], ticks["size"] = numbers["price"], numbers["volume"]
    ticks["turnover"] = numbers["turn_over"] / multiplier
    ticks["bid"], ticks["bid_size"] = numbers["bid1"], numbers["bid1_qty"]
    ticks["ask"], ticks["ask_size"] = numbers["ask1"], numbers["ask1_qty"]
    ticks["flags"] = session_flags(rows.dates, rows.of_day_ns)
    return ticks


def _by_day(
    block: ColumnBlock,
    rows: _Rows,
    ticks: Ticks,
    options: ImportOptions,
    intake: LogIntake,
    defined: dict[str, int],
) -> Iterator[Batch]:
    """Split a block where the contract or its trading date changes; define it anew there."""
    codes = np.array(block.cells["code"])
    changes = (codes[1:] != codes[:-1]) | (rows.trading_dates[1:] != rows.trading_dates[:-1])
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(ticks)]
    for start, stop in pairwise(bounds):
        code, date = str(codes[start]), int(rows.trading_dates[start])
        definition = _definition(code, rows, start, options)
        ticks["instrument"][start:stop] = intake.register(definition)
        news = defined.get(code) != date
        defined[code] = date
        yield Batch(
            ticks[start:stop],
            block.rows[start:stop],
            np.full(stop - start, block.place, np.int32),
            (definition,) if news else (),
        )


def _definition(code: str, rows: _Rows, at: int, options: ImportOptions) -> Instruments:
    def known(name: str) -> float:
        value = round(float(rows.numbers[name][at]), PRICE_DECIMALS)
        return value if value > 0 else float("nan")

    return instrument_row(
        f"{code}.{options.venue or 'CFFEX'}",
        board=Board.FUTURES,
        calendar="XSHG",
        tick_size=TICK_SIZE,
        lot=1.0,
        multiplier=MULTIPLIERS[code[:2]],
        price_decimals=PRICE_DECIMALS,
        pre_close=known("pre_settle"),
        limit_up=known("upper_limit"),
        limit_down=known("lower_limit"),
        day_offset_s=8 * 3600,
    )
