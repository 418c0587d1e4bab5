"""The gateway's eye on its engines: who fell silent, who came back, what was done about it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from engine.core.errors import ConfigError
from feeds.config import GatewayConfig
from feeds.control_desk import ControlDesk
from feeds.event_log import EventLog
from feeds.liveness import Liveness
from feeds.power import PowerControl
from latency.steady import stepped_ns

_log = logging.getLogger(__name__)
LOOK_NS: Final = 50_000_000
STEP_NS: Final = 500_000_000
"""The wall clock was set if it moved by more."""
PEER_PARTED: Final = "peer_parted"


class Flow(Protocol):
    """The part of an outlet that tells whether its engine takes data."""

    @property
    def waiting(self) -> int:
        """Frames it waits to send."""
        ...

    sent_frames: int
    """Frames it has sent."""


class GatewayGuard:
    """Looks at the peers every ``LOOK_NS`` and journals what changed; owned by the gateway.

    Args:
        config: The gateway's.
        desk: Knows who was heard, and who has parted.
        ask: Asks every engine to begin anew; returns how many were asked.
        flows: The outputs, once they are open.

    Attributes:
        events: The gateway's own journal.
        turned_ns: When the gateway last came by, monotonic; 0 before the first time.

    Raises:
        ConfigError: the power line cannot be had, or what is done to it would not be journaled.
    """

    def __init__(
        self,
        config: GatewayConfig,
        desk: ControlDesk,
        ask: Callable[[], int],
        flows: Sequence[Flow],
    ) -> None:
        self.events = EventLog(config.events, config.events_bytes)
        self.turned_ns = 0
        self._timeout_ns = config.peer_timeout
        self._stepped_ns = 0
        self._desk = desk
        self._flows = flows
        self._watches: dict[str, Liveness] = {}
        self._next_ns = 0
        self._sent = -1
        self._power = None
        if config.power is not None:
            if config.events is None:
                expected = "power needs it: name the file in which every step is kept"
                raise ConfigError("configuration", "gateway.events", None, expected)
            now_ns = time.monotonic_ns()
            self._power = PowerControl(
                config.power, ask=ask, tell=self.tell, now_ns=now_ns, settle=self.events.settle
            )

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Journal an event and log it."""
        _log.warning("%s %s", kind, dict(fields))
        self.events.append(kind, time.time_ns(), fields)

    def turn(self, mono_ns: int) -> None:
        """Look at the peers, if it is time."""
        self.turned_ns = mono_ns
        if mono_ns < self._next_ns:
            return
        self._next_ns = mono_ns + LOOK_NS
        self._look_at_clock()
        heard = self._desk.silences(mono_ns)
        for name, silent_ns in heard.items():
            watch = self._watches.get(name)
            if watch is None:
                watch = self._watches[name] = Liveness(LOOK_NS)
            change = watch.look(silent_ns <= self._timeout_ns, mono_ns)
            if change is not None:
                self.tell(change.kind, {"peer": name, "after_ns": change.after_ns})
        for name in [name for name in self._watches if name not in heard]:
            del self._watches[name]
        for name in self._desk.take_parted():
            self.tell(PEER_PARTED, {"peer": name})
        if self._power is not None:
            alive = any(silent <= self._timeout_ns for silent in heard.values())
            flowing = self._flowing()
            self._power.look(mono_ns, alive=alive and flowing, parted=self._desk.all_parted)

    def _look_at_clock(self) -> None:
        moved_ns = stepped_ns()
        if abs(moved_ns - self._stepped_ns) > STEP_NS:
            step_ns, self._stepped_ns = moved_ns - self._stepped_ns, moved_ns
            self.tell("clock_stepped", {"step_ns": step_ns, "in_all_ns": moved_ns})

    def problems(self) -> list[str]:
        """Return what is wrong, for status."""
        found = [
            f"engine {name} is not heard"
            for name, watch in self._watches.items()
            if watch.alive is False
        ]
        if self.events.error:
            found.append(f"event log: {self.events.error}")
        return found

    def status(self) -> dict[str, Any]:
        """Return what was seen and done, as JSON has it."""
        return {
            "peers": {name: bool(watch.alive) for name, watch in self._watches.items()},
            "clock_stepped_ns": self._stepped_ns,
            "losses": sum(watch.losses for watch in self._watches.values()),
            "events": {"written": self.events.written, "failures": self.events.failures},
            "problems": self.problems(),
            **({} if self._power is None else {"power": self._power.status()}),
        }

    async def close(self) -> None:
        """End a step that is under way and close the event log."""
        if self._power is not None:
            await self._power.close()
        await self.events.settle()
        self.events.close()

    def _flowing(self) -> bool:
        """Whether some output sent anything since the last look, or has nothing to send."""
        sent, before = sum(flow.sent_frames for flow in self._flows), self._sent
        self._sent = sent
        return sent != before or not any(flow.waiting for flow in self._flows)
