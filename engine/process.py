"""What a process that runs for months asks of the operating system."""

import ctypes
import faulthandler
import os
from typing import Final

_STDERR: Final = 2
_PR_SET_THP_DISABLE: Final = 41
"""``prctl`` of Linux, linux/prctl.h."""


def refuse_huge_pages() -> bool:
    """Keep this process and its children on small pages; False where the system has no say in it.

    The kernel gathers scattered small pages into huge ones whenever it likes: each time resident
    memory grows by up to 2 MiB, and the loop stands still while it copies.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0


def tell_where_it_hangs() -> None:
    """Have a watchdog's SIGABRT, and any crash, write every thread's stack to stderr."""
    faulthandler.enable(_STDERR)


def hold_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr to nowhere.

    Else the next file that is opened, the journal say, would get its number, and what is meant for
    stderr would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
