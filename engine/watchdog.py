"""Whether a process may say that it lives: its loop turns, and its data flow."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from engine.notify import Notifier

_log = logging.getLogger(__name__)
FEEDS: Final = 4
"""Signs of life in the time in which one is owed."""
LONGEST_S: Final = 0.5
"""Longest time between two looks, whoever owes what to whom."""
NS_PER_S: Final = 1_000_000_000


class Vitals:
    """Judges an engine's data. Pure: times are arguments.

    A gateway that is away is no fault of the engine's, and starting the engine again would not
    bring it back. But one that is heard while no frame comes is: the way of the data is broken
    here. Total silence for very long may be, too.

    Args:
        data_timeout_ns: Longest time without a frame while the gateway is heard.
        silence_timeout_ns: Longest time without anything at all; 0: no limit.
        now_ns: When the engine began to live.
    """

    def __init__(self, data_timeout_ns: int, silence_timeout_ns: int, now_ns: int) -> None:
        self.data_timeout_ns = data_timeout_ns
        self.silence_timeout_ns = silence_timeout_ns
        self._heard = False
        self._heard_from_ns = now_ns
        self._heard_last_ns = now_ns

    def wrong(self, now_ns: int, *, heard: bool, parted: bool, data_ns: int) -> str:
        """Return why the engine may not say that it lives, "" if it may.

        Args:
            now_ns: The time.
            heard: The gateway was heard on the control channel lately.
            parted: It has said that it stops.
            data_ns: When the last frame came, 0 before the first.
        """
        if heard and not self._heard:
            self._heard_from_ns = now_ns
        self._heard = heard
        if heard or parted:
            self._heard_last_ns = now_ns
        if heard:
            quiet_ns = now_ns - max(data_ns, self._heard_from_ns)
            if quiet_ns > self.data_timeout_ns:
                return f"the gateway is heard, but no frame came for {quiet_ns / NS_PER_S:.1f} s"
            return ""
        quiet_ns = now_ns - max(data_ns, self._heard_last_ns)
        if self.silence_timeout_ns and quiet_ns > self.silence_timeout_ns:
            return f"nothing is heard of the gateway for {quiet_ns / NS_PER_S:.1f} s"
        return ""


class Pulse:
    """Feeds the service manager's watchdog from the loop that it is to watch.

    Args:
        notifier: Tells the manager.
        wrong: Says why nothing is to be told, "" if all is well.
        on_starved: Called with the reason when the signs of life end.

    Attributes:
        starved: Why no sign of life is given now, "" if one is.
    """

    def __init__(
        self,
        notifier: Notifier,
        wrong: Callable[[], str],
        on_starved: Callable[[str], None],
    ) -> None:
        self._notifier = notifier
        self._wrong = wrong
        self._on_starved = on_starved
        self.starved = ""

    async def run(self) -> None:
        """Look again and again; give a sign of life whenever nothing is wrong."""
        owed_s = self._notifier.watchdog_ns / FEEDS / NS_PER_S
        interval_s = min(owed_s or LONGEST_S, LONGEST_S)
        while True:
            self.beat()
            await asyncio.sleep(interval_s)

    def beat(self) -> None:
        """Look once."""
        wrong = self._wrong()
        if not wrong:
            self._notifier.feed()
        elif not self.starved:
            _log.critical("no more signs of life: %s", wrong)
            self._notifier.status(wrong)
            self._on_starved(wrong)
        self.starved = wrong


def monotonic_ns() -> int:
    """Return the time on which bursts and signs of life are stamped."""
    return time.perf_counter_ns()
