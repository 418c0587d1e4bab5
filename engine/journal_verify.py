"""Reads a whole journal and checks it: the file, every row's checksum, the order, the ids.

Reads only, and in pieces, so that it may run beside an engine that writes: a long read would keep
the engine's checkpoints waiting.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import orjson

from engine.core.errors import JournalError
from engine.core.signals import Signal
from engine.journal_schema import VERSION, Row, crc_of, signal_row
from engine.journal_store import DAMAGED, read_uri

PAGE_ROWS: Final = 5_000
MAX_LISTED: Final = 1_000
INTEGRITY_PROBLEMS: Final = 100

_NAMES: Final = (
    "epoch", "seq", "id", "instrument", "strategy", "side", "confidence", "tick_epoch", "tick_seq",
    "ts_event", "ts_emit", "valid_until",
)  # fmt: skip
_decode: Final = msgspec.json.Decoder(Signal).decode


class Problem(NamedTuple):
    """One thing that is not as it was written."""

    place: str
    """The table and the row, or the file."""
    problem: str


class SignalRange(msgspec.Struct, frozen=True):
    """The signals of one epoch."""

    epoch: int
    first_seq: int
    last_seq: int
    rows: int


class JournalReport(msgspec.Struct):
    """What a check found; ``listed`` holds at most 1,000 problems, ``problems`` counts all."""

    path: str
    version: int = VERSION
    signals: int = 0
    refusals: int = 0
    events: int = 0
    epochs: list[SignalRange] = []
    clean: bool = False
    """Whether the journal was closed in order; not so while an engine writes it."""
    problems: int = 0
    listed: list[Problem] = []

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, place: str, problem: str) -> None:
        """Count a problem, and list it if there is room."""
        self.problems += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(Problem(place, problem))


def verify(path: Path) -> JournalReport:
    """Check a journal.

    Raises:
        JournalError: there is none, or it is none of this version.
    """
    report = JournalReport(str(path))
    with closing(open_to_read(path)) as connection:
        checks = (_check_file, _check_signals, _check_refusals, _check_events, _check_end)
        for check in checks:
            try:
                check(connection, report)
            except DAMAGED as error:
                report.add("file", str(error))
    return report


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a journal for reading only.

    Raises:
        JournalError: there is none, or it is none of this version.
    """
    if not path.is_file():
        raise JournalError(f"{path}: there is no such journal")
    connection = sqlite3.connect(read_uri(path), uri=True)
    connection.text_factory = _read_text
    try:
        [(version,)] = connection.execute("PRAGMA user_version")
    except DAMAGED as error:
        connection.close()
        raise JournalError(f"{path}: cannot be read as a journal: {error}") from error
    if version != VERSION:
        connection.close()
        raise JournalError(
            f"{path}: journal version {version}, this program reads {VERSION}; "
            "an engine, or `heqis journal prune`, brings an older one up to date"
        )
    return connection


def _read_text(data: bytes) -> str:
    return data.decode(errors="replace")


def _check_file(connection: sqlite3.Connection, report: JournalReport) -> None:
    for (text,) in connection.execute(f"PRAGMA integrity_check({INTEGRITY_PROBLEMS})"):
        if text != "ok":
            report.add("file", text)


def _check_signals(connection: sqlite3.Connection, report: JournalReport) -> None:
    """Check each signal against its checksum and its columns, and that none is missing."""
    epoch, first, last, rows = -1, 0, 0, 0
    for row in _signals(connection):
        _check_signal(row, report)
        if row[0] != epoch:
            _note_epoch(report, epoch, first, last, rows)
            epoch, first, last, rows = row[0], row[1], row[1] - 1, 0
        if row[1] != last + 1:
            report.add(f"signals {epoch}/{last + 1}", f"{row[1] - last - 1} missing")
        last, rows = row[1], rows + 1
    _note_epoch(report, epoch, first, last, rows)
    twice = "SELECT id, count(*) FROM signals GROUP BY id HAVING count(*) > 1 LIMIT ?"
    for signal_id, count in connection.execute(twice, (MAX_LISTED,)):
        report.add(f"signals {signal_id}", f"the id is there {count} times")


