"""How long a batch takes to a device's thread and back, beside its run. Pure."""

from typing import Final

_WEIGHT: Final = 1 / 16
"""Of the newest time in the moving means."""
_SPREADS: Final = 2.0
_LONGEST_NS: Final = 1_000_000
"""What is longer was not the hop's but the machine's doing, and counts as so much."""


class Hop:
    """A moving mean of hops and of how far they are off it.

    Attributes:
        mean_ns: The mean.
        spread_ns: Mean distance from it.
    """

    __slots__ = ("mean_ns", "spread_ns")

    def __init__(self) -> None:
        self.mean_ns = 0.0
        self.spread_ns = 0.0

    def note(self, hop_ns: int) -> None:
        """Take in one hop."""
        off_ns = min(hop_ns, _LONGEST_NS) - self.mean_ns
        self.mean_ns += off_ns * _WEIGHT
        self.spread_ns += (abs(off_ns) - self.spread_ns) * _WEIGHT

    def allowance_ns(self, share: float = 1.0) -> int:
        """Return what to allow for a share of the way, so that few batches come back late."""
        return int(share * self.mean_ns + _SPREADS * self.spread_ns)
