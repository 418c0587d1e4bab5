"""A worker's side of the talk with the lab: one JSON line each way."""

import ctypes
import sys
from typing import Any, Final

import orjson

from engine.core.errors import HeqisError, UserError
from engine.exit_status import ExitStatus

_PR_SET_TIMERSLACK: Final = 29


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


def sleep_exactly() -> None:
    """Have the kernel end this thread's sleeps when they are over, where it can be told so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
