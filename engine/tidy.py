"""Gives memory back that heaps keep after a peak; no timer in here."""

from collections.abc import Callable
from typing import Final

from engine.budget_readings import rss_bytes
from engine.process import give_free_memory_back

SLACK_BYTES: Final = 2 << 20


class Tidy:
    """Watches what the process has grown by since memory was last given back.

    After a peak, a backlog caught up with say, what is free lies between what is in use, and stays
    resident. A next peak does not fit into all of it, so that memory would grow for as long as
    there are peaks. Giving it back costs milliseconds; without a peak it is never done, and in the
    midst of one it would be of no use.

    Args:
        resident: Returns the resident memory, bytes.
        give_back: Gives back what is free.
    """

    def __init__(
        self,
        resident: Callable[[], int] = rss_bytes,
        give_back: Callable[[], object] = give_free_memory_back,
    ) -> None:
        self._resident = resident
        self._give_back = give_back
        self._least = resident()
        self._grown = False

    def look(self) -> None:
        """Give memory back if it was more by ``SLACK_BYTES`` at the last look and still is."""
        now = self._resident()
        self._least = min(self._least, now)
        grown = now > self._least + SLACK_BYTES
        if grown and self._grown:
            self._give_back()
            self._least = self._resident()
            grown = False
        self._grown = grown
