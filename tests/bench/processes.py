"""Child processes of a benchmark: started, waited for by what they print, always stopped."""

import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.config import Config
from engine.config_text import config_toml

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 10.0


def free_endpoint() -> str:
    """Return a TCP endpoint on this machine that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def write_config(config: Config, path: Path) -> Path:
    """Write a configuration as the TOML file that a process is started with."""
    path.write_text(config_toml(config), encoding="utf-8")
    return path


class Child:
    """A process and the lines it prints; a context that stops it.

    Args:
        arguments: What follows the interpreter.
        environment: Variables on top of this process's own.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = arguments[1]
        self.began_s = time.perf_counter()
        paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip())
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for(self, pattern: str, timeout_s: float = 120.0) -> re.Match[str]:
        """Return the match of the first line that holds ``pattern``.

        Raises:
            SystemExit: the process ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise SystemExit(f"{self.name} did not say {pattern!r} in time") from None
            if line is None:
                raise SystemExit("\n".join([f"{self.name} ended:", *self.lines[-20:]]))
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def end_input(self) -> None:
        """Close its standard input, for children that wait for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def stop(self) -> None:
        """Ask it to stop and wait; kill it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(STOP_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
