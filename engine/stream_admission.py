"""How many may knock, from where, how often: decided before a byte of them is read. Pure."""

import ipaddress
from collections import OrderedDict
from typing import Final, NamedTuple

from engine.core.settings import is_loopback
from engine.stream_session import TokenBucket

MAX_ADDRESSES: Final = 4096
"""Addresses whose rate is remembered; the one unheard for longest goes."""
_IPV6_PREFIX: Final = 64


class DoorLimits(NamedTuple):
    """Bounds of what one address, and all, may do.

    Attributes:
        handshakes_per_s: Connections begun a second, of one address.
        handshake_burst: Of them, at once.
        per_address: Connections open, of one address; this machine's own have no such bound.
        handshaking: Connections that have not said yet who they are, of all.
    """

    handshakes_per_s: float
    handshake_burst: int
    per_address: int
    handshaking: int


def source_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network, for who has one address has many."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped is not None:
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))


class Admission:
    """Counts connections and knocks by address.

    Args:
        limits: The bounds.
    """

    def __init__(self, limits: DoorLimits) -> None:
        self.limits = limits
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._open: dict[str, int] = {}

    def refusal(self, source: str, now_ns: int) -> str:
        """Return the counter of why a new connection is refused, "" to let it knock.

        Args:
            source: As ``source_of`` gives it.
            now_ns: Monotonic time.
        """
        if not self._bucket(source, now_ns).take(now_ns):
            return "handshakes_limited"
        if not is_loopback(source) and self._open.get(source, 0) >= self.limits.per_address:
            return "addresses_limited"
        return ""

    def opened(self, source: str) -> None:
        """Count a connection that was let knock."""
        self._open[source] = self._open.get(source, 0) + 1

    def closed(self, source: str) -> None:
        """Count its end."""
        left = self._open.get(source, 0) - 1
        if left > 0:
            self._open[source] = left
        else:
            self._open.pop(source, None)

    def _bucket(self, source: str, now_ns: int) -> TokenBucket:
        bucket = self._buckets.get(source)
        if bucket is None:
            limits = self.limits
            bucket = TokenBucket(limits.handshakes_per_s, limits.handshake_burst, now_ns)
            self._buckets[source] = bucket
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(source)
        return bucket
