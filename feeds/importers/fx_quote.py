"""FX and metal quotes, one zip a symbol, day and venue (Lean's layout).

Rows have no header: milliseconds since midnight (may have a fraction), bid, ask.

Rules, one record a row:
- The clock is the source's: FXCM's files stand at UTC-05:00 all year, OANDA's at UTC;
  ``--timezone`` says otherwise. A file of another venue needs it.
- There are no sizes: NO_SIZE. Crossed and locked quotes are kept and flagged; a price of 0 is a
  missing side (ONE_SIDED), a row with neither side is refused, ``no_side``.
- Rows between Friday 17:00 and Sunday 17:00 in New York are flagged OUT_OF_SESSION.
- Files are merged by time, in one instant by venue, then symbol, then row; the day of an instrument
  begins at 17:00 in New York, by the clock of its first file's date.
"""

from collections.abc import Iterator
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import (
    Board,
    Instruments,
    TickFlag,
    TickKind,
    empty_ticks,
    instrument_row,
)
from feeds.importers.day_ticks import parsed_blocks, stamp_times
from feeds.importers.intake import LogIntake
from feeds.importers.merging import Batch, Source, merge_sources
from feeds.importers.number_rows import RowParser
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.importers.tick_files import TickFile, in_day_order
from feeds.importers.zones import NS_PER_DAY, NS_PER_S, parse_zone, utc_offset_ns

ZONES: Final = {"FXCM": "UTC-05:00", "OANDA": "UTC"}
"""Where each venue's files' clock stands."""
_NEW_YORK: Final = "America/New_York"
_HOUR_NS: Final = 3600 * NS_PER_S
_PRICE_PLACES: Final = 8
_MS_AS_NS: Final = 6
_WEEK_NS: Final = 7 * NS_PER_DAY
_EPOCH_WEEKDAY_NS: Final = 3 * NS_PER_DAY
"""1970-01-01 was a Thursday: this much after the beginning of a week."""
_CLOSE_NS: Final = 4 * NS_PER_DAY + 17 * _HOUR_NS
_OPEN_NS: Final = 6 * NS_PER_DAY + 17 * _HOUR_NS


def import_fx_quotes(
    files: tuple[Path, ...], options: ImportOptions, intake: LogIntake, meter: ByteMeter
) -> None:
    """Merge quote zips of any symbols, venues and days into the log.

    Raises:
        InputFileError: a file is damaged, is of trades, or its name does not say what it holds.
    """
    sources = []
    for file in in_day_order(files):
        if file.kind != "quote":
            raise InputFileError(file.path, "is a trade file; fx-quote reads quotes")
        zone = _zone(file, options)
        instrument = intake.register(_definition(file, options))
        not_before = file.day_ns - utc_offset_ns(zone, file.day_ns)
        batches = partial(_quotes, file, zone, intake, meter, instrument)
        sources.append(Source(batches, not_before))
    for batch in merge_sources(sources):
        intake.ticks(batch)


def weekend(utc_ns: npt.NDArray[np.int64], new_york_offset_ns: int) -> npt.NDArray[np.bool_]:
    """Tell which times fall between Friday's close and Sunday's opening, 17:00 in New York."""
    of_week = (utc_ns + new_york_offset_ns + _EPOCH_WEEKDAY_NS) % _WEEK_NS
    return (of_week >= _CLOSE_NS) & (of_week < _OPEN_NS)


def _zone(file: TickFile, options: ImportOptions) -> tzinfo:
    name = options.timezone or ZONES.get(file.venue, "")
    if not name:
        known = ", ".join(ZONES)
        problem = f"where does the clock of {file.venue or 'this venue'} stand? known: {known}"
        raise InputFileError(file.path, f"{problem}; say --timezone UTC or another")
    return parse_zone(name)


def _new_york_offset_ns(file: TickFile) -> int:
    return utc_offset_ns(parse_zone(_NEW_YORK), file.day_ns + 12 * _HOUR_NS)


def _definition(file: TickFile, options: ImportOptions) -> Instruments:
    venue = options.venue or file.venue
    if not venue:
        raise InputFileError(file.path, "its name does not say the venue; give --venue")
    symbol = f"{options.symbol or file.symbol}.{venue}"
    coarse = file.symbol.endswith("JPY") or file.symbol.startswith(("XAU", "XAG"))
    day_offset_ns = _new_york_offset_ns(file) + 7 * _HOUR_NS
    return instrument_row(
        symbol,
        board=Board.FX,
        calendar="24/5",
        price_decimals=3 if coarse else 5,
        day_offset_s=day_offset_ns // NS_PER_S,
    )


def _quotes(
    file: TickFile,
    zone: tzinfo,
    intake: LogIntake,
    meter: ByteMeter,
    instrument: int,
) -> Iterator[Batch]:
    parser = RowParser(_MS_AS_NS, _PRICE_PLACES, _PRICE_PLACES)
    offset_ns = _new_york_offset_ns(file)
    floor_ns = 0
    for block in parsed_blocks(file.path, parser, intake.report, meter):
        ticks = empty_ticks(len(block.values))
        ticks["kind"] = TickKind.QUOTE
        ticks["instrument"] = instrument
        ticks["bid"] = block.values[:, 1] / 10.0**_PRICE_PLACES
        ticks["ask"] = block.values[:, 2] / 10.0**_PRICE_PLACES
        floor_ns = stamp_times(ticks, block.values[:, 0], file.day_ns, zone, floor_ns)
        closed = weekend(ticks["ts_event"], offset_ns)
        ticks["flags"][closed] |= np.uint16(TickFlag.OUT_OF_SESSION)
        places = np.full(len(ticks), block.place, np.int32)
        yield Batch(ticks, block.rows, places)
