"""How much memory the process took while something was done: what a library will not tell."""

import resource
import sys
from typing import Final

import psutil

_PEAK_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class MemoryMark:
    """The process's memory at one moment, to be compared with a later one.

    All threads count: what others take meanwhile is taken for the same.
    """

    def __init__(self) -> None:
        self._resident_bytes = _resident_bytes()
        self._peak_bytes = _peak_bytes()

    def grown_bytes(self) -> int:
        """Return by how much resident memory grew since, at its highest if that is known.

        The highest is known where it is the process's highest ever.
        """
        peak_bytes = _peak_bytes()
        highest = peak_bytes if peak_bytes > self._peak_bytes else 0
        return max(0, max(_resident_bytes(), highest) - self._resident_bytes)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
