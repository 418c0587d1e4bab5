"""Work that many connections bring at once, done a few pieces a turn of the event loop. Pure.

Five hundred clients that connect, or go, in the same moment would otherwise hold the loop for as
long as all of their handshakes take together, and ticks would wait for it.
"""

from collections import deque
from collections.abc import Callable

Work = Callable[[], None]


class TurnQueue:
    """Does pieces of work in their order, at most ``a_turn`` of them in one call of ``run``.

    Bounded by its callers: a connection has at most two pieces waiting.

    Args:
        a_turn: Pieces done before the loop may do something else.
        wake: Has ``run`` called in a later turn of the loop.
    """

    def __init__(self, a_turn: int, wake: Callable[[Callable[[], None]], object]) -> None:
        self._a_turn = a_turn
        self._wake = wake
        self._waiting: deque[Work] = deque()
        self._woken = False

    def add(self, work: Work) -> None:
        """Have a piece of work done soon."""
        self._waiting.append(work)
        self._wake_once()

    def run(self) -> None:
        """Do the next pieces."""
        self._woken = False
        for _ in range(min(self._a_turn, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            self._wake_once()

    def _wake_once(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake(self.run)
