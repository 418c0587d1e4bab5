"""What the risk gate allowed when, as far as the journal tells. Pure."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from engine.core.reasons import Reason
from engine.risk.rules import RiskState
from replay.analysis.diff_journal import Event

COMMANDED: Final[Mapping[str, str]] = {
    Reason.RISK_HALTED.value: RiskState.HALTED.value,
    Reason.RISK_REDUCING.value: RiskState.REDUCING.value,
}
"""Reasons that only a command gives, and the gate's state in which they are given."""


class GateStates:
    """Knows how operators and faults left the gate.

    Args:
        events: Of the kind OPERATOR_STATE, oldest first.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        known = sorted((event.ts, str(event.fields.get("to", ""))) for event in events)
        self._at = [ts for ts, _ in known]
        self._states = [state for _, state in known]

    def may_refuse(self, reason: str, ts_ns: int, slack_ns: int) -> bool:
        """Tell whether the gate may have refused for a reason of COMMANDED about a time, ns.

        Before the first event nobody knows: the gate began as it was configured, or left.
        """
        first = bisect_right(self._at, ts_ns - slack_ns)
        last = bisect_right(self._at, ts_ns + slack_ns)
        return not first or COMMANDED[reason] in self._states[first - 1 : last]
