"""What a rule is: a reason code and a maker of a pure check; plus what a check may look at.

A maker is given the configuration once and returns the check, or None where the configuration
turns the rule off. A check is given one candidate and its situation, reads both and changes
neither, and returns None to let it pass or a short text saying what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from engine.core.candidates import Candidate
from engine.core.reasons import Gate, Reason

if TYPE_CHECKING:
    from engine.risk.config import RiskConfig
    from engine.risk.instrument_day import InstrumentDay
    from engine.risk.positions import Bookings


class RiskState(StrEnum):
    """What the operator allows."""

    ACTIVE = "active"
    REDUCING = "reducing"
    """Only signals that bring a booked position nearer to flat."""
    HALTED = "halted"
    """Nothing: the kill switch."""


class Verdict(NamedTuple):
    """The gate's answer; a reason of None means that every gate was passed."""

    reason: Reason | None
    gate: Gate | None
    detail: str


PASSED = Verdict(None, None, "")


class Situation:
    """All that a check may look at besides the candidate; the gate owns and refills it.

    Attributes:
        day: What holds for the candidate's instrument on its trading day.
        bookings: What the gate has let through so far.
        state: What the operator allows.
        gap_ts_recv: Receive time of the instrument's last gap, None if there was none.
        valid_until_ns: When the signal would expire, wall clock; 0 if it does not.
        now_wall_ns: The wall clock; only rules with a TIME_DEPENDENT reason may read it.
    """

    __slots__ = ("bookings", "day", "gap_ts_recv", "now_wall_ns", "state", "valid_until_ns")
    day: InstrumentDay

    def __init__(self, bookings: Bookings, state: RiskState) -> None:
        self.bookings = bookings
        self.state = state
        self.gap_ts_recv: int | None = None
        self.valid_until_ns = 0
        self.now_wall_ns = 0


Check = Callable[[Candidate, Situation], str | None]


Asked = tuple[Reason, Gate, Check]
"""A check, with the reason it refuses for and the gate it stands in."""
Applies = Callable[["InstrumentDay", RiskState], bool]


class Rule(NamedTuple):
    """One rule: its reason code, the maker of its check, and when it need not be asked."""

    reason: Reason
    make: Callable[[RiskConfig], Check | None]
    applies: Applies | None = None
    """Tells whether the check could refuse anything of an instrument on its day, in a state of the
    operator; None: always."""
    passes_clean: bool = False
    """The check refuses no clean candidate: no flag on its last tick, its bid below its ask."""
