"""The stated rules by which a tick is refused, normalised or flagged, before it gets a number.

Refused, and counted by TickFault: see that enum. Normalised: in a quote or snapshot a side of
price 0 is written as missing (NaN, size 0), in a snapshot a last price of 0 without volume as
NaN. Kept and flagged: CROSSED, LOCKED, ONE_SIDED, TIME_BACK (earlier than the instrument's latest
event), NO_SIZE (a book without any size). Flags a source has set stay set.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.core.records import Ticks
from feeds.tick_check import TickFault, book_flags_nb, clean_nb, fault_nb, faults_nb

__all__ = ["FAULTS", "Cleaner", "TickFault", "book_flags_nb", "clean_nb", "fault_nb", "faults_nb"]

FAULTS: Final = tuple(fault.name for fault in TickFault)
"""Names of the faults by their number."""


class Cleaner:
    """Applies the rules to batches of ticks; one owner, one stream.

    Args:
        instruments: Instruments defined: ids 0 to instruments - 1 are known.
    """

    __slots__ = ("_last_event", "_refused", "_seen")

    def __init__(self, instruments: int) -> None:
        self._last_event = np.zeros(instruments, np.int64)
        self._refused = np.zeros(len(TickFault), np.int64)
        self._seen = 0

    def clean(self, ticks: Ticks, count: int | None = None) -> int:
        """Drop what is faulty and flag what is odd, in place.

        Args:
            ticks: TICK, shape (N,), writable and contiguous.
            count: How many of them to look at; all by default.

        Returns:
            How many were kept; they stand at the front, in order.
        """
        count = len(ticks) if count is None else count
        self._seen += count
        return int(clean_nb(self._last_event, self._refused, ticks, count, len(self._last_event)))

    def grow(self, instruments: int) -> None:
        """Make room for instruments defined later; never shrinks."""
        more = instruments - len(self._last_event)
        if more > 0:
            self._last_event = np.concatenate([self._last_event, np.zeros(more, np.int64)])

    @property
    def seen(self) -> int:
        """Ticks looked at so far."""
        return self._seen

    @property
    def refused(self) -> dict[str, int]:
        """Refusals so far by the name of the fault; faults that never came are left out."""
        return {FAULTS[i]: int(n) for i, n in enumerate(self._refused) if n}

    @property
    def last_event(self) -> npt.NDArray[np.int64]:
        """Latest event time of each instrument, ns, 0 if it had none, shape (I,)."""
        return self._last_event
