"""Signals as a table: of a journal, or of a replay."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from engine.composition import Blueprint
from engine.core.errors import InputFileError, JournalError
from engine.core.signals import Signal
from engine.journal_store import DAMAGED
from engine.journal_verify import open_to_read
from replay.export.files import TableFile
from replay.export.table import Batch, Column, Kind, Table, text_column, time_column
from replay.player import Options, play

_SQLITE: Final = b"SQLite format 3\0"
_ROWS: Final = 4096
UNKNOWN: Final = -1
"""Stands for a time that was not measured."""

SIGNALS: Final = Table(
    (
        text_column("id", 32, "the same signal made twice has the same"),
        Column("epoch", "<u8", "", "of the signal stream"),
        Column("seq", "<u8", "", "counts the signals of an epoch from 1"),
        text_column("instrument", 32, "SYMBOL.VENUE"),
        text_column("side", 4, "BUY or SELL"),
        Column("strength", "<f8", "", "0 to 1"),
        Column("confidence", "<f8", "", "0 to 1"),
        Column("price", "<f8", "price", "reference price"),
        Column("edge_bps", "<f8", "bps", "the strategy's own expected move; NaN: none"),
        text_column("strategy", 48, "its name"),
        text_column("version", 48, "of the strategy"),
        Column("tick_epoch", "<u8", "", "of the record that caused it"),
        Column("tick_seq", "<u8", "", "of the record that caused it"),
        time_column("ts_event", "the venue's time of that record"),
        time_column("ts_recv", "when the gateway received it"),
        time_column("ts_emit", "when the signal left; virtual in a replay"),
        time_column("valid_until", "until when it may be acted on"),
        Column("age_ns", "<i8", "ns", "ts_emit less ts_event"),
        text_column("gates", 64, "the gates it passed, in order"),
        text_column("model", 160, "bundle that scored it; empty: none"),
        text_column("backend", 32, "library that scored it"),
        text_column("device", 32, "device that scored it"),
        text_column("precision", 8, "of the model"),
        Column("queue_ns", "<i8", "ns", "the request waited for its batch", null=UNKNOWN),
        Column("service_ns", "<i8", "ns", "its batch took", null=UNKNOWN),
        Column("late", "?", "", "made again after a restart", Kind.BOOL),
    ),
    {"table": "signals"},
)
_TEXTS: Final = (
    "id", "instrument", "side", "strategy", "version", "model", "backend", "device", "precision",
)  # fmt: skip
_PLAIN: Final = (
    "epoch", "seq", "strength", "confidence", "price", "tick_epoch", "tick_seq", "ts_event",
    "ts_recv", "ts_emit", "valid_until", "age_ns", "late",
)  # fmt: skip


def is_journal(path: Path) -> bool:
    """Return whether a file is an SQLite database."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def signal_rows(signals: Sequence[Signal]) -> Batch:
    """Return signals as rows of SIGNALS."""
    rows = SIGNALS.empty(len(signals))
    for name in _PLAIN:
        rows[name] = [getattr(one, name) for one in signals]
    for name in _TEXTS:
        rows[name] = [(getattr(one, name) or "").encode() for one in signals]
    rows["gates"] = [" ".join(one.gates).encode() for one in signals]
    rows["edge_bps"] = [float("nan") if s.edge_bps is None else s.edge_bps for s in signals]
    for name in ("queue_ns", "service_ns"):
        found = [getattr(one, name) for one in signals]
        rows[name] = [UNKNOWN if value is None else value for value in found]
    return rows


def write_journal(path: Path, file: TableFile) -> int:
    """Write a journal's signals by epoch and number; return how many damaged ones were left out.

    Raises:
        JournalError: it is no journal of this version, or cannot be read.
    """
    damaged = 0
    waiting: list[Signal] = []
    for signal in _journaled(path):
        if signal is None:
            damaged += 1
            continue
        waiting.append(signal)
        if len(waiting) >= _ROWS:
            file.write(signal_rows(waiting))
            waiting.clear()
    file.write(signal_rows(waiting))
    return damaged


def write_replay(logs: Sequence[Path], blueprint: Blueprint, file: TableFile) -> dict[str, int]:
    """Write the signals that a replay of logs makes, in order; return what is wrong with the logs.

    Raises:
        InputFileError, LogError: a log cannot be read, or there is nothing to replay.
    """
    waiting: list[Signal] = []

    def keep(signal: Signal) -> None:
        waiting.append(signal)
        if len(waiting) >= _ROWS:
            file.write(signal_rows(waiting))
            waiting.clear()

    result = play(logs, blueprint, Options(keep=keep))
    if not result.ticks + result.heartbeats + result.bar_records:
        source = ", ".join(map(str, logs))
        raise InputFileError(source, "it holds no tick and no bar; nothing was written")
    file.write(signal_rows(waiting))
    return result.bad_input


def _journaled(path: Path) -> Iterator[Signal | None]:
    decode = msgspec.json.Decoder(Signal).decode
    query = "SELECT crc, CAST(body AS BLOB) FROM signals ORDER BY epoch, seq"
    with closing(open_to_read(path)) as connection:
        try:
            for crc, body in connection.execute(query):
                whole = isinstance(body, bytes) and zlib.crc32(body) == crc
                yield decode(body) if whole else None
        except (*DAMAGED, sqlite3.Error) as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error
