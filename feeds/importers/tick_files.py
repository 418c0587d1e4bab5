"""What the name of a daily tick file says: whose it is, of which day, and what its rows are.

Two ways of naming are known: ``[venue_]symbol_yyyymmdd_{quote,trade}.zip``, and the folders of
QuantConnect's Lean, ``…/market/tick/symbol/yyyymmdd_{quote,trade}.zip``.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

from engine.core.errors import InputFileError
from feeds.importers.zones import day_start_ns

_NAME: Final = re.compile(
    r"(?:(?:(?P<venue>[A-Za-z0-9]+)_)?(?P<symbol>[A-Za-z0-9.\-]+)_)?"
    r"(?P<date>\d{8})_(?P<kind>quote|trade)(?:[._].*)?",
    re.IGNORECASE,
)


class TickFile(NamedTuple):
    """One file of one instrument, day and kind of row.

    Args:
        path: The file.
        symbol: In capitals, without venue.
        venue: In capitals, "" if the name does not say.
        day_ns: Midnight of its date as if UTC.
        kind: What its rows are.
    """

    path: Path
    symbol: str
    venue: str
    day_ns: int
    kind: Literal["quote", "trade"]


def parse_tick_file(path: Path) -> TickFile:
    """Read a file's name.

    Raises:
        InputFileError: the name is of neither kind, or holds no date.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        expected = "SYMBOL_yyyymmdd_quote.zip, SYMBOL_yyyymmdd_trade.zip"
        raise InputFileError(path, f"its name must say symbol, date and kind, as in {expected}")
    folders = [parent.name for parent in path.absolute().parents]
    in_folder = match["symbol"] is None
    symbol = folders[0] if in_folder else match["symbol"]
    venue = folders[2] if in_folder and len(folders) > 2 else match["venue"] or ""
    try:
        day_ns = day_start_ns(int(match["date"]))
    except ValueError:
        raise InputFileError(path, f"its name holds no date: {match['date']}") from None
    kind: Literal["quote", "trade"] = "quote" if match["kind"].lower() == "quote" else "trade"
    return TickFile(path, symbol.upper(), venue.upper(), day_ns, kind)


def in_day_order(files: tuple[Path, ...]) -> list[TickFile]:
    """Return the files by day, venue and symbol, trades before quotes, whatever order was given.

    Raises:
        InputFileError: a name says too little, or two files are of the same thing.
    """
    named = sorted(
        (parse_tick_file(path) for path in files),
        key=lambda file: (file.day_ns, file.venue, file.symbol, file.kind != "trade"),
    )
    for file, other in pairwise(named):
        if file[1:] == other[1:]:
            raise InputFileError(other.path, f"is of the same symbol, day and kind as {file.path}")
    return named
