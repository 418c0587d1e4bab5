"""Names the instruments of a DBN file: symbol, venue, board and trading day."""

from typing import Any, Final, NamedTuple

from engine.core.records import Board, instrument_row
from feeds.importers.dbn_reading import DbnFile
from feeds.importers.intake import LogIntake
from feeds.importers.options import ImportOptions
from feeds.importers.zones import NS_PER_DAY, NS_PER_S, parse_zone, utc_offset_ns


class _Market(NamedTuple):
    board: Board
    calendar: str
    zone: str
    day_opens_h: int
    """Hours from the day's beginning to midnight: 7 where it begins at 17:00 the day before."""


_CME: Final = _Market(Board.FUTURES, "CMES", "America/Chicago", 7)
_US: Final = _Market(Board.US_EQUITY, "XNYS", "America/New_York", 0)
_OTHER: Final = _Market(Board.OTHER, "24/7", "UTC", 0)
_MARKETS: Final = {
    "GLBX": _CME,
    **dict.fromkeys(
        ("XNAS", "XNYS", "XASE", "ARCX", "BATS", "BATY", "EDGA", "EDGX", "IEXG", "MEMX", "EPRL",
         "XBOS", "XPSX", "XCHI", "XCIS", "DBEQ", "EQUS"),
        _US,
    ),
}  # fmt: skip
"""By the data set's code before its dot."""
_MOST_DECIMALS: Final = 9


class InstrumentNames:
    """Registers the instruments of one file as they come up.

    Args:
        file: The file, being read.
        options: May say symbol, venue and calendar.
        intake: Where they are registered.

    Attributes:
        day_offset_ns: Added to UTC so that whole days are the market's trading days; by its clock
            on the day of the instrument registered last.
    """

    def __init__(self, file: DbnFile, options: ImportOptions, intake: LogIntake) -> None:
        self._file = file
        self._options = options
        self._intake = intake
        self._numbers: dict[str, int] = {}
        self.day_offset_ns = 0

    def number(self, found: Any, ts_recv: int) -> int:
        """Return the id of a record's instrument, -1 if its symbol is not known or cannot be."""
        symbol = self._options.symbol or self._file.symbols.symbol(found.instrument_id, ts_recv)
        if not symbol:
            return -1
        known = self._numbers.get(symbol)
        if known is None:
            known = self._numbers[symbol] = self._register(symbol, found, ts_recv)
        return known

    def _register(self, symbol: str, found: Any, ts_recv: int) -> int:
        code = self._file.dataset.partition(".")[0]
        market = _MARKETS.get(code, _OTHER)
        options = self._options
        offset_ns = utc_offset_ns(parse_zone(market.zone), ts_recv // NS_PER_DAY * NS_PER_DAY)
        self.day_offset_ns = offset_ns + market.day_opens_h * 3600 * NS_PER_S
        try:
            row = instrument_row(
                symbol if "." in options.symbol else f"{symbol}.{options.venue or code}",
                board=market.board,
                calendar=market.calendar if options.calendar == "24/7" else options.calendar,
                price_decimals=_decimals(getattr(found, "price", getattr(found, "close", 0))),
                day_offset_s=self.day_offset_ns // NS_PER_S,
            )
        except ValueError:
            return -1
        return self._intake.register(row)


def _decimals(fixed: int) -> int:
    """Return how many decimals a price has that is given in billionths, at least two."""
    digits = f"{abs(fixed) % 10**_MOST_DECIMALS:0{_MOST_DECIMALS}d}".rstrip("0")
    return min(max(len(digits), 2), _MOST_DECIMALS)
