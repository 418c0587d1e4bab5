"""What a comparison of a live session with its replay came to."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

MAX_LISTED: Final = 200


class Cause(StrEnum):
    """What a divergence is attributed to, in the order of the way of a tick."""

    INPUT = "input"
    """The recording is not what the engine took: records missing, damaged or other ones."""
    FEATURE = "feature"
    """Bars, indicators or feature windows have other values."""
    MODEL = "model score"
    """Another bundle, a score beyond the tolerance, or none."""
    STRATEGY = "strategy"
    """Another rule, version or parameters, or other code."""
    RISK = "risk"
    """The risk gate decided otherwise about the same candidate."""
    TIME = "time"
    """Live, real elapsed time refused or expired it, or a score came in another order."""


class Kind(StrEnum):
    """What a difference is."""

    MISSING = "missing"
    """Journaled, and not made here."""
    EXTRA = "extra"
    """Made here, and neither a signal nor a refusal in the journal."""
    CONTENT = "content"
    """The same signal with other numbers."""
    VERDICT = "verdict"
    """Let through on one side and refused on the other, or refused for another reason."""
    STATE = "state"
    """The state at a checkpoint is another."""
    BYTES = "bytes"
    """The recording is not what it was, or lacks something."""


class Difference(msgspec.Struct, kw_only=True):
    """One thing in which live and replay differ.

    Attributes:
        kind: What it is.
        place: Number of the record at which it shows, among those replayed, from 0.
        cause: What it is attributed to; None until it is.
        tick_epoch: Stream epoch of that record, 0 if it is about no single one.
        tick_seq: Its sequence number, or of a checkpoint the next one.
        ts_event: Its event time, ns; 0 if unknown.
        instrument: Its instrument, "" for all.
        strategy: Whose signal it is, "" if it is none.
        id: Of the signal, "" if it is none.
        live: What live was or said.
        here: What the replay is or says.
        why: The difference in words.
        evidence: What speaks for the cause.
    """

    kind: Kind
    place: int
    cause: Cause | None = None
    tick_epoch: int = 0
    tick_seq: int = 0
    ts_event: int = 0
    instrument: str = ""
    strategy: str = ""
    id: str = ""
    live: dict[str, Any] = {}
    here: dict[str, Any] = {}
    why: str = ""
    evidence: list[str] = []


class DiffReport(msgspec.Struct, kw_only=True):
    """The result.

    Attributes:
        recording: What was replayed.
        journal: What it was compared with.
        sessions: Sessions of it.
        records: Records replayed, those of earlier sessions that only lead up to it included.
        counts: What was compared, by name.
        causes: Differences by cause.
        differences: How many there are.
        first: The first of them.
        listed: The first 200.
        context: What the replay knows of the place of the first; see ``explain``.
        notes: What could not be compared, and why.
    """

    recording: str
    journal: str
    sessions: int = 0
    records: int = 0
    counts: dict[str, int] = {}
    causes: dict[str, int] = {}
    differences: int = 0
    first: Difference | None = None
    listed: list[Difference] = []
    context: dict[str, Any] | None = None
    notes: list[str] = []

    def failed(self, allow: frozenset[Cause] = frozenset()) -> bool:
        """Tell whether there are differences of other causes than those allowed."""
        allowed = sum(self.causes.get(cause.value, 0) for cause in allow)
        return self.differences > allowed

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return {"clean": not self.differences, **told}


class Differences:
    """Collects differences as they are met; bounded by ``most``, what is beyond is counted.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int = 20_000) -> None:
        self.kept: list[Difference] = []
        self.beyond = 0
        self._most = most

    def add(self, difference: Difference) -> None:
        """Keep one."""
        if len(self.kept) < self._most:
            self.kept.append(difference)
        else:
            self.beyond += 1

    def in_order(self) -> list[Difference]:
        """Return what is kept, by place; what is about the bytes comes first at a place."""
        first = {Kind.BYTES: 0, Kind.STATE: 1}
        return sorted(self.kept, key=lambda one: (one.place, first.get(one.kind, 2)))


def counted(differences: list[Difference]) -> dict[str, int]:
    """Return how many differences there are of each cause, in the order of the causes."""
    found = Counter(one.cause for one in differences)
    return {cause.value: found[cause] for cause in Cause if found[cause]}


def changes(live: Mapping[str, Any], here: Mapping[str, Any], at: str = "") -> list[str]:
    """Return in words what differs between two nested mappings."""
    found: list[str] = []
    for name in sorted({*live, *here}):
        path = f"{at}.{name}" if at else name
        mine, other = here.get(name), live.get(name)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += changes(other, mine, path)
        elif mine != other:
            found.append(f"{path}: {_shown(other)} live, {_shown(mine)} here")
    return found


def _shown(value: object) -> str:
    return "absent" if value is None else repr(value) if isinstance(value, str) else str(value)
