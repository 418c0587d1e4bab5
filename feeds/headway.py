"""Whether who fetches what is missing gains on a stream that goes on; pure."""

from typing import Final

_MOST_APART_NS: Final = 1_000_000_000
"""Looks further apart than this do not make one span: nothing came meanwhile."""


class Headway:
    """Looks at the distance to the stream's head, a span at a time; one owner.

    Args:
        span_ns: In so long the distance has to shrink.
    """

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._since_ns: int | None = None
        self._seen_ns = 0
        self._behind = 0

    def look(self, behind: int, mono_ns: int) -> bool:
        """Take how many records lie before the head now.

        Args:
            behind: So many.
            mono_ns: Now, monotonic.

        Returns:
            Whether a span has ended in which nothing was gained.
        """
        apart_ns, self._seen_ns = mono_ns - self._seen_ns, mono_ns
        if self._since_ns is None or apart_ns > _MOST_APART_NS:
            self._since_ns, self._behind = mono_ns, behind
            return False
        if mono_ns - self._since_ns < self._span_ns:
            return False
        gained = behind < self._behind
        self._since_ns, self._behind = mono_ns, behind
        return not gained

    def forget(self) -> None:
        """Begin anew at the next look."""
        self._since_ns = None
