"""What a look-ahead analysis tries, and what it found."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class LookaheadOptions:
    """What is tried.

    Attributes:
        cuts: Places at which the future is changed.
        dated: The strategies may go by the date, so the log is not moved in time.
        trust: Files and directories that user code may read.
        limit: Look at so many records of the log only.
        progress: Called with runs done and runs in all.
    """

    cuts: int = 10
    dated: bool = False
    trust: tuple[Path, ...] = ()
    limit: int | None = None
    progress: Callable[[int, int], None] | None = None


class Finding(NamedTuple):
    """One proof that something knows what it must not, or cannot be shown not to."""

    check: str
    """repeat, truncated, shifted, mirrored, values, moved, alone, reads_log or reads_file."""
    strategy: str
    cut: int | None
    """The place in the log from which on the future was changed."""
    instrument: str
    epoch: int
    seq: int
    ts_event: int
    problem: str


@dataclass(frozen=True)
class LookaheadReport:
    """What was tried, and what was found."""

    logs: list[str]
    records: int
    cuts: list[int]
    runs: int
    proposals: dict[str, int]
    """By strategy, those of the whole log; one that proposed nothing was shown nothing of."""
    values_compared: int
    """Indicator outputs that were known at a cut, over all runs."""
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    bad_input: dict[str, int] = field(default_factory=dict)
    """What is wrong with the logs, by reason."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found where something could have been."""
        return not (self.findings or self.idle)

    @property
    def idle(self) -> bool:
        """Whether there was nothing that could have differed: no proposal, and no value."""
        return not (any(self.proposals.values()) or self.values_compared or self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        told = {**asdict(self), "findings": [one._asdict() for one in self.findings]}
        return {"ok": self.ok, **told}
