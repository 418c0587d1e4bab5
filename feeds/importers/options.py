"""What a user may say about files to import, beyond their kind."""

from dataclasses import dataclass
from enum import StrEnum


class RecordKind(StrEnum):
    """What the rows of a generic CSV are."""

    TRADES = "trades"
    QUOTES = "quotes"
    SNAPSHOTS = "snapshots"
    BARS = "bars"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Settings of one import; "" means the importer's own default.

    Args:
        venue: The part after the dot of ``SYMBOL.VENUE``.
        symbol: The instrument; a generic CSV's may hold ``{member}`` or ``{tail}``.
        timezone: IANA name or ``UTC+hh:mm`` of times without a zone.
        columns: ``field=column,…`` for a generic CSV.
        time_format: How a generic CSV writes time.
        records: What the rows of a generic CSV are.
        header: Whether a generic CSV's first row names its columns.
        date: ``YYYYMMDD`` of a file whose rows hold only a time of day.
        session: ``HH:MM-HH:MM``, the trading day of dated bars of a generic CSV.
        bar_length_ns: Length of a generic CSV's bars, 0 if unknown.
        calendar: Trading calendar of a generic CSV's instruments.
        depth: Levels of the depth records to be made, 5 or 10, or 0 for none; None leaves it to the
            kind.
    """

    venue: str = ""
    symbol: str = ""
    timezone: str = ""
    columns: str = ""
    time_format: str = ""
    records: RecordKind = RecordKind.TRADES
    header: bool = True
    date: str = ""
    session: str = ""
    bar_length_ns: int = 0
    calendar: str = "24/7"
    depth: int | None = None
