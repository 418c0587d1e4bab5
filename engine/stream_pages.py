"""Reads pages of older signals from the journal, each once for all who ask for it.

When an engine has been away for longer than the ring reaches back, every client asks for the same
signals at the same moment. A read for each would take longer than the ring takes to move on.
"""

import asyncio
from collections import OrderedDict
from typing import Final, Protocol

from engine.core.errors import JournalError
from engine.stream_ring import SignalEntry

MAX_PAGES: Final = 16
"""Pages kept; the one unused for longest goes."""

Page = list[SignalEntry]


class SignalStore(Protocol):
    """Where signals older than the ring are read from; the journal is one."""

    async def read_published(self, epoch: int, from_seq: int, limit: int) -> Page:
        """Return what is kept of an epoch's signals from ``from_seq`` on, in order."""
        ...

    async def read_past(self, epoch: int, from_seq: int, before_epoch: int, limit: int) -> Page:
        """Return what is kept from a place on, up to an epoch that is not wanted, in order."""
        ...

    async def read_newest(self, limit: int) -> Page:
        """Return the last signals of any epoch, oldest first."""
        ...


class PageReader:
    """Reads pages, and keeps the last few; owned by the loop thread.

    Kept is only what cannot change any more: pages of earlier epochs, and full ones of this.

    Args:
        store: Where from; without one every page is empty.
        epoch: The stream's epoch.
        rows: Most signals of a page.
        counters: Counts ``page_reads``, and ``page_errors``: such a page is empty.
    """

    def __init__(
        self, store: SignalStore | None, epoch: int, rows: int, counters: dict[str, int]
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._rows = rows
        self._counters = counters
        self._kept: OrderedDict[tuple[int, int], Page] = OrderedDict()

    def reconfigure(self, rows: int) -> None:
        """Read pages of another size from now on."""
        if rows != self._rows:
            self._rows = rows
            self._kept.clear()

    async def read(self, epoch: int, from_seq: int) -> Page:
        """Return signals in order, up to a page of them from a place on.

        Of this epoch, what lies up to a page before the place may stand before it. The loop has
        its turn in every call.

        Args:
            epoch: This one, or an earlier one: then signals of the epochs between follow too.
            from_seq: Number of the first signal that is wanted.
        """
        rows = self._rows
        begin = from_seq - (from_seq - 1) % rows if epoch == self._epoch else from_seq
        page = self._kept.get((epoch, begin))
        if page is not None:
            self._kept.move_to_end((epoch, begin))
            await asyncio.sleep(0)
            return page
        if self._store is None:
            await asyncio.sleep(0)
            return []
        self._counters["page_reads"] += 1
        try:
            if epoch == self._epoch:
                page = await self._store.read_published(epoch, begin, rows)
            else:
                page = await self._store.read_past(epoch, begin, self._epoch, rows)
        except JournalError:
            self._counters["page_errors"] += 1
            return []
        if rows == self._rows and (epoch != self._epoch or len(page) == rows):
            self._keep((epoch, begin), page)
        return page

    def _keep(self, place: tuple[int, int], page: Page) -> None:
        self._kept[place] = page
        if len(self._kept) > MAX_PAGES:
            self._kept.popitem(last=False)
