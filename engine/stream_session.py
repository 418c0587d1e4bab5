"""One client of the stream as the protocol sees it: its link, its rights, its rate. Pure."""

from typing import Protocol

from engine.stream_auth import OPEN, Grant
from engine.stream_subscription import Subscription


class Link(Protocol):
    """Where the messages of one client go; none of its methods waits."""

    @property
    def paused(self) -> bool:
        """Whether the client's buffer is full; ``Delivery.resume`` is called when it is not."""
        ...

    def push(self, message: bytes) -> None:
        """Hand over one message."""
        ...

    def push_many(self, messages: list[bytes]) -> None:
        """Hand over several messages, or none, at once."""
        ...

    def shut(self, code: int, reason: str) -> None:
        """Close the connection in the background, by force if the client does not answer."""
        ...


class TokenBucket:
    """Lets through ``rate_per_s`` messages a second, and ``burst`` at once.

    Args:
        rate_per_s: Tokens earned a second.
        burst: Most tokens held; it starts full.
        now_ns: Monotonic time.
    """

    __slots__ = ("_burst", "_last_ns", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, now_ns: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._last_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """Return whether one more message may pass at ``now_ns``, monotonic."""
        earned = (now_ns - self._last_ns) * 1e-9 * self._rate_per_s
        self._tokens = min(self._burst, self._tokens + earned)
        self._last_ns = now_ns
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Session:
    """One connected client; made and owned by ``StreamCore``."""

    __slots__ = (
        "bad_messages", "bucket", "closing", "grant", "link", "subscriptions", "wants_data",
        "wants_status",
    )  # fmt: skip

    def __init__(self, link: Link, bucket: TokenBucket, grant: Grant = OPEN) -> None:
        self.link = link
        self.grant = grant
        self.bucket = bucket
        self.subscriptions: dict[str, Subscription] = {}
        self.wants_status: set[str] = set()
        self.wants_data: set[str] = set()
        self.bad_messages = 0
        self.closing = False

    @property
    def names(self) -> set[str]:
        """Names of its subscriptions, to whatever topic."""
        return self.wants_status | self.wants_data | self.subscriptions.keys()


class StallMeter:
    """Tells a client that takes nothing from one that is merely slow.

    What has left is what was handed over less what is still buffered; when that stops growing
    while something is buffered, the client has stopped reading.
    """

    __slots__ = ("_left_bytes", "_since_ns")

    def __init__(self, now_ns: int) -> None:
        self._left_bytes = 0
        self._since_ns = now_ns

    def stalled_ns(self, handed_bytes: int, buffered_bytes: int, now_ns: int) -> int:
        """Return for how long nothing has left, 0 if nothing waits; ``now_ns`` is monotonic."""
        left_bytes = handed_bytes - buffered_bytes
        if buffered_bytes == 0 or left_bytes > self._left_bytes:
            self._left_bytes = left_bytes
            self._since_ns = now_ns
        return now_ns - self._since_ns
