"""Notices that a peer fell silent and that it came back. Pure: times are arguments."""

from typing import Final, NamedTuple

PEER_LOST: Final = "peer_lost"
PEER_BACK: Final = "peer_back"
LATE_LOOKS: Final = 3
"""A look that comes after so many intervals was held up itself, and judges nothing."""


class PeerChange(NamedTuple):
    """What became of a peer."""

    kind: str
    """``peer_lost`` or ``peer_back``."""
    after_ns: int
    """How long it had been heard, or not."""


class Liveness:
    """Watches one peer; owned by whoever looks at it again and again.

    Who was held up has messages of the peer waiting that it has not read. So a look that comes late
    declares nobody lost; the next one does.

    Args:
        interval_ns: Meant time between two looks.

    Attributes:
        losses: Times that the peer was lost.
        alive: Whether it is there; None until it was first heard.
    """

    __slots__ = ("_interval_ns", "_looked_ns", "_since_ns", "alive", "losses")

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._looked_ns = 0
        self._since_ns = 0
        self.losses = 0
        self.alive: bool | None = None

    def look(self, heard: bool, now_ns: int) -> PeerChange | None:
        """Take in whether the peer was heard lately; return what changed, if anything."""
        late = self._looked_ns and now_ns - self._looked_ns > LATE_LOOKS * self._interval_ns
        self._looked_ns = now_ns
        if heard is self.alive or (not heard and (late or self.alive is None)):
            return None
        before, since_ns = self.alive, self._since_ns
        self.alive, self._since_ns = heard, now_ns
        if before is None:
            return None
        self.losses += not heard
        return PeerChange(PEER_BACK if heard else PEER_LOST, now_ns - since_ns)
