"""What a journal tells of live sessions, read for a comparison. Reads only."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from engine.checkpoint import CHECKPOINT
from engine.core.errors import JournalError
from engine.core.signals import Signal
from engine.journal_schema import Row, crc_of
from engine.journal_store import DAMAGED
from engine.journal_verify import open_to_read
from engine.parts import CONFIGURED
from engine.restart import RECORDING

MAX_ROWS: Final = 5_000_000
"""Most signals, refusals and events each, of one comparison: what they say is held in memory."""
_LIVE: Final = "engine_live"
_STOPPED: Final = "engine_stopped"
_REFUSALS: Final = (
    "id, instrument, strategy, side, gate, reason, nth, tick_epoch, tick_seq, ts_event, "
    "ts_refused, detail"
)
_decode: Final = msgspec.json.Decoder(Signal).decode


class ToldRefusal(NamedTuple):
    """A refusal that was sampled into the journal, the ``nth`` of its reason in its life."""

    id: str
    instrument: str
    strategy: str
    side: str
    gate: str
    reason: str
    nth: int
    tick_epoch: int
    tick_seq: int
    ts_event: int
    ts_refused: int
    detail: str


class Event(NamedTuple):
    """One event."""

    ts: int
    kind: str
    fields: dict[str, Any]


class Told(msgspec.Struct):
    """Everything that a journal tells of the streams of a recording.

    Attributes:
        path: The journal.
        signals: By id, in the order in which they were journaled.
        refusals: By id; what was refused again after a restart stands as it was first.
        rows: The refusals in the order of the journal.
        events: All, oldest first.
    """

    path: Path
    signals: dict[str, Signal]
    refusals: dict[str, ToldRefusal]
    rows: list[ToldRefusal]
    events: list[Event]

    def of(self, kind: str) -> list[Event]:
        """Return the events of a kind, oldest first."""
        return [event for event in self.events if event.kind == kind]

    @property
    def sessions(self) -> set[int]:
        """The sessions whose recording the journal knows of."""
        return {event.fields.get("session", 0) for event in self.of(RECORDING)}

    def configured(self, session: int) -> dict[str, Any] | None:
        """Return what a session's configuration came to; None if it did not say."""
        return self._last_of(CONFIGURED, session)

    def live(self, session: int) -> dict[str, Any] | None:
        """Return the facts of how a session went live; None if it did not say."""
        return self._last_of(_LIVE, session)

    def checkpoints(self, session: int) -> list[dict[str, Any]]:
        """Return a session's checkpoints, in their order."""
        found = [event.fields for event in self.of(CHECKPOINT)]
        return [one for one in found if (one.get("recording") or {}).get("session") == session]

    def ended(self, session: int) -> bool:
        """Tell whether a session's life ended in order, with all that it decided journaled."""
        its_own = False
        for event in self.events:
            if event.kind == RECORDING:
                its_own = event.fields.get("session") == session
            elif event.kind == _STOPPED and its_own:
                return True
        return False

    def reached(self) -> dict[int, int]:
        """Return, by stream epoch, the number up to which something is known of live."""
        found: dict[int, int] = {}
        decided: list[Signal | ToldRefusal] = [*self.signals.values(), *self.rows]
        for one in decided:
            found[one.tick_epoch] = max(found.get(one.tick_epoch, 0), one.tick_seq)
        for event in self.of(CHECKPOINT):
            for _, epoch, next_seq in event.fields.get("streams", ()):
                found[epoch] = max(found.get(epoch, 0), next_seq - 1)
        return found

    def _last_of(self, kind: str, session: int) -> dict[str, Any] | None:
        found = [one.fields for one in self.of(kind) if one.fields.get("session") == session]
        return found[-1] if found else None


def read_told(path: Path, epochs: Sequence[int]) -> Told:
    """Read a journal.

    Args:
        path: The journal; an engine may be writing it.
        epochs: Stream epochs of the recording; of other streams only events are read.

    Raises:
        JournalError: there is none, it is none of this version, is damaged, or is too large.
    """
    with closing(open_to_read(path)) as connection:
        try:
            return _read(connection, path, epochs)
        except DAMAGED as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error


