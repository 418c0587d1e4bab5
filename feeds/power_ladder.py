"""What the gateway does about an engine that stays silent: ask, then a command, then its power.

Pure: times are arguments. A step is taken only after the one before it was given its time and the
engine is still silent, so the power is never touched before the softer steps have failed. After a
cycle that did not help the ladder begins with the softest step again.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class PowerStep(StrEnum):
    """Steps of the ladder, softest first."""

    ASK = "ask"
    """A message on the control channel: begin anew."""
    COMMAND = "command"
    """The configured command, which restarts the engine's service from outside."""
    CYCLE = "cycle"
    """Power off, and on again."""


@dataclass(frozen=True, slots=True)
class PowerRule:
    """The waits and bounds of the ladder, nanoseconds.

    Attributes:
        silent_ns: How long the engine must be silent before the first step.
        ask_wait_ns: How long a request to begin anew is given.
        command_wait_ns: How long the command is given, from its start.
        boot_ns: How long a board is given to come up, after a cycle and when we begin.
        most_cycles: Power cycles within ``window_ns``; further ones are not made.
        window_ns: As above.
    """

    silent_ns: int
    ask_wait_ns: int
    command_wait_ns: int
    boot_ns: int
    most_cycles: int
    window_ns: int


class PowerDecision(NamedTuple):
    """What to do now."""

    step: PowerStep | None
    """The step to take; None for none."""
    event: str = ""
    """What to journal beside it: ``recovered`` or ``exhausted``; "" for nothing."""
    silent_ns: int = 0
    """How long the engine has been silent."""


NOTHING = PowerDecision(None)


class PowerLadder:
    """Decides step by step; owned by the gateway.

    Args:
        rule: The waits and bounds.
        now_ns: When the gateway began, monotonic: the board may still be coming up.

    Attributes:
        steps: Steps taken, by name.
        last: The last step of the present silence; None while none was taken.
    """

    def __init__(self, rule: PowerRule, now_ns: int) -> None:
        self._rule = rule
        self._silent_since_ns = now_ns
        self._next_ns = now_ns + max(rule.boot_ns, rule.silent_ns)
        self._cycles: deque[int] = deque(maxlen=rule.most_cycles)
        self._exhausted = False
        self._alive = False
        self.steps = dict.fromkeys(PowerStep, 0)
        self.last: PowerStep | None = None

    def look(self, now_ns: int, *, alive: bool, parted: bool) -> PowerDecision:
        """Take in how the engine is; return what to do.

        Args:
            now_ns: The time, monotonic.
            alive: It is heard and takes data.
            parted: It has said that it stops by decision, so its silence is no fault.
        """
        if alive or parted:
            return self._rest(now_ns, alive=alive)
        if self._alive:
            self._alive = False
            self._silent_since_ns = now_ns
            self._next_ns = now_ns + self._rule.silent_ns
        if now_ns < self._next_ns:
            return NOTHING
        return self._step(now_ns)

    def _rest(self, now_ns: int, *, alive: bool) -> PowerDecision:
        recovered = alive and self.last is not None
        silent_ns = now_ns - self._silent_since_ns
        self._alive = True
        self._silent_since_ns = now_ns
        self.last, self._exhausted = None, False
        return PowerDecision(None, "recovered", silent_ns) if recovered else NOTHING

    def _step(self, now_ns: int) -> PowerDecision:
        rule, silent_ns = self._rule, now_ns - self._silent_since_ns
        if self.last in {None, PowerStep.CYCLE}:
            return self._take(PowerStep.ASK, now_ns, rule.ask_wait_ns, silent_ns)
        if self.last is PowerStep.ASK:
            return self._take(PowerStep.COMMAND, now_ns, rule.command_wait_ns, silent_ns)
        if self._may_cycle(now_ns):
            self._cycles.append(now_ns)
            return self._take(PowerStep.CYCLE, now_ns, rule.boot_ns, silent_ns)
        if self._exhausted:
            return NOTHING
        self._exhausted = True
        return PowerDecision(None, "exhausted", silent_ns)

    def _may_cycle(self, now_ns: int) -> bool:
        rule = self._rule
        if len(self._cycles) < rule.most_cycles:
            return True
        return bool(self._cycles) and now_ns - self._cycles[0] >= rule.window_ns

    def _take(self, step: PowerStep, now_ns: int, wait_ns: int, silent_ns: int) -> PowerDecision:
        self.last = step
        self._exhausted = False
        self._next_ns = now_ns + wait_ns
        self.steps[step] += 1
        return PowerDecision(step, "", silent_ns)
