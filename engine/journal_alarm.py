"""Why the journal's rows do not reach the disk, since when, and that it is over. Pure.

There are three causes, and each ends by itself: a write that failed or does not come back, a queue
that is full, a disk that is nearly full or no longer holds the file.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

NS_PER_S: Final = 1_000_000_000


class Cause(StrEnum):
    """What an alarm is about."""

    WRITE = "write"
    QUEUE = "queue"
    DISK = "disk"


class DiskState(NamedTuple):
    """What the file system says of the journal."""

    free_bytes: int
    """What this process may still write there."""
    same_file: bool
    """Whether the path still names the file that is open."""


class JournalAlarm:
    """The alarm of one journal; times are monotonic nanoseconds.

    Args:
        subject: What every reason begins with: the journal's path.
        on_begin: Called with the reason when all was well before.
        on_end: Called with the first reason, the cause and how long it lasted, ns, when all is
            well again.
    """

    def __init__(
        self,
        subject: str,
        on_begin: Callable[[str], None],
        on_end: Callable[[str, Cause, int], None],
    ) -> None:
        self._subject = subject
        self._on_begin = on_begin
        self._on_end = on_end
        self._reasons: dict[Cause, str] = {}
        self._first: tuple[str, Cause, int] | None = None

    @property
    def reason(self) -> str | None:
        """The newest reason, None when all is well."""
        return next(reversed(self._reasons.values()), None)

    def has(self, cause: Cause) -> bool:
        """Return whether this is wrong now."""
        return cause in self._reasons

    def begin(self, cause: Cause, problem: str, now_ns: int) -> None:
        """Note that something is wrong; again and again while it is."""
        reason = f"{self._subject}: {problem}"
        self._reasons.pop(cause, None)
        self._reasons[cause] = reason
        if self._first is None:
            self._first = (reason, cause, now_ns)
            self._on_begin(reason)

    def end(self, cause: Cause, now_ns: int) -> None:
        """Note that a cause is gone."""
        self._reasons.pop(cause, None)
        if self._first is not None and not self._reasons:
            (reason, first, since_ns), self._first = self._first, None
            self._on_end(reason, first, now_ns - since_ns)


class StuckQueue:
    """Notices that rows wait and none gets to the disk; times are monotonic nanoseconds."""

    def __init__(self) -> None:
        self._committed = 0
        self._since_ns: int | None = None

    def waited_ns(self, queued: int, committed: int, now_ns: int) -> int:
        """Return how long nothing was committed though something waited.

        Args:
            queued: Rows waiting now.
            committed: Rows committed so far.
            now_ns: The time.
        """
        if not queued or committed != self._committed or self._since_ns is None:
            self._committed = committed
            self._since_ns = now_ns if queued else None
            return 0
        return now_ns - self._since_ns


def disk_problem(state: DiskState | None, min_free_bytes: int) -> str | None:
    """Return what is wrong with a disk, None if nothing is; it did not answer if ``state`` is."""
    if state is None:
        return "its disk does not answer"
    if not state.same_file:
        return "the file was moved or removed while it was open"
    if state.free_bytes < min_free_bytes:
        return f"its disk has {state.free_bytes:,} bytes left, below {min_free_bytes:,}"
    return None
