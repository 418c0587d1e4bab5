"""The service manager's protocol (sd_notify): telling it that we live, and hearing it of children.

One datagram on a local socket holds lines ``KEY=VALUE``. systemd listens at the address in
``NOTIFY_SOCKET``; ``heqis run`` listens for its children in the same way.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"
VARIABLES: Final = (NOTIFY_VARIABLE, WATCHDOG_VARIABLE, WATCHDOG_PID_VARIABLE)
_MAX_BYTES: Final = 4096
_STATUS_CHARACTERS: Final = 200
_NS_PER_US: Final = 1_000


class Notifier:
    """Tells the service manager about this process; without one it says nothing to nobody.

    A manager that is away or busy costs nothing but a count: telling never waits.

    Args:
        address: Of its socket; a leading ``@`` stands for an abstract one; "" for no manager.
        watchdog_ns: How long it waits for a sign of life; 0 if it does not.

    Attributes:
        watchdog_ns: As above.
        sent: Datagrams taken.
        unsent: Datagrams that were not.
    """

    def __init__(self, address: str = "", watchdog_ns: int = 0) -> None:
        self.watchdog_ns = watchdog_ns if address else 0
        self.sent = 0
        self.unsent = 0
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Self:
        """Make the one that the manager asked for, if one started process ``pid``."""
        address = environ.get(NOTIFY_VARIABLE, "")
        meant = environ.get(WATCHDOG_PID_VARIABLE, str(pid)) == str(pid)
        text = environ.get(WATCHDOG_VARIABLE, "") if meant else ""
        known = address if address[:1] in {"/", "@"} else ""
        return cls(known, int(text) * _NS_PER_US if text.isascii() and text.isdigit() else 0)

    @property
    def heard(self) -> bool:
        """Whether there is a manager to tell."""
        return self._socket is not None

    def ready(self, status: str) -> bool:
        """Say that the process does its work now."""
        return self._send("READY=1", _status(status))

    def status(self, status: str) -> bool:
        """Say in one line how things are."""
        return self._send(_status(status))

    def feed(self) -> bool:
        """Give the watchdog its sign of life."""
        return self._send("WATCHDOG=1")

    def extend(self, status: str, more_ns: int) -> bool:
        """Say that the start goes on, and may take ``more_ns`` from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={more_ns // _NS_PER_US}", _status(status))

    def reloading(self, mono_ns: int) -> bool:
        """Say that the configuration is read anew; ``ready`` follows, whatever comes of it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={mono_ns // _NS_PER_US}")

    def stopping(self, status: str) -> bool:
        """Say that the process is about to end."""
        return self._send("STOPPING=1", _status(status))

    def close(self) -> None:
        """Say nothing more; closing twice does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode()[:_MAX_BYTES], self._address)
        except OSError:
            self.unsent += 1
            return False
        self.sent += 1
        return True


class NotifyListener:
    """Hears what one process says of itself; a context. Owned by who supervises it.

    Args:
        path: Where to bind; its directory must be closed to others.

    Attributes:
        is_ready: It has said that it does its work.
        is_stopping: It has said that it is about to end.
        status: Its last status.
        fed_ns: Monotonic time of its last sign of life, 0 before the first.
        extended_ns: Monotonic time until which it has asked for patience with its start.
        refused: Datagrams that could not be read.

    Raises:
        OSError: on entering, the path cannot be bound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = 0
        self._socket: socket.socket | None = None
        self.reset()

    def reset(self) -> None:
        """Forget what was said, for the next process."""
        self.is_ready = False
        self.is_stopping = False
        self.status = ""
        self.fed_ns = 0
        self.extended_ns = 0

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                self.path.unlink()

    def take(self, mono_ns: int) -> None:
        """Take in every datagram that waits; never waits itself."""
        while self._socket is not None:
            try:
                datagram = self._socket.recv(_MAX_BYTES)
            except OSError:
                return
            self._hear(datagram, mono_ns)

    def _hear(self, datagram: bytes, mono_ns: int) -> None:
        try:
            told = dict(line.split("=", 1) for line in datagram.decode().splitlines() if line)
        except ValueError:
            self.refused += 1
            return
        self.is_ready |= told.get("READY") == "1"
        self.is_stopping |= told.get("STOPPING") == "1"
        self.status = told.get("STATUS", self.status)
        more_us = told.get("EXTEND_TIMEOUT_USEC", "")
        if more_us.isascii() and more_us.isdigit():
            self.extended_ns = mono_ns + int(more_us) * _NS_PER_US
        if (self.is_ready and not self.fed_ns) or told.get("WATCHDOG") == "1":
            self.fed_ns = mono_ns


def without_manager(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the manager's variables, for children that are not its own."""
    return {name: value for name, value in environ.items() if name not in VARIABLES}


def own_notifier() -> Notifier:
    """Return this process's notifier, and keep its variables from children."""
    notifier = Notifier.from_environment(os.environ, os.getpid())
    for name in VARIABLES:
        os.environ.pop(name, None)
    return notifier


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_STATUS_CHARACTERS]}"