def _note_epoch(report: JournalReport, epoch: int, first: int, last: int, rows: int) -> None:
    if rows:
        report.epochs.append(SignalRange(epoch, first, last, rows))
        report.signals += rows


def _check_signal(row: Row, report: JournalReport) -> None:
    place = f"signals {row[0]}/{row[1]}"
    body = row[-1]
    if not isinstance(body, bytes) or zlib.crc32(body) != row[-2]:
        report.add(place, "the checksum is wrong")
        return
    try:
        told = signal_row(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        report.add(place, f"is no signal: {error}")
        return
    for name, value, true in zip(_NAMES, row, told, strict=False):
        if value != true:
            report.add(place, f"{name} is {value!r} in its column and {true!r} in its body")


def _check_refusals(connection: sqlite3.Connection, report: JournalReport) -> None:
    columns = (
        "id, instrument, strategy, side, gate, reason, nth, tick_epoch, tick_seq, ts_event, "
        "ts_refused, detail"
    )
    report.refusals = _check_table(connection, report, "refusals", columns)


def _check_events(connection: sqlite3.Connection, report: JournalReport) -> None:
    report.events = _check_table(connection, report, "events", "ts, kind, fields")


def _check_table(
    connection: sqlite3.Connection, report: JournalReport, table: str, columns: str
) -> int:
    last, rows = 0, 0
    for row in _numbered(connection, table, columns):
        if rows and row[0] != last + 1:
            report.add(f"{table} {last + 1}", f"{row[0] - last - 1} missing")
        if not _is_whole(row):
            report.add(f"{table} {row[0]}", "the checksum is wrong")
        last, rows = row[0], rows + 1
    return rows


def _is_whole(row: Row) -> bool:
    try:
        return bool(crc_of(*row[1:-1]) == row[-1])
    except orjson.JSONEncodeError:  # a value of a type that was never written
        return False


def _check_end(connection: sqlite3.Connection, report: JournalReport) -> None:
    """After a stop in order, the last signal is the one before the next number."""
    meta: dict[str, int] = dict(connection.execute("SELECT key, CAST(value AS INTEGER) FROM meta"))
    report.clean = bool(meta.get("clean"))
    newest = report.epochs[-1] if report.epochs else None
    if not report.clean or newest is None or newest.epoch != meta.get("epoch"):
        return
    missing = meta.get("next_seq", 1) - 1 - newest.last_seq
    if missing > 0:
        report.add(f"signals {newest.epoch}/{newest.last_seq + 1}", f"{missing} missing at the end")


def _signals(connection: sqlite3.Connection) -> Iterator[Row]:
    columns = ("CAST(epoch AS INTEGER)", "CAST(seq AS INTEGER)", *_NAMES[2:])
    query = (
        f"SELECT {', '.join(columns)}, crc, CAST(body AS BLOB) FROM signals "
        "WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?"
    )
    return _paged(connection, query, (-1, -1))


def _numbered(connection: sqlite3.Connection, table: str, columns: str) -> Iterator[Row]:
    query = f"SELECT row, {columns}, crc FROM {table} WHERE row > ? ORDER BY row LIMIT ?"
    return _paged(connection, query, (-1,))


def _paged(connection: sqlite3.Connection, query: str, place: tuple[int, ...]) -> Iterator[Row]:
    """Yield rows after a place, a page at a time; their first columns are their place."""
    while page := connection.execute(query, (*place, PAGE_ROWS)).fetchall():
        yield from page
        reached: tuple[int, ...] = page[-1][: len(place)]
        if reached <= place:
            raise sqlite3.DatabaseError(f"rows are out of order after {place}")
        place = reached
