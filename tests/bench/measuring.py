"""What every benchmark prints: figures with their spread and target, as text or as JSON."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        case: What was measured.
        value: The median of the runs.
        unit: ``x`` for a ratio, else ``us``, ``s``, ``ticks/s``, ``MB``, ...
        low: Least of the runs.
        high: Greatest of the runs.
        at_most: Target: the value is at most this.
        at_least: Target: the value is at least this.
    """

    case: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @classmethod
    def of(
        cls,
        case: str,
        runs: Sequence[float],
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> Self:
        """Return the median of runs with their least and greatest."""
        median = statistics.median(runs)
        return cls(case, median, unit, min(runs), max(runs), at_most, at_least)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None


@dataclass
class Outcome:
    """What one benchmark found."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """How it was measured, and what else was seen."""
    skipped: str = ""
    """Why nothing was measured."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, with the verdicts."""
        figures = [{**asdict(figure), "met": figure.met} for figure in self.figures]
        return {**asdict(self), "figures": figures}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> Self:
        """Return what ``as_dict`` made."""
        figures = [
            Figure(**{name: value for name, value in one.items() if name != "met"})
            for one in tree["figures"]
        ]
        return cls(tree["title"], figures, tree["notes"], tree["skipped"])


def number(value: float) -> str:
    """Return about three significant digits, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def target_of(figure: Figure) -> str:
    """Return the target as text, empty without one."""
    if figure.at_most is not None:
        return f"≤ {number(figure.at_most)} {figure.unit}"
    if figure.at_least is not None:
        return f"≥ {number(figure.at_least)} {figure.unit}"
    return ""


def spread_of(figure: Figure) -> str:
    """Return least and greatest as text, empty if there was one run."""
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    return f"{number(figure.low)} to {number(figure.high)}"


def verdict_of(figure: Figure) -> str:
    """Return ``met``, ``not met`` or nothing."""
    return {True: "met", False: "not met", None: ""}[figure.met]


def as_text(outcome: Outcome) -> str:
    """Return an outcome for a terminal."""
    lines = [outcome.title]
    if outcome.skipped:
        lines.append(f"  skipped: {outcome.skipped}")
    for figure in outcome.figures:
        value = f"{number(figure.value)} {figure.unit}"
        lines.append(
            f"  {figure.case:58} {value:>16}  {spread_of(figure):>20}  "
            f"{target_of(figure):>12}  {verdict_of(figure)}"
        )
    lines += [f"  - {note}" for note in outcome.notes]
    return "\n".join(lines)


def say(line: str) -> None:
    """Tell of progress on stderr."""
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()


def report(
    measure: Callable[[argparse.Namespace], Outcome],
    description: str | None,
    extend: Callable[[argparse.ArgumentParser], object] | None = None,
) -> None:
    """Be the main program of a benchmark: measure and print.

    Args:
        measure: Takes the arguments, returns what was found.
        description: The benchmark's docstring.
        extend: Adds arguments of its own to the parser.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    if extend is not None:
        extend(parser)
    arguments = parser.parse_args()
    outcome = measure(arguments)
    text = json.dumps(outcome.as_dict()) if arguments.json else as_text(outcome)
    sys.stdout.write(text + "\n")
