"""What became of every row of an import: kept as which record, or refused for which reason."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.core.errors import InputFileError
from engine.core.records import TickFlag

EXAMPLES_PER_REASON: Final = 3
"""How many refused rows of one reason are named with their place; all are counted."""


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    kept: int = 0
    first_refusal: str = ""


@dataclass(slots=True)
class ImportReport:
    """Counts of one import.

    At its end ``rows + quotes_made == ticks + bars + raw + in_books + sum(refused.values())``;
    depth records are made beside the rows they come from, and are no part of that sum.

    Rows are named by place: a file, or ``file:member`` of a zip, given a number by ``place``.

    Args:
        kind: The kind of import, as on the command line.
        files: The input files, as given.
        output: The log to be written.
    """

    kind: str
    files: tuple[Path, ...]
    output: Path
    rows: int = 0
    ticks: int = 0
    bars: int = 0
    raw: int = 0
    in_books: int = 0
    """Rows that are one level of a book and stand in the log only in what was made from it."""
    quotes_made: int = 0
    """Ticks made from books."""
    depth: int = 0
    """Depth records, all made from books."""
    refused: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    """Rows that were kept with something about them mended or missing, by what."""
    books: Counter[str] = field(default_factory=Counter)
    """What order books have seen, by what."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    instruments: list[str] = field(default_factory=list)
    first_ns: int | None = None
    last_ns: int | None = None
    wall_s: float = 0.0
    _places: list[tuple[Path, str]] = field(default_factory=list)
    _tallies: dict[Path, _Tally] = field(default_factory=dict)

    def place(self, file: Path, member: str = "") -> int:
        """Give a file, or a member of a zip, the number that its rows are named by."""
        self._places.append((file, member))
        self._tallies.setdefault(file, _Tally())
        return len(self._places) - 1

    def read(self, place: int, rows: int) -> None:
        """Count rows read from a place."""
        self.rows += rows
        self._tally(place).rows += rows

    def recognise(self, places: npt.NDArray[np.int32] | int, count: int = 1) -> None:
        """Count rows that are what their file was said to hold, by one place or a place a row."""
        if isinstance(places, int):
            self._tally(places).kept += count
            return
        for place, rows in enumerate(np.bincount(places).tolist()):
            if rows:
                self._tally(place).kept += rows

    def refuse(self, reason: str, place: int, rows: Iterable[int]) -> None:
        """Count refused rows of one place and keep the first few row numbers as examples.

        Args:
            reason: A word that says which rule refused them.
            place: The number of the place.
            rows: Row numbers, from 1.
        """
        listed = list(rows)
        if not listed:
            return
        self.refused[reason] += len(listed)
        examples = self.examples.setdefault(reason, [])
        for row in listed[: EXAMPLES_PER_REASON - len(examples)]:
            examples.append(self.where(place, row))
        tally = self._tally(place)
        tally.first_refusal = tally.first_refusal or f"{reason}, row {listed[0]}"

    def where(self, place: int, row: int) -> str:
        """Return ``file:member: row N``."""
        file, member = self._places[place]
        return f"{file.name}:{member}: row {row}" if member else f"{file.name}: row {row}"

    def count_flags(self, flags: npt.NDArray[np.uint16]) -> None:
        """Count the TickFlag bits of kept records."""
        for flag in TickFlag:
            marked = int(np.count_nonzero(flags & int(flag)))
            if marked:
                self.flags[str(flag.name)] += marked

    def count_times(self, ts_recv: npt.NDArray[np.int64]) -> None:
        """Widen the span of receive times by a batch of them, in order, shape (N,), N >= 1."""
        first, last = int(ts_recv[0]), int(ts_recv[-1])
        self.first_ns = first if self.first_ns is None else min(self.first_ns, first)
        self.last_ns = last if self.last_ns is None else max(self.last_ns, last)

    def require_usable_files(self) -> None:
        """Check that every file gave at least one row of its kind.

        Raises:
            InputFileError: a file has no rows, or none that this kind can use.
        """
        for file in self.files:
            tally = self._tallies.get(file, _Tally())
            if not tally.rows:
                raise InputFileError(file, "has no rows")
            if not tally.kept:
                why = f" (first: {tally.first_refusal})" if tally.first_refusal else ""
                raise InputFileError(
                    file,
                    f"none of its {tally.rows:,} rows can be used as {self.kind}{why}; "
                    "is it of another kind?",
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as one JSON-ready object."""
        return {
            "kind": self.kind,
            "files": [str(file) for file in self.files],
            "output": str(self.output),
            "rows": self.rows,
            "ticks": self.ticks,
            "bars": self.bars,
            "raw": self.raw,
            "in_books": self.in_books,
            "quotes_made": self.quotes_made,
            "depth": self.depth,
            "refused": dict(sorted(self.refused.items())),
            "flags": dict(sorted(self.flags.items())),
            "notes": dict(sorted(self.notes.items())),
            "books": dict(sorted(self.books.items())),
            "examples": dict(sorted(self.examples.items())),
            "instruments": sorted(self.instruments),
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "first": iso_utc(self.first_ns),
            "last": iso_utc(self.last_ns),
            "wall_s": round(self.wall_s, 3),
        }

    def _tally(self, place: int) -> _Tally:
        return self._tallies[self._places[place][0]]


def iso_utc(time_ns: int | None) -> str | None:
    """Return nanoseconds since the epoch as ISO 8601 in UTC, None for None."""
    if time_ns is None:
        return None
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"
