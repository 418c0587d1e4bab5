"""What a process that runs for months asks of the operating system."""

import ctypes
import faulthandler
import gc
import os
from typing import Final

_STDERR: Final = 2
_PR_SET_THP_DISABLE: Final = 41
"""``prctl`` of Linux, linux/prctl.h."""

_MALLOC: Final = ((-3, 128 << 10), (-1, 256 << 10), (-8, 2))
"""``mallopt`` of glibc, malloc.h: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, bytes; M_ARENA_MAX."""

_GC_THRESHOLDS: Final = (300, 5, 400)
"""Objects made before a first collection; first ones before a second; second ones before a full."""
_YOUNG: Final = 1
"""The generation that a second collection looks at, and the one before it."""


def refuse_huge_pages() -> bool:
    """Keep this process and its children on small pages; False where the system has no say in it.

    The kernel gathers scattered small pages into huge ones whenever it likes: each time resident
    memory grows by up to 2 MiB, and the loop stands still while it copies.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0


def give_large_blocks_back() -> bool:
    """Have memory of 128 KiB and more go back when it is freed; False without glibc.

    By itself glibc raises that bound to 32 MiB once a large block was freed. From then on what a
    link held behind a hole, or one client's backlog, leaves holes in the heap that small objects
    keep open: resident memory then grows in steps, for as long as such things happen.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(what, value) == 1 for what, value in _MALLOC)


def give_free_memory_back() -> bool:
    """Have what is free in the midst of the heaps go back too; False without glibc.

    Takes milliseconds: for moments after which much was let go at once.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1


def keep_collections_short() -> None:
    """Leave what the start has made out of garbage collections, and make those to come short.

    While 500 clients connect, a young collection takes 1 ms instead of 5, and a full one, which
    looks at all they brought, comes forty times less often. What ends leaves no cycles behind, so
    there is little to collect.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def collect_young() -> None:
    """Look through what was made of late; for who makes and frees many objects at the same time.

    The interpreter counts objects made less objects freed before it collects by itself. Where one
    crowd of clients goes while another comes, that count stands still, and what is young grows to
    tens of thousands: 5 ms for the one collection that comes at last.
    """
    gc.collect(_YOUNG)


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
