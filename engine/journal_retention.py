"""What leaves the journal, and when: rows by number, age and bytes, then free pages to the disk.

In small transactions, with queued rows written between two of them. The newest ``resume_signals``
are a promise to clients that resume: neither age nor bytes touch them.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from engine.journal_store import JournalStore
from engine.stream_config import JournalConfig

TABLES: Final = ("refusals", "events", "signals")
VACUUM_PAGES: Final = 256
"""Free pages given back in one transaction: a megabyte."""
RESERVE_SHARE: Final = 8
"""One page in so many may stay free: what is pruned is soon written again."""


async def no_writes() -> None:
    """Write nothing between two transactions."""


class Retention:
    """Keeps one journal within its bounds.

    Args:
        store: The open journal.
        config: What is kept.
        write_queued: Called between two transactions, so that rows do not wait for a long prune.

    Attributes:
        pruned: Rows removed so far.
        freed_bytes: Bytes of the file returned to the disk so far.
    """

    def __init__(
        self,
        store: JournalStore,
        config: JournalConfig,
        write_queued: Callable[[], Awaitable[None]] = no_writes,
    ) -> None:
        self.pruned = 0
        self.freed_bytes = 0
        self._store = store
        self._config = config
        self._write_queued = write_queued

    def reconfigure(self, config: JournalConfig) -> None:
        """Go by other bounds from the next time on."""
        self._config = config

    async def apply(self, now_wall_ns: int) -> None:
        """Remove what is too much, too old or too large, and return what became free.

        Raises:
            sqlite3.Error: the journal cannot be written; what is done is done.
        """
        config = self._config
        for table in TABLES:
            await self._prune_number(table, await self._store.excess(table, self._keep(table)))
            if config.keep_age is not None:
                await self._prune_age(table, now_wall_ns - config.keep_age)
        if config.keep_bytes is not None:
            await self._prune_bytes(config.keep_bytes)
        await self._give_back()

    def _keep(self, table: str) -> int:
        config = self._config
        keep = {
            "signals": config.keep_signals,
            "refusals": config.keep_refusals,
            "events": config.keep_events,
        }
        return keep[table]

    async def _removable(self, table: str) -> int:
        promised = self._config.resume_signals if table == "signals" else 0
        return await self._store.excess(table, promised)

    async def _prune_number(self, table: str, excess: int) -> None:
        while excess > 0:
            count = min(excess, self._config.prune_rows)
            await self._remove(table, count, None)
            excess -= count

    async def _prune_age(self, table: str, before_wall_ns: int) -> None:
        left = await self._removable(table)
        while left > 0:
            count = min(left, self._config.prune_rows)
            if await self._remove(table, count, before_wall_ns) < count:
                return
            left -= count

    async def _prune_bytes(self, keep_bytes: int) -> None:
        """Remove the oldest rows of every table in turn until what is left fits."""
        left = {table: await self._removable(table) for table in TABLES}
        while any(left.values()) and await self._used_bytes() > keep_bytes:
            for table in TABLES:
                count = min(left[table], self._config.prune_rows)
                if count:
                    await self._remove(table, count, None)
                    left[table] -= count

    async def _remove(self, table: str, count: int, before_wall_ns: int | None) -> int:
        removed = await self._store.remove_oldest(table, count, before_wall_ns)
        self.pruned += removed
        await self._write_queued()
        return removed

    async def _used_bytes(self) -> int:
        pages, free, page_bytes = await self._store.pages()
        return (pages - free) * page_bytes

    async def _give_back(self) -> None:
        while True:
            pages, free, page_bytes = await self._store.pages()
            excess = free - max(VACUUM_PAGES, pages // RESERVE_SHARE)
            if excess <= 0:
                return
            await self._store.give_back(min(excess, VACUUM_PAGES))
            left, _, _ = await self._store.pages()
            if left >= pages:  # a journal that was never rebuilt cannot give back
                return
            self.freed_bytes += (pages - left) * page_bytes
            await self._write_queued()
