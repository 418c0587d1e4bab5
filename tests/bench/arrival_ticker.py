"""Writes a byte at the time of every arrival of a schedule, from a process of its own.

The benchmark's loop wakes by it as an engine does by its socket: no timer of the loop, which
counts in milliseconds, and no thread that shares its interpreter.
"""

import os
import sys
import time

import numpy as np


def main() -> None:
    """Read the times, int64 monotonic nanoseconds, from stdin; write to stdout."""
    times = np.frombuffer(sys.stdin.buffer.read(), np.int64).tolist()
    now, write, sleep = time.monotonic_ns, os.write, time.sleep
    for due_ns in times:
        left_ns = due_ns - now()
        if left_ns > 0:
            sleep(left_ns / 1e9)
        write(1, b".")


if __name__ == "__main__":
    main()
