"""The operator's commands to a live engine: the gate's state, models, a reload. All journaled."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from engine.background import Background
from engine.core.errors import ConfigError, HeqisError
from engine.core.ports import SignalSink
from engine.journal_schema import OPERATOR_STATE
from engine.model_control import ModelControl
from engine.reloader import Reloader
from engine.risk.gate import RiskGate
from engine.risk.rules import RiskState
from engine.stream_messages import GateState, Operate

__all__ = ["OPERATOR_STATE", "OperatorDesk"]

_log = logging.getLogger(__name__)


class OperatorDesk:
    """Carries commands out; owned by the loop thread.

    Args:
        gate: The risk gate of the pipeline, as it is at the time.
        sink: Takes the events.
        background: Runs what nobody waits for.
        models: Carries out commands about models; None without models.

    Attributes:
        reloader: Reads the configuration again; set before the stream is open.
    """

    def __init__(
        self,
        gate: Callable[[], RiskGate],
        sink: SignalSink,
        background: Background,
        models: ModelControl | None,
    ) -> None:
        self._gate = gate
        self._sink = sink
        self._background = background
        self._models = models
        self.reloader: Reloader

    def halt(self, reason: str) -> None:
        """Let no signal through any more, and say why."""
        gate = self._gate()
        if gate.state is not RiskState.HALTED:
            gate.set_state(RiskState.HALTED)
            self._sink.on_event("halted", 0, {"reason": reason})

    def set_state(self, state: RiskState, who: str) -> None:
        """Carry out an operator's command on the risk gate."""
        gate = self._gate()
        before = gate.state
        gate.set_state(state)
        fields = {"from": before.value, "to": state.value, "by": who}
        self._sink.on_event(OPERATOR_STATE, 0, fields)

    def restore(self, last: Mapping[str, Any] | None) -> None:
        """Stay as the operator left the gate, where that is stricter than the configuration.

        Args:
            last: The journal's last event of kind OPERATOR_STATE.
        """
        states = list(RiskState)
        gate = self._gate()
        if last is not None and last.get("to") in states:
            wanted = RiskState(last["to"])
            if states.index(wanted) > states.index(gate.state):
                gate.set_state(wanted)
                _log.warning("the risk gate is %s, as the operator left it", wanted.value)

    def on_set_state(self, state: GateState, who: str) -> GateState:
        """Take a client's command; return the state before."""
        before: GateState = self._gate().state.value
        self.set_state(RiskState(state), who)
        return before

    async def operate(self, message: Operate, who: str) -> Mapping[str, Any]:
        """Carry out a client's command about models or the configuration.

        Raises:
            HeqisError: it cannot be carried out, and why.
        """
        if message.command == "reload":
            return await self.reloader.reload(who)
        if self._models is None:
            raise ConfigError("command", "model", message.model, "there are no models here")
        return await self._models.operate(message, who)

    def on_forbidden(self, who: str, command: str) -> None:
        """Journal that a client wanted what it may not."""
        self._sink.on_event("operator_refused", 0, {"command": command, "by": who})

    def reload_soon(self, who: str) -> None:
        """Begin to read the configuration again; what comes of it is journaled and logged."""
        self._background.spawn(self._reload(who))

    async def _reload(self, who: str) -> None:
        with contextlib.suppress(HeqisError):  # the reloader has told it
            await self.reloader.reload(who)
