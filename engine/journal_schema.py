"""The journal's tables, and the rows made of signals, refusals and events. Pure."""

import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from engine.core.signals import Refusal, Side, Signal
from engine.stream_ring import SignalEntry

RESTART_GATE: Final = "restart"
"""What stands for the gate in the refusal of a signal that expired while the engine was away."""

VERSION: Final = 2
"""``PRAGMA user_version`` of a journal with these tables."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signals (
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL UNIQUE,
    instrument TEXT NOT NULL, strategy TEXT NOT NULL, side TEXT NOT NULL, confidence REAL NOT NULL,
    tick_epoch INTEGER NOT NULL, tick_seq INTEGER NOT NULL,
    ts_event INTEGER NOT NULL, ts_emit INTEGER NOT NULL, valid_until INTEGER NOT NULL,
    crc INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL, instrument TEXT NOT NULL, strategy TEXT NOT NULL,
    side TEXT NOT NULL, gate TEXT NOT NULL, reason TEXT NOT NULL,
    nth INTEGER NOT NULL, tick_epoch INTEGER NOT NULL, tick_seq INTEGER NOT NULL,
    ts_event INTEGER NOT NULL, ts_refused INTEGER NOT NULL, detail TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY, ts INTEGER NOT NULL, kind TEXT NOT NULL, fields TEXT NOT NULL,
    crc INTEGER NOT NULL
);
"""
"""``crc`` is the CRC-32 of ``body``, the signal's JSON object, which says all that the row's other
columns say; of refusals and events it is ``crc_of`` their columns but ``row``. ``nth`` counts the
refusals of one reason since the engine started, sampled or not."""

OPERATOR_STATE: Final = "operator_state"
"""Kind of the event for what an operator has the risk gate allow."""
COMMANDED: Final = frozenset(
    {OPERATOR_STATE, "operator_command", "reload", "reload_refused", "halted"}
)
"""Kinds of events that tell what was commanded, and of a halt: they have a signal's room."""
LASTING: Final = OPERATOR_STATE
"""Kind of events of which the newest holds however old it is, and is not pruned."""
KEEP_LASTING: Final = (
    "INSERT INTO events SELECT NULL, ts, kind, fields, crc "
    "FROM (SELECT * FROM events ORDER BY row LIMIT ?1) "
    "WHERE kind = ?2 AND row = (SELECT max(row) FROM events WHERE kind = ?2)"
)
"""Writes the newest event of a kind once more, if it is among the oldest rows of all."""
INSERT_SIGNAL: Final = (
    "INSERT INTO signals VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
)
INSERT_REFUSAL: Final = "INSERT INTO refusals VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)"
INSERT_EVENT: Final = "INSERT INTO events VALUES (NULL,?,?,?,?)"
PUT_META: Final = "INSERT OR REPLACE INTO meta VALUES (?,?)"
SELECT_REACHED: Final = (
    "SELECT CAST(substr(one.key, 15) AS INTEGER), one.value, two.value FROM meta one JOIN meta two "
    "ON two.key = 'reached_seq_' || substr(one.key, 15) WHERE one.key GLOB 'reached_epoch_*'"
)
"""Gateway, epoch and next number."""

_COLUMNS: Final = "epoch, seq, crc, CAST(body AS BLOB) FROM signals"
SELECT_PAGE: Final = f"SELECT {_COLUMNS} WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?"
SELECT_PAST: Final = (
    f"SELECT {_COLUMNS} WHERE (epoch, seq) >= (?, ?) AND epoch < ? ORDER BY epoch, seq LIMIT ?"
)
SELECT_NEWEST: Final = f"SELECT {_COLUMNS} ORDER BY epoch DESC, seq DESC LIMIT ?"
SELECT_DECISIONS: Final = (
    "SELECT id, tick_epoch, tick_seq, ts_event FROM signals WHERE (epoch, seq) >= (?, ?) "
    "ORDER BY epoch DESC, seq DESC LIMIT ?"
)
SELECT_EXPIRED: Final = (
    "SELECT id, tick_epoch, tick_seq, ts_event FROM refusals WHERE gate = ? "
    "ORDER BY row DESC LIMIT ?"
)
SELECT_EVENTS: Final = "SELECT fields FROM events WHERE kind = ? ORDER BY row DESC LIMIT ?"
SELECT_BOUNDS: Final = "SELECT min(seq), max(seq) FROM signals WHERE epoch = ?"

