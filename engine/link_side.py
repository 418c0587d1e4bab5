"""The engine's side of the link: data and control sockets, and what fetches what did not come."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from engine.clock import WallClock
from engine.core.records import Instruments
from engine.ingest import Ingest
from engine.link_recovery import LinkRecovery
from engine.recovery_timer import RecoveryTimer
from engine.restart import Restart
from feeds.config import LinkConfig
from feeds.control_client import ControlClient
from feeds.control_messages import Pong, Welcome
from feeds.curve import gatekeeper_of
from feeds.link import TickReceiver

_log = logging.getLogger(__name__)


class LinkSide:
    """Receives once it is known what the instruments are; owned by the loop thread.

    Args:
        config: The link.
        ingest: Takes the bursts.
        restart: Hears what the gateway sends, and when all of the past is here.
        on_restart_asked: Called when the gateway asks the engine to begin anew.
        on_caught_up: Called with the instruments once, when everything up to the welcome is here.

    Attributes:
        receiver: The data socket.
        control: The control channel.
        recovery: Fetches what did not come.
    """

    def __init__(
        self,
        config: LinkConfig,
        ingest: Ingest,
        restart: Restart,
        *,
        on_restart_asked: Callable[[str], None],
        on_caught_up: Callable[[Instruments | None], None],
    ) -> None:
        self._ingest = ingest
        self._restart = restart
        self._on_caught_up = on_caught_up
        self._instruments: Instruments | None = None
        self._attached = False
        self.receiver = TickReceiver(
            config.data,
            slots=config.slots,
            hwm=config.receive_hwm,
            gatekeeper=gatekeeper_of(config.keys),
        )
        self.control = ControlClient(
            config,
            name=config.name,
            on_restart=on_restart_asked,
            on_instruments=self._on_instruments,
            on_welcome=self._on_welcome,
            on_resent=lambda head, frames: self.recovery.on_resent(
                head, frames, time.monotonic_ns()
            ),
            on_pong=self._on_pong,
        )
        self._timer = RecoveryTimer(lambda mono_ns: self.recovery.on_turn(mono_ns))
        self.recovery = LinkRecovery(
            ingest,
            config,
            ask=self.control.ask,
            heard_ns=lambda: self.control.heard_ns,
            wake=self._timer.wake,
            pause=lambda stop: self.pause(stop=stop),
        )
        self.recovery.on_caught_up = self._caught_up

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Begin to ask the gateway what it sends; everything is closed with the stack."""
        stack.callback(self._keep_reached)
        stack.callback(self.receiver.close)
        stack.callback(self._timer.close)
        await stack.enter_async_context(self.control)

    def correct(self, clock: WallClock) -> None:
        """Have a clock follow the gateway's where it is certain to differ from ours."""
        offset = self.control.offset
        if offset is not None:
            certain = abs(offset.offset_ns) > offset.error_bound_ns
            clock.offset_ns = offset.offset_ns if certain else 0

    def pause(self, *, stop: bool) -> None:
        """Leave what comes where it is, or go on taking it."""
        if stop:
            self.receiver.detach()
        else:
            self.receiver.attach(asyncio.get_running_loop(), self._ingest.on_burst)

    def _caught_up(self) -> None:
        if self._restart.reached is not None:
            self._restart.reached.begin(self.control.welcome)
        self._on_caught_up(self._instruments)

    def _on_pong(self, pong: Pong) -> None:
        mono_ns = time.monotonic_ns()
        self.recovery.on_head(pong.epoch, pong.next_seq, mono_ns)
        if self._restart.live and self._restart.reached is not None:
            self._restart.reached.keep_if_due(mono_ns)

    def _keep_reached(self) -> None:
        if self._restart.live and self._restart.reached is not None:
            self._restart.reached.keep()

    def _on_welcome(self, welcome: Welcome) -> None:
        self._restart.greet(welcome)
        self.recovery.on_welcome(welcome, time.monotonic_ns())

    def _on_instruments(self, instruments: Instruments, epoch: int) -> None:
        """Begin to take data once it is known what the instruments are.

        Later changes come in the stream itself, at their place in it.
        """
        self._instruments = instruments
        if self._attached:
            return
        self._attached = True
        _log.info("gateway epoch %d sends %d instruments", epoch, len(instruments))
        self._restart.meet(instruments)
        self._ingest.pipeline.gate.warm(time.time_ns())
        self.receiver.attach(asyncio.get_running_loop(), self._ingest.on_burst)
