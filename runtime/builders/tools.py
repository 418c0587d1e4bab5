"""Runs converters: programs of other projects, in a process of their own."""

import subprocess
from pathlib import Path
from typing import Final

from engine.core.errors import DeviceError

LIMIT_S: Final = 600.0
_TOLD_LINES: Final = 6


def run_tool(command: list[str], cwd: Path, name: str) -> None:
    """Run a converter to its end.

    Args:
        command: Program and arguments.
        cwd: Where it may leave what it likes.
        name: What to call it in errors.

    Raises:
        DeviceError: it could not be started, failed, or took over ``LIMIT_S``.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{name} took over {LIMIT_S:g} s") from error
    except OSError as error:
        raise DeviceError(f"{name} cannot be started: {error}") from error
    if done.returncode:
        raise DeviceError(f"{name} failed with status {done.returncode}: {_end(done)}")


def _end(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return " / ".join(lines[-_TOLD_LINES:])
