"""Runs an import of any kind: files in, one log and its report out."""

import time
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final

from feeds.importers.intake import LogIntake
from feeds.importers.options import ImportOptions
from feeds.importers.reading import ByteMeter
from feeds.importers.report import ImportReport

Importer = Callable[[tuple[Path, ...], ImportOptions, LogIntake, ByteMeter], None]


class ImportKind(StrEnum):
    """The kinds of recorded data that can be imported."""

    BINANCE_RAW = "binance-raw"
    US_EQUITY_TICK = "us-equity-tick"
    FX_QUOTE = "fx-quote"
    CFFEX_TICK = "cffex-tick"
    TUSHARE_DAILY = "tushare-daily"
    CSV = "csv"
    DBN = "dbn"
    EVENT_ARRAY = "event-array"


_IMPORTERS: Final[dict[ImportKind, tuple[str, str]]] = {
    ImportKind.BINANCE_RAW: ("binance_raw", "import_binance_raw"),
    ImportKind.US_EQUITY_TICK: ("us_equity_tick", "import_us_equity_ticks"),
    ImportKind.FX_QUOTE: ("fx_quote", "import_fx_quotes"),
    ImportKind.CFFEX_TICK: ("cffex_tick", "import_cffex_ticks"),
    ImportKind.TUSHARE_DAILY: ("tushare_daily", "import_tushare_daily"),
    ImportKind.CSV: ("csv_columns", "import_csv"),
    ImportKind.DBN: ("dbn", "import_dbn"),
    ImportKind.EVENT_ARRAY: ("event_array", "import_event_arrays"),
}


def import_files(
    kind: ImportKind,
    files: tuple[Path, ...],
    output: Path,
    options: ImportOptions | None = None,
    meter: ByteMeter = lambda _: None,
) -> ImportReport:
    """Import files into a new log.

    Args:
        kind: What the files are.
        files: The input, at least one.
        output: The log to make; must not exist.
        options: What the user said beyond that.
        meter: Told how far the input has been read.

    Raises:
        UserError: a file, a setting or the output cannot be used; nothing is left behind.
        LogError: the log cannot be written.
    """
    started = time.perf_counter()
    report = ImportReport(str(kind), files, output)
    module, name = _IMPORTERS[kind]
    importer: Importer = getattr(import_module(f"feeds.importers.{module}"), name)
    with LogIntake(output, report) as intake:
        importer(files, options or ImportOptions(), intake, meter)
        intake.finish()
    report.wall_s = time.perf_counter() - started
    return report
