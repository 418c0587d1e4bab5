"""Whether and when a process that ended is started again. Pure: times are arguments."""

from collections import deque
from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 1_000_000_000
FACTOR: Final = 2


@dataclass(frozen=True, slots=True)
class RestartRule:
    """The bounds of restarting.

    Attributes:
        first_wait_ns: Before the first restart; it doubles with every further one.
        longest_wait_ns: Where it stops growing.
        healthy_ns: A process that was ready for so long is forgiven what was before.
        most: Restarts within ``window_ns``; the next end is final.
        window_ns: As above.
    """

    first_wait_ns: int = SECOND_NS // 4
    longest_wait_ns: int = 30 * SECOND_NS
    healthy_ns: int = 60 * SECOND_NS
    most: int = 10
    window_ns: int = 600 * SECOND_NS


class RestartPolicy:
    """Decides for one process; owned by its supervisor.

    Args:
        rule: The bounds.

    Attributes:
        restarts: Restarts granted so far.
    """

    def __init__(self, rule: RestartRule) -> None:
        self._rule = rule
        self._granted: deque[int] = deque(maxlen=max(1, rule.most))
        self._wait_ns = rule.first_wait_ns
        self.restarts = 0

    def wait_ns(self, ready_ns: int, ended_ns: int) -> int | None:
        """Return how long to wait before the process is started again.

        Args:
            ready_ns: When it began to do its work, monotonic; 0 if it never did.
            ended_ns: When it ended.

        Returns:
            The wait; None if it has ended too often, and is to be left.
        """
        rule = self._rule
        if ready_ns and ended_ns - ready_ns >= rule.healthy_ns:
            self._wait_ns = rule.first_wait_ns
        oldest_counts = self._granted and ended_ns - self._granted[0] < rule.window_ns
        if rule.most == 0 or (len(self._granted) == rule.most and oldest_counts):
            return None
        wait_ns, self._wait_ns = self._wait_ns, min(FACTOR * self._wait_ns, rule.longest_wait_ns)
        self._granted.append(ended_ns)
        self.restarts += 1
        return wait_ns