Row = tuple[Any, ...]

_encode: Final = msgspec.json.Encoder().encode


def crc_of(*values: str | float) -> int:
    """Return the CRC-32 of a row's values, in the order of its columns."""
    return zlib.crc32(orjson.dumps(values))


class Decision(NamedTuple):
    """A signal that was journaled, as published or as expired during a restart."""

    id: str
    tick_epoch: int
    tick_seq: int
    ts_event: int


class SampledRefusal(Struct, frozen=True, gc=False):
    """A refusal chosen for the journal, the ``nth`` of its reason."""

    refusal: Refusal
    nth: int


class Event(Struct, frozen=True, gc=False):
    """Something that happened to the engine: a gap, a device, an operator's command, a state."""

    kind: str
    fields: str
    """A JSON object."""
    ts: int


class Reached(Struct, frozen=True, gc=False):
    """How far the engine has got in a gateway's stream; the newest holds."""

    gateway: int
    epoch: int
    next_seq: int


Record = Signal | SampledRefusal | Event | Reached


def signal_row(signal: Signal) -> Row:
    """Return the row of a signal."""
    body = _encode(signal)
    return (
        signal.epoch, signal.seq, signal.id, signal.instrument, signal.strategy, signal.side,
        signal.confidence, signal.tick_epoch, signal.tick_seq, signal.ts_event, signal.ts_emit,
        signal.valid_until, zlib.crc32(body), body.decode(),
    )  # fmt: skip


def reached_rows(reached: Reached) -> list[Row]:
    """Return the rows of a place, of the table ``meta``."""
    return [
        (f"reached_epoch_{reached.gateway}", reached.epoch),
        (f"reached_seq_{reached.gateway}", reached.next_seq),
    ]


def refusal_row(sampled: SampledRefusal) -> Row:
    """Return the row of a refusal."""
    refusal = sampled.refusal
    row = (
        refusal.id, refusal.instrument, refusal.strategy, refusal.side, refusal.gate,
        refusal.reason, sampled.nth, refusal.tick_epoch, refusal.tick_seq, refusal.ts_event,
        refusal.ts_refused, refusal.detail,
    )  # fmt: skip
    return (*row, crc_of(*row))


def make_event(kind: str, fields: Mapping[str, Any], ts: int) -> Event:
    """Return an event whose fields are already JSON; what JSON does not have becomes text."""
    return Event(kind, orjson.dumps(fields, default=str).decode(), ts)


def event_row(event: Event) -> Row:
    """Return the row of an event."""
    row = (event.ts, event.kind, event.fields)
    return (*row, crc_of(*row))


class _Told(Struct, gc=False):
    """What the stream's filters ask of a signal, read from its body."""

    epoch: int
    seq: int
    instrument: str
    strategy: str
    side: Side
    confidence: float


_read_told: Final = msgspec.json.Decoder(_Told).decode


def entry_of_row(row: sqlite3.Row | Row) -> SignalEntry | None:
    """Return the signal of a row of ``SELECT_PAGE`` or ``SELECT_NEWEST``; None if it is damaged."""
    epoch, seq, crc, body = row
    if not isinstance(body, bytes) or zlib.crc32(body) != crc:
        return None
    told = _read_told(body)
    if (told.epoch, told.seq) != (epoch, seq):
        return None
    return SignalEntry(epoch, seq, told.instrument, told.strategy, told.side, told.confidence, body)


class RefusalSampler:
    """Chooses which refusals are written: the first few of each reason, then every n-th.

    Reasons are a closed set of codes, so the counts are bounded.

    Args:
        first: Refusals of each reason that are all written.
        every: Of the later ones, one in so many.
    """

    def __init__(self, first: int, every: int) -> None:
        self._first = first
        self._every = every
        self._seen: dict[str, int] = {}

    def seen(self, reason: str) -> int:
        """Return how many refusals of a reason were counted."""
        return self._seen.get(reason, 0)

    def count(self, reason: str) -> int | None:
        """Count a refusal; return its number among those of its reason if it is to be written."""
        nth = self._seen.get(reason, 0) + 1
        self._seen[reason] = nth
        if nth <= self._first or (nth - self._first) % self._every == 0:
            return nth
        return None
