"""Brings a journal of an earlier version up to this one, in one transaction: all of it or none."""

from typing import Final

import aiosqlite

from engine.journal_schema import VERSION, crc_of

_STEPS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        "ALTER TABLE refusals ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE events ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
        "UPDATE refusals SET crc = crc_of(id, instrument, strategy, side, gate, reason, nth, "
        "tick_epoch, tick_seq, ts_event, ts_refused, detail)",
        "UPDATE events SET crc = crc_of(ts, kind, fields)",
    ),
}
"""Statements that make a journal of one version one of the next."""


async def migrate(writer: aiosqlite.Connection, version: int) -> None:
    """Take a journal from ``version`` to this program's.

    Raises:
        sqlite3.Error: it could not be done; the journal is as it was.
    """
    await writer.create_function("crc_of", -1, crc_of, deterministic=True)
    await writer.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, VERSION):
            for statement in _STEPS[step]:
                await writer.execute(statement)
        await writer.execute(f"PRAGMA user_version = {VERSION}")
        await writer.commit()
    except BaseException:
        await writer.rollback()
        raise
