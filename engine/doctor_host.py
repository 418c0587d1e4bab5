"""Examines the host: processor, memory, disk, file descriptors and clocks."""

import ctypes
import ctypes.util
import itertools
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from engine.finding import Finding, Status

_GIB: Final = 1 << 30
_LEAST_MEMORY_BYTES: Final = 2 * _GIB
_LEAST_FREE_BYTES: Final = 1 * _GIB
_LEAST_DISK_BYTES: Final = 5 * _GIB
_LEAST_FILES: Final = 4096
_COARSE_CLOCK_NS: Final = 10_000
_WIDE_CLOCK_ERROR_US: Final = 100_000
_CLOCK_READS: Final = 2_000
_STA_UNSYNC: Final = 0x40
_TIME_ERROR: Final = 5


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux on 64 bits, see adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("reserved", ctypes.c_long * 24),
    )


def host_findings(data_dir: Path) -> list[Finding]:
    """Examine the host this runs on.

    Args:
        data_dir: Where logs, spool and journal are to lie; need not exist yet.
    """
    memory = psutil.virtual_memory()
    soft_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        judge_processor(processor_name(), platform.machine(), os.cpu_count() or 1),
        judge_governors(read_governors()),
        judge_memory(memory.total, memory.available),
        check_disk(data_dir),
        judge_files(soft_files),
        judge_clock("wall clock", clock_step_ns(time.time_ns)),
        judge_clock("monotonic clock", clock_step_ns(time.monotonic_ns)),
        judge_sync(*read_clock_sync()),
    ]


def judge_processor(name: str, architecture: str, cores: int) -> Finding:
    """Judge the processor: gateway and engine want a core each."""
    plenty = cores > 1
    return Finding(
        "processor",
        Status.OK if plenty else Status.WARN,
        f"{name}, {architecture}, {cores} cores",
        "one core each for gateway and engine",
        "" if plenty else "run gateway and engine on two machines, or expect late ticks",
    )


def judge_governors(governors: Sequence[str]) -> Finding:
    """Judge the frequency governors of the cores."""
    names = ", ".join(sorted(set(governors)))
    steady = not governors or set(governors) == {"performance"}
    return Finding(
        "frequency governor",
        Status.OK if steady else Status.WARN,
        names or "none: the frequency is not ours to set",
        "even latency",
        "" if steady else "cpupower frequency-set -g performance (Jetson: jetson_clocks)",
    )


def judge_memory(total_bytes: int, available_bytes: int) -> Finding:
    """Judge the memory."""
    enough = total_bytes >= _LEAST_MEMORY_BYTES and available_bytes >= _LEAST_FREE_BYTES
    return Finding(
        "memory",
        Status.OK if enough else Status.WARN,
        f"{total_bytes / _GIB:.1f} GiB, {available_bytes / _GIB:.1f} GiB available",
        "compiled kernels, buffers, models",
        "" if enough else "stop other programs; 2 GiB, 1 GiB of it free, is the least",
    )


def check_disk(data_dir: Path) -> Finding:
    """Look at the file system of the data directory."""
    place = next(path for path in (data_dir, *data_dir.resolve().parents) if path.exists())
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    free_bytes = psutil.disk_usage(str(place)).free
    return judge_disk(str(data_dir), free_bytes, writable=writable)


def judge_disk(name: str, free_bytes: int, *, writable: bool) -> Finding:
    """Judge the room in the data directory."""
    advice = ""
    if not writable:
        advice = "make it writable, or choose another with --data-dir"
    elif free_bytes < _LEAST_DISK_BYTES:
        advice = "a busy day's tick log takes gigabytes: free some, or rotate and move logs"
    return Finding(
        "data directory",
        Status.MISSING if not writable else Status.WARN if advice else Status.OK,
        f"{name}: {free_bytes / _GIB:.1f} GiB free{'' if writable else ', not writable'}",
        "tick log, spool, journal",
        advice,
        required=True,
    )


def judge_files(soft_limit: int) -> Finding:
    """Judge the limit on open files."""
    unlimited = soft_limit == resource.RLIM_INFINITY
    enough = unlimited or soft_limit >= _LEAST_FILES
    return Finding(
        "open files",
        Status.OK if enough else Status.WARN,
        "no limit" if unlimited else f"limit {soft_limit:,}",
        "a socket for each client",
        "" if enough else f"ulimit -n {_LEAST_FILES} (systemd: LimitNOFILE={_LEAST_FILES})",
    )


def judge_clock(subject: str, step_ns: int) -> Finding:
    """Judge a clock by its least step."""
    fine = step_ns <= _COARSE_CLOCK_NS
    return Finding(
        subject,
        Status.OK if fine else Status.WARN,
        f"steps of {step_ns:,} ns",
        "time stamps and latency",
        "" if fine else "stages shorter than a step are measured as 0; check the clock source",
    )


def judge_sync(synchronised: bool | None, error_us: int | None) -> Finding:
    """Judge how the kernel says the wall clock is kept.

    Args:
        synchronised: None if it would not say.
        error_us: Its bound on the error, microseconds, if it is synchronised.
    """
    advice = ""
    if synchronised is None:
        found = "the kernel does not say"
    elif synchronised:
        found = f"synchronised, within {(error_us or 0) / 1000:.1f} ms"
        if error_us is not None and error_us > _WIDE_CLOCK_ERROR_US:
            advice = "the bound is wide: check the time servers"
    else:
        found = "not synchronised"
        advice = "run chrony or systemd-timesyncd; without it ages of market data mean little"
    return Finding(
        "time synchronisation",
        Status.WARN if advice or synchronised is None else Status.OK,
        found,
        "age limits on market data, one-way latency",
        advice or ("" if synchronised is not None else "see that chrony or timesyncd runs"),
    )


def processor_name() -> str:
    """Return the processor's name as the kernel tells it."""
    return read_processor_name(_read(Path("/proc/cpuinfo")))


def read_processor_name(cpuinfo: str) -> str:
    """Find the processor's name in the text of ``/proc/cpuinfo``; Arm kernels differ in the key."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, separator, value = line.partition(":")
        if separator and value.strip():
            fields.setdefault(key.strip().lower(), value.strip())
    names = ("model name", "hardware", "model")
    numeric = fields.get("model", "").isdigit()
    found = (fields[name] for name in names if name in fields and not (name == "model" and numeric))
    return next(found, "unknown processor")


def read_governors(root: Path = Path("/sys/devices/system/cpu")) -> list[str]:
    """Return the governor of each core that has one."""
    files = sorted(root.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    return [name for name in (_read(file).strip() for file in files) if name]


def clock_step_ns(read: Callable[[], int]) -> int:
    """Return the least step between two readings of a clock that differ."""
    readings = [read() for _ in range(_CLOCK_READS)]
    steps = [b - a for a, b in itertools.pairwise(readings) if b > a]
    return min(steps, default=0)


def read_clock_sync() -> tuple[bool | None, int | None]:
    """Ask the kernel whether the wall clock is synchronised and how wrong it may be, in µs."""
    library = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    timex = _Timex()
    state = library.adjtimex(ctypes.byref(timex))
    if state < 0:
        return None, None
    if state == _TIME_ERROR or timex.status & _STA_UNSYNC:
        return False, None
    return True, int(timex.maxerror)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
