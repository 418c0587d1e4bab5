"""Work that many connections bring at once, done a few pieces a turn of the event loop. Pure.

Five hundred clients that connect, or go, in the same moment would otherwise hold the loop for as
long as all of their handshakes take together, and ticks would wait for it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

Work = Callable[[], None]
SWEEP_PIECES: Final = 64
"""A connection leaves some 35 objects to the garbage collector's care: two thousand at a time."""


def _leave() -> None:
    return


class TurnQueue:
    """Does pieces of work in their order, at most ``a_turn`` of them in one call of ``run``.

    Bounded by its callers: a connection has at most two pieces waiting.

    Args:
        a_turn: Pieces done before the loop may do something else.
        wake: Has ``run`` called in a later turn of the loop.
        sweep: Called after every ``SWEEP_PIECES`` of them.
    """

    def __init__(
        self, a_turn: int, wake: Callable[[Callable[[], None]], object], sweep: Work = _leave
    ) -> None:
        self._a_turn = a_turn
        self._wake = wake
        self._sweep = sweep
        self._until_sweep = SWEEP_PIECES
        self._waiting: deque[Work] = deque()
        self._woken = False

    def add(self, work: Work) -> None:
        """Have a piece of work done soon."""
        self._waiting.append(work)
        self._wake_once()

    def run(self) -> None:
        """Do the next pieces."""
        self._woken = False
        pieces = min(self._a_turn, len(self._waiting))
        for _ in range(pieces):
            self._waiting.popleft()()
        self._until_sweep -= pieces
        if self._until_sweep <= 0:
            self._until_sweep = SWEEP_PIECES
            self._sweep()
        if self._waiting:
            self._wake_once()

    def _wake_once(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake(self.run)