def find_signal(path: Path, identity: str) -> Signal:
    """Return the signal of an id, or the one whose id begins like this.

    Raises:
        JournalError: there is none, there are several, or the journal cannot be read.
    """
    with closing(open_to_read(path)) as connection:
        try:
            rows = connection.execute(
                "SELECT crc, CAST(body AS BLOB), epoch, seq FROM signals WHERE id GLOB ? LIMIT 2",
                (f"{identity}*",),
            ).fetchall()
        except DAMAGED as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise JournalError(f"{path}: there is no signal {identity}; `heqis tail` shows ids")
    if len(rows) > 1:
        raise JournalError(f"{path}: several signals begin with {identity}; give more of the id")
    return _signal_of(path, rows[0])


def _read(connection: sqlite3.Connection, path: Path, epochs: Sequence[int]) -> Told:
    marks = ",".join("?" * len(epochs))
    where = f"WHERE tick_epoch IN ({marks})"
    signals = connection.execute(
        f"SELECT crc, CAST(body AS BLOB), epoch, seq FROM signals {where} ORDER BY epoch, seq "
        "LIMIT ?", (*epochs, MAX_ROWS + 1),
    )  # fmt: skip
    refusals = connection.execute(
        f"SELECT {_REFUSALS}, crc, row FROM refusals {where} ORDER BY row LIMIT ?",
        (*epochs, MAX_ROWS + 1),
    )
    told = {one.id: one for one in (_signal_of(path, row) for row in _bounded(path, signals))}
    rows = [_refusal_of(path, row) for row in _bounded(path, refusals)]
    by_id: dict[str, ToldRefusal] = {}
    for one in rows:
        by_id.setdefault(one.id, one)
    events = connection.execute(
        "SELECT ts, kind, fields, crc, row FROM events ORDER BY row LIMIT ?", (MAX_ROWS + 1,)
    )
    return Told(path, told, by_id, rows, [_event_of(path, row) for row in _bounded(path, events)])


def _bounded(path: Path, rows: sqlite3.Cursor) -> Iterator[Row]:
    for count, row in enumerate(rows):
        if count >= MAX_ROWS:
            raise JournalError(f"{path}: more than {MAX_ROWS:,} rows; compare a shorter recording")
        yield row


def _signal_of(path: Path, row: Row) -> Signal:
    crc, body, epoch, seq = row
    if not isinstance(body, bytes) or zlib.crc32(body) != crc:
        raise _damaged(path, f"signals {epoch}/{seq}")
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise _damaged(path, f"signals {epoch}/{seq}") from error


def _refusal_of(path: Path, row: Row) -> ToldRefusal:
    *columns, crc, number = row
    try:
        if crc_of(*columns) == crc:
            return ToldRefusal(*columns)
    except orjson.JSONEncodeError:
        pass
    raise _damaged(path, f"refusals {number}")


def _event_of(path: Path, row: Row) -> Event:
    ts, kind, fields, crc, number = row
    try:
        if crc_of(ts, kind, fields) == crc:
            return Event(ts, kind, orjson.loads(fields))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        pass
    raise _damaged(path, f"events {number}")


def _damaged(path: Path, place: str) -> JournalError:
    return JournalError(f"{path}: {place} is damaged; `heqis journal verify` lists what is")


class Unsampled:
    """Knows for which reasons something may have been refused without a row of its own.

    Refusals of one reason are counted from 1 in each life; the first few are all journaled, then
    one in so many. So two rows whose counts are not neighbours tell that others came between.

    Args:
        rows: The refusals in the order of the journal.
        first: Refusals of each reason that are all written.
    """

    def __init__(self, rows: Sequence[ToldRefusal], first: int) -> None:
        self._spans: dict[str, list[tuple[int, int]]] = {}
        last: dict[str, ToldRefusal] = {}
        for row in rows:
            before = last.get(row.reason)
            if (before is not None and row.nth > before.nth + 1) or (
                before is not None and row.nth <= before.nth and before.nth >= first
            ):
                self._add(row.reason, before.ts_event, row.ts_event)
            last[row.reason] = row
        for reason, row in last.items():
            if row.nth >= first:
                self._add(reason, row.ts_event, 1 << 63)

    def reasons(self, ts_ns: int, slack_ns: int) -> list[str]:
        """Return for which reasons something may have been refused about an event time, ns."""
        return [
            reason
            for reason, spans in self._spans.items()
            if any(start - slack_ns <= ts_ns <= stop + slack_ns for start, stop in spans)
        ]

    def _add(self, reason: str, start: int, stop: int) -> None:
        self._spans.setdefault(reason, []).append((start, stop))
