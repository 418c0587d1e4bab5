"""The engine's eye on itself and on the gateway: peers, data, budgets, clock; and its end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from engine.budgets import Batches, Budgets
from engine.config import Config
from engine.exit_status import ExitStatus
from engine.ingest import Ingest
from engine.journal import Journal
from engine.notify import Notifier
from engine.watchdog import Pulse, Vitals, monotonic_ns
from feeds.control_client import ControlClient
from feeds.liveness import Liveness
from latency.steady import stepped_ns

_log = logging.getLogger(__name__)
LOOK_S: Final = 0.05
"""Between two looks at whether the gateway is heard."""
CLOCK_S: Final = 1.0
STEP_NS: Final = 500_000_000
"""The wall clock was set if it moved by more."""
NS_PER_S: Final = 1_000_000_000


class Guard:
    """Owned by the loop thread; ``rounds`` and ``tasks`` are run by the daemon.

    Args:
        config: The engine's.
        ingest: Whose data are to flow.
        journal: Takes the events, and has a queue that may fill.
        batches: The models' inference; None without models.
        notifier: Tells the service manager.
        halt: Lets no signal through any more.

    Attributes:
        control: The link to the gateway, once it is there.
        ended: Set with the exit status when the engine is to end by its own decision.
        why: The reason of that.
        budgets: What is used, and what is done without.
    """

    def __init__(
        self,
        config: Config,
        *,
        ingest: Ingest,
        journal: Journal,
        batches: Batches | None,
        notifier: Notifier,
        halt: Callable[[str], None],
    ) -> None:
        self.control: ControlClient | None = None
        self.ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.why = ""
        self._ingest = ingest
        self._sink = ingest.pipeline.judge.sink
        self._notifier = notifier
        self._halt = halt
        self._stepped_ns = 0
        self.clock_steps = 0
        self._gateway = Liveness(int(LOOK_S * NS_PER_S))
        chosen = config.supervision
        self._vitals = Vitals(chosen.data_timeout, chosen.silence_timeout, monotonic_ns())
        self._pulse = Pulse(notifier, self.wrong, self._on_starved)
        bound = config.journal.max_queued
        self.budgets = Budgets(
            config.budgets,
            pipeline=ingest.pipeline,
            journal=config.journal.path,
            queue_frac=lambda: journal.queued / bound,
            batches=batches,
            tell=self.tell,
            halt=self._on_used_up,
        )

    def take_config(self, config: Config) -> None:
        """Go by other limits from now on."""
        self._vitals.data_timeout_ns = config.supervision.data_timeout
        self._vitals.silence_timeout_ns = config.supervision.silence_timeout
        self.budgets.take_config(config.budgets)

    def rounds(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what is to be done again and again, and how often."""
        return [(LOOK_S, self._look_at_gateway), (CLOCK_S, self._look_at_clock)]

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs by itself."""
        return [self._pulse.run(), self.budgets.run()]

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Journal an event, also while what was told before a restart is left out."""
        self._sink.on_event(kind, 0, fields)

    def end(self, status: ExitStatus, why: str) -> None:
        """Have the engine end in order with this status; the first one counts."""
        if not self.ended.done():
            self.why = why
            _log.warning("ending: %s", why)
            self.ended.set_result(status)

    def on_restart_asked(self, reason: str) -> None:
        """Begin anew, as the gateway asks."""
        self.tell("restart_asked", {"by": "gateway", "reason": reason})
        self.end(ExitStatus.RESTART, f"asked to begin anew: {reason}")

    def wrong(self) -> str:
        """Return why no sign of life may be given, "" if one may."""
        control = self.control
        if control is None:
            return ""
        return self._vitals.wrong(
            monotonic_ns(),
            heard=control.peer_alive,
            parted=self._has_parted(control),
            data_ns=self._ingest.last_data_ns,
        )

    def problems(self) -> list[str]:
        """Return what is wrong, for health."""
        starved = self._pulse.starved
        found = [f"no sign of life is given: {starved}"] if starved else []
        return found + self.budgets.problems()

    def status(self) -> dict[str, Any]:
        """Return what is seen, for status."""
        return {
            "gateway_heard": bool(self._gateway.alive),
            "gateway_losses": self._gateway.losses,
            "clock_stepped_ns": self._stepped_ns,
            "clock_steps": self.clock_steps,
            "signs_of_life": self._notifier.sent,
            "budgets": self.budgets.status(),
        }

    def _look_at_gateway(self) -> None:
        control = self.control
        if control is None:
            return
        change = self._gateway.look(control.peer_alive, monotonic_ns())
        if change is not None:
            parted = self._has_parted(control)
            _log.warning("%s: the gateway, after %.3f s", change.kind, change.after_ns / NS_PER_S)
            fields = {"peer": "gateway", "after_ns": change.after_ns, "said_goodbye": parted}
            self.tell(change.kind, fields)

    @staticmethod
    def _has_parted(control: ControlClient) -> bool:
        return not control.heard_ns and "received_bye" in control.counters

    def _look_at_clock(self) -> None:
        moved_ns = stepped_ns()
        if abs(moved_ns - self._stepped_ns) > STEP_NS:
            self.clock_steps += 1
            step_ns, self._stepped_ns = moved_ns - self._stepped_ns, moved_ns
            _log.warning("this machine's clock was set by %.3f s", step_ns / NS_PER_S)
            self.tell("clock_stepped", {"step_ns": step_ns, "in_all_ns": moved_ns})

    def _on_starved(self, why: str) -> None:
        self.tell("no_sign_of_life", {"because": why})

    def _on_used_up(self, why: str) -> None:
        self._halt(why)
        self.end(ExitStatus.BUDGET, why)
