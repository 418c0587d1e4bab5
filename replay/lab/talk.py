"""A worker's side of the talk with the lab: one JSON line each way."""

import contextlib
import ctypes
import os
import sys
import time
from typing import Any, Final

import orjson

from engine.core.errors import HeqisError, UserError
from engine.exit_status import ExitStatus
from latency.steady import BASE_NS, CLOCK

BASE_VARIABLE: Final = "HEQIS_LAB_BASE_NS"
"""Environment variable with what the lab adds to the machine's clock: all of them add the same, so
that a step of the wall clock between two starts is in no latency."""
LAB_BASE_NS: Final = int(os.environ.get(BASE_VARIABLE, BASE_NS))
PRECEDENCE: Final = 10
"""By so much the injector asks to be less nice than the rest, where it is not real-time."""
_PR_SET_TIMERSLACK: Final = 29


def lab_ns() -> int:
    """Return the time that all processes of the lab share: steady, ns since the Unix epoch."""
    return time.clock_gettime_ns(CLOCK) + LAB_BASE_NS


def say(kind: str, **fields: Any) -> None:
    """Write one message."""
    line = orjson.dumps({"kind": kind, **fields}, option=orjson.OPT_SERIALIZE_NUMPY)
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def listen() -> dict[str, Any]:
    """Read the next message; the end of the input ends the process."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(ExitStatus.OK)
    message: dict[str, Any] = orjson.loads(line)
    return message


def fail(error: HeqisError) -> None:
    """Tell an error on stderr and end with the status that says whose it is."""
    sys.stderr.write(f"{error}\n")
    sys.exit(ExitStatus.USER if isinstance(error, UserError) else ExitStatus.FAILED)


def take_precedence(*, real_time: bool) -> str:
    """Ask the scheduler for precedence over what is measured; return what was granted.

    Args:
        real_time: Before all other processes, whenever this one is awake. The kernel lets a
            real-time process stand still for 50 ms a second if it never sleeps (sched(7)), so this
            is for one that does.
    """
    with contextlib.suppress(OSError, AttributeError):
        if real_time:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            return "real-time"
    with contextlib.suppress(OSError):
        os.nice(-PRECEDENCE)
    return f"nice {os.nice(0)}"


def sleep_exactly() -> None:
    """Have the kernel end this thread's sleeps when they are over, where it can be told so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
