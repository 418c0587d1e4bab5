"""The lab's report: one HTML file that opens offline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.text import Text as Marked

from latency.counts import StageSummary
from latency.report import format_count, format_ns
from latency.stages import STAGES
from replay.lab.figures import COMPARED, curves, flames, over_time, search_steps
from replay.lab.measured import DELIVERY, END_TO_END, INJECTOR, NAIVE
from replay.lab.results import Result, Run
from replay.lab.table import answer, findings, label_of
from replay.report_page import Plot, Section, Table, Text, write_page

_TIMES: Final = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
_HOW: Final = """
Every latency begins at the time its tick was to be sent, whenever it really left and however long
the engine kept it waiting. The line "if senders waited" is what a tester would have written down
who sends a tick only after the answer to the one before; where it lies far below, waiting was left
out of it: coordinated omission.

The injector's own lateness and the scheduling of a process that does nothing are measured beside;
both are in every other figure.
"""


def write_report(path: Path, result: Result) -> None:
    """Write the report.

    Raises:
        OSError: it cannot be written.
    """
    log, host = result.facts["log"], result.facts["host"]
    subtitle = (
        f"{log['path']}: {log['ticks']:,} ticks; heqis {host['heqis']} on {host['machine']}, "
        f"{host['cores']} cores, {host['system']}"
    )
    write_page(path, "Latency lab", list(sections(result)), subtitle)


def sections(result: Result) -> Iterator[Section]:
    """Yield the report's parts in order."""
    yield Text("What was measured", _HOW)
    if result.runs:
        yield _all_runs(result.runs)
    if result.search is not None:
        yield Plot(
            "Highest speed that can be sustained",
            search_steps(result.search, result.budget_ns),
            Marked.from_markup(answer(result)).plain.strip(),
        )
    for run in typical_runs(result.runs):
        yield from _of_run(run)


def typical_runs(runs: Sequence[Run]) -> list[Run]:
    """Return for each speed the run whose p99 is the middle one, of those that count."""
    chosen = []
    for speed in dict.fromkeys(run.speed for run in runs):
        alike = [run for run in runs if run.speed == speed]
        valid = [run for run in alike if not run.void] or alike
        ordered = sorted(valid, key=lambda run: run.summaries[END_TO_END].p99)
        chosen.append(ordered[len(ordered) // 2])
    return chosen


def _of_run(run: Run) -> Iterator[Section]:
    head = f"Speed {run.speed:g}, {run.ticks_per_s:,.0f} ticks/s"
    said = " ".join(Marked.from_markup(line).plain.strip() + "." for line in findings(run))
    yield _stages(head, run, said)
    stages = run.stages
    yield Plot(f"{head}: from intended time, and as it would look otherwise",
               curves(stages, COMPARED))  # fmt: skip
    own = [name for name in stages if name in (*STAGES, DELIVERY) or ":" in name]
    yield Plot(f"{head}: stages", curves(stages, own))
    yield Plot(f"{head}: over time", over_time(run))
    yield Plot(
        f"{head}: where the time goes", flames(run),
        "Means. To the left all signals, to the right the slowest hundredth.",
    )  # fmt: skip


def _stages(head: str, run: Run, note: str) -> Table:
    rows = [
        [label_of(name).strip(), format_count(summary.count), *_times(summary, _TIMES)]
        for name, summary in run.summaries.items()
    ]
    headings = ("stage", "count", *(name.replace("_", ".") for name in _TIMES))
    return Table(f"{head}: percentiles by stage", headings, rows, note)


def _all_runs(runs: Sequence[Run]) -> Table:
    rows: list[list[Any]] = []
    for run in runs:
        one, naive, late = (run.summaries[name] for name in (END_TO_END, NAIVE, INJECTOR))
        rows.append(
            [
                f"{run.speed:g}", str(run.repeat), f"{run.ticks_per_s:,.0f}", f"{one.count:,}",
                *_times(one, ("p50", "p99", "p99_9", "max")), *_times(naive, ("p99_9",)),
                *_times(late, ("p99_9",)), str(run.stalls), f"void: {run.void}" if run.void else "",
            ]
        )  # fmt: skip
    headings = (
        "speed", "run", "ticks/s", "received", "p50", "p99", "p99.9", "max",
        "p99.9 if senders waited", "injector p99.9 late", "stalls", "",
    )  # fmt: skip
    return Table("All runs, end to end from intended time", headings, rows)


def _times(summary: StageSummary, names: Sequence[str]) -> list[str]:
    return [format_ns(getattr(summary, name)) if summary.count else "\u2013" for name in names]
