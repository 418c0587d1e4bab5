"""Reads what this process uses of memory, disk and heat; every read is bounded and may fail."""

import math
import os
import shutil
from pathlib import Path
from typing import Final

import psutil

CGROUPS: Final = Path("/sys/fs/cgroup")
THERMAL: Final = Path("/sys/class/thermal")
MILLI: Final = 1e-3
_MOST_ZONES: Final = 64
_MOST_DEPTH: Final = 32


def memory_limit_bytes(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return what this process may have: the machine's memory, or its control group's if less."""
    least = int(psutil.virtual_memory().total)
    for directory in _own_groups(cgroups, own):
        text = _read(directory / "memory.max") or _read(directory / "memory.limit_in_bytes")
        if text.isdigit():
            least = min(least, int(text))
    return least


def rss_bytes() -> int:
    """Return this process's resident memory."""
    return int(psutil.Process(os.getpid()).memory_info().rss)


def available_bytes() -> int:
    """Return what the machine could still give to anybody without swapping."""
    return int(psutil.virtual_memory().available)


def disk_free_bytes(path: Path) -> float:
    """Return the room on a path's file system; NaN if it cannot be told."""
    for directory in (path, *path.absolute().parents):
        if directory.is_dir():
            try:
                return float(shutil.disk_usage(directory).free)
            except OSError:
                return math.nan
    return math.nan


def hottest_c(thermal: Path = THERMAL) -> float:
    """Return the hottest thermal zone's degrees Celsius; NaN where none tells."""
    zones = sorted(thermal.glob("thermal_zone*/temp"))[:_MOST_ZONES]
    told = [_read(zone) for zone in zones]
    return max((int(t) * MILLI for t in told if t.removeprefix("-").isdigit()), default=math.nan)


def _own_groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the directories of our control group and those around it, version 2 and 1."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        root = cgroups if not controllers else cgroups / "memory"
        if controllers and "memory" not in controllers.split(","):
            continue
        here = root / path.lstrip("/")
        around = [here, *here.parents][:_MOST_DEPTH]
        found += [one for one in around if one == root or root in one.parents]
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
