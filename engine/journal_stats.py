"""What is in a journal, for people and machines; reads only, beside a writing engine if need be."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from engine.core.errors import JournalError
from engine.journal_store import DAMAGED
from engine.journal_verify import open_to_read

_AGES: Final = {"signals": "ts_emit", "refusals": "ts_refused", "events": "ts"}


def journal_stats(path: Path) -> dict[str, Any]:
    """Return rows, epochs, times (ns), the commonest reasons and events, and bytes.

    Raises:
        JournalError: there is no such journal, it is none of this version, or it is damaged.
    """
    with closing(open_to_read(path)) as connection:
        try:
            facts = _facts(connection)
        except DAMAGED as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error
    log = path.with_name(path.name + "-wal")
    wal_bytes = log.stat().st_size if log.exists() else 0
    return {"path": str(path)} | facts | {"wal_bytes": wal_bytes}


def _facts(connection: sqlite3.Connection) -> dict[str, Any]:
    def grouped(query: str) -> dict[str, int]:
        return {str(key): int(count) for key, count in connection.execute(query)}

    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    facts: dict[str, Any] = {}
    for table, column in _AGES.items():
        query = f"SELECT count(*), min({column}), max({column}) FROM {table}"
        rows, first, last = connection.execute(query).fetchone()
        facts[table] = {"rows": rows, "first_ts": first, "last_ts": last}
    facts["epochs"] = grouped("SELECT epoch, count(*) FROM signals GROUP BY epoch")
    facts["strategies"] = grouped("SELECT strategy, count(*) FROM signals GROUP BY strategy")
    facts["reasons"] = grouped("SELECT reason, count(*) FROM refusals GROUP BY reason")
    facts["kinds"] = grouped("SELECT kind, count(*) FROM events GROUP BY kind")
    facts["bytes"] = pragma("page_count") * pragma("page_size")
    facts["free_bytes"] = pragma("freelist_count") * pragma("page_size")
    return facts
