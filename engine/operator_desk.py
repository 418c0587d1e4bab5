"""The operator's commands to a live engine: the gate's state, models, a reload. All journaled."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from engine.background import Background
from engine.core.errors import ConfigError, HeqisError, JournalError
from engine.core.ports import SignalSink
from engine.journal import Journal
from engine.journal_schema import OPERATOR_STATE
from engine.model_control import ModelControl
from engine.reloader import Reloader
from engine.risk.gate import RiskGate
from engine.risk.rules import RiskState
from engine.stream_messages import GateState, Operate

__all__ = ["OPERATOR_STATE", "OperatorDesk"]

_log = logging.getLogger(__name__)
FAULT: Final = "a fault"
"""Who has halted the engine where nobody has."""
KEEP_LIMIT_S: Final = 2.0
"""How long an answer waits for the disk before it says that the command is not on it."""


class OperatorDesk:
    """Carries commands out; owned by the loop thread.

    Args:
        gate: The risk gate of the pipeline, as it is at the time.
        sink: Takes the events.
        journal: Where they go: a command is answered when it is there.
        background: Runs what nobody waits for.
        models: Carries out commands about models; None without models.

    Attributes:
        reloader: Reads the configuration again; set before the stream is open.
    """

    def __init__(
        self,
        gate: Callable[[], RiskGate],
        sink: SignalSink,
        journal: Journal,
        background: Background,
        models: ModelControl | None,
    ) -> None:
        self._gate = gate
        self._sink = sink
        self._journal = journal
        self._background = background
        self._models = models
        self.reloader: Reloader

    def halt(self, reason: str) -> None:
        """Let no signal through any more, in later lives too until an operator does; say why."""
        gate = self._gate()
        before = gate.state
        if before is not RiskState.HALTED:
            gate.set_state(RiskState.HALTED)
            fields = {"from": before.value, "to": "halted", "by": FAULT, "reason": reason}
            self._journal.append_halt(fields, time.time_ns())
            self._sink.on_event("halted", 0, {"reason": reason})

    def set_state(self, state: RiskState, who: str) -> None:
        """Carry out an operator's command on the risk gate."""
        gate = self._gate()
        before = gate.state
        gate.set_state(state)
        fields = {"from": before.value, "to": state.value, "by": who}
        self._sink.on_event(OPERATOR_STATE, 0, fields)

    def restore(self, last: Mapping[str, Any] | None) -> None:
        """Stay as operator or fault left the gate, where that is stricter than the configuration.

        Args:
            last: The journal's last event of kind OPERATOR_STATE.
        """
        states = list(RiskState)
        gate = self._gate()
        if last is not None and last.get("to") in states:
            wanted = RiskState(last["to"])
            if states.index(wanted) > states.index(gate.state):
                gate.set_state(wanted)
                self._tell_restored(wanted, last)

    def _tell_restored(self, state: RiskState, last: Mapping[str, Any]) -> None:
        by, reason = last.get("by"), last.get("reason", "")
        what = f"as {by} left it{f' ({reason})' if reason else ''}"
        _log.warning("the risk gate is %s, %s; `heqis state active` opens it", state.value, what)
        self._sink.on_event("state_restored", 0, {"state": state.value, "by": by, "reason": reason})

    def on_set_state(self, state: GateState, who: str) -> tuple[GateState, Awaitable[str]]:
        """Take a client's command; it holds at once.

        Returns:
            The state before, and what waits until the command is on the disk and returns why it
            is not, "" if it is.
        """
        before: GateState = self._gate().state.value
        dropped = self._dropped
        self.set_state(RiskState(state), who)
        return before, self._kept(dropped)

    async def operate(self, message: Operate, who: str) -> Mapping[str, Any]:
        """Carry out a client's command about models or the configuration, and see it journaled.

        Raises:
            JournalError: it was carried out and is not on the disk.
            HeqisError: it cannot be carried out, and why.
        """
        dropped = self._dropped
        result = await self._obey(message, who)
        problem = await self._kept(dropped)
        if problem:
            raise JournalError(f"it was carried out, but {problem}")
        return result

    async def _obey(self, message: Operate, who: str) -> Mapping[str, Any]:
        if message.command == "reload":
            return await self.reloader.reload(who)
        if self._models is None:
            raise ConfigError("command", "model", message.model, "there are no models here")
        return await self._models.operate(message, who)

    @property
    def _dropped(self) -> int:
        return self._journal.counters["dropped_commands"]

    async def _kept(self, dropped: int) -> str:
        """Wait for the disk; return why what was commanded since ``dropped`` is not on it."""
        what = "it is not journaled and would not outlive the engine"
        if self._dropped > dropped:
            return f"{what}: the journal has no room"
        try:
            async with asyncio.timeout(KEEP_LIMIT_S):
                await self._journal.flush()
        except TimeoutError:
            return f"{what}: {self._journal.alarm or f'nothing was written for {KEEP_LIMIT_S} s'}"
        return ""

    def on_forbidden(self, who: str, command: str) -> None:
        """Journal that a client wanted what it may not."""
        self._sink.on_event("operator_refused", 0, {"command": command, "by": who})

    def reload_soon(self, who: str) -> None:
        """Begin to read the configuration again; what comes of it is journaled and logged."""
        self._background.spawn(self._reload(who))

    async def _reload(self, who: str) -> None:
        with contextlib.suppress(HeqisError):  # the reloader has told it
            await self.reloader.reload(who)
