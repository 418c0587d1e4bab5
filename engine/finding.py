"""What an examination of this machine found, one fact at a time."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a fact is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well as it could."""
    MISSING = "missing"
    """Not here; fatal only if required."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this machine.

    Attributes:
        subject: What was looked at.
        status: How it is.
        found: What is there.
        needed_for: What depends on it.
        advice: What to do about it, "" if nothing.
        required: Nothing runs without it.
    """

    subject: str
    status: Status
    found: str
    needed_for: str
    advice: str = ""
    required: bool = False

    @property
    def fatal(self) -> bool:
        """Whether nothing can run because of it."""
        return self.required and self.status is Status.MISSING
