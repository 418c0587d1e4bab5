"""Prunes a journal that no engine is writing, and makes its file as small as it can be."""

import sqlite3
import time
from pathlib import Path

from engine.core.errors import JournalError
from engine.journal_alarm import NS_PER_S
from engine.journal_retention import Retention
from engine.journal_store import JournalStore
from engine.stream_config import JournalConfig


async def prune_journal(path: Path, config: JournalConfig) -> dict[str, int]:
    """Apply retention, rebuild the file, and tell what came of it.

    A journal of an earlier version is brought up to this one. Whether it was closed in order, and
    where its sequence stands, stays as it was.

    Args:
        path: The journal.
        config: What is kept.

    Returns:
        ``pruned`` rows, ``bytes_before`` and ``bytes_after``.

    Raises:
        JournalError: an engine is writing it, it is no journal, or the disk refuses.
    """
    before = path.stat().st_size  # noqa: ASYNC240 - nothing else runs
    store = await JournalStore.open(path, config.busy_timeout / NS_PER_S)
    retention = Retention(store, config)
    try:
        await retention.apply(time.time_ns())
        await store.rebuild()
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be pruned: {error}") from error
    finally:
        await store.close()
    after = path.stat().st_size  # noqa: ASYNC240 - nothing else runs
    return {"pruned": retention.pruned, "bytes_before": before, "bytes_after": after}
