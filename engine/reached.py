"""How far the engine has got in every gateway's stream, journaled for one that keeps no recording.

Its next life asks the gateway for what came after that place, or is told that it is gone. The
place goes through the journal's queue like what was decided before it: whatever is committed with
it or sooner was decided, and what is not will be asked for again.
"""

from typing import Final

from engine.journal import Journal
from feeds.burst import BurstDecoder
from feeds.control_messages import Welcome

INTERVAL_NS: Final = 1_000_000_000

Reached = dict[int, tuple[int, int]]
"""Epoch and next number by gateway."""


class ReachedKeeper:
    """Journals the places; owned by the loop thread.

    Args:
        decoder: Knows them.
        journal: Where they go.
    """

    def __init__(self, decoder: BurstDecoder, journal: Journal) -> None:
        self._decoder = decoder
        self._journal = journal
        self._kept: Reached = {}
        self._due_ns = 0

    def begin(self, welcome: Welcome | None) -> None:
        """Keep where the stream begins, of which nothing may have come yet."""
        if welcome is not None and welcome.gateway not in self._decoder.expected():
            self._keep({welcome.gateway: (welcome.epoch, welcome.next_seq)})
        self.keep()

    def keep(self) -> None:
        """Keep what has changed."""
        self._keep(self._decoder.expected())

    def keep_if_due(self, mono_ns: int) -> None:
        """Keep what has changed, once a second at most."""
        if mono_ns >= self._due_ns:
            self._due_ns = mono_ns + INTERVAL_NS
            self.keep()

    def _keep(self, reached: Reached) -> None:
        for gateway, place in reached.items():
            if self._kept.get(gateway) != place and self._journal.append_reached(gateway, *place):
                self._kept[gateway] = place


def begin_of(reached: tuple[int, int], welcome: Welcome, wanted: int) -> tuple[int, int]:
    """Return where a start without a past begins: where the last life ended, or sooner.

    Args:
        reached: Epoch and number where it ended.
        welcome: The gateway's stream now.
        wanted: Records to go through before the newest, at least.
    """
    epoch, seq = reached
    there = welcome.next_seq - (seq if epoch == welcome.epoch else 1)
    return epoch, max(1, seq - max(0, wanted - there))
