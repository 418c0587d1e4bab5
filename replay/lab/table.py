"""The lab's results for a terminal: a table a run, a line a finding, one row a speed at the end."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.core.reasons import Reason
from latency.counts import StageSummary
from latency.report import format_count, format_ns, percentile_table
from latency.stall import LOOP
from replay.lab.measured import DELIVERY, END_TO_END, INJECTOR, NAIVE, NOISE
from replay.lab.results import Result, Run
from replay.lab.search import Search, Step

LABELS: Final = {
    END_TO_END: "end to end",
    NAIVE: "  if senders waited",
    "wire": "queueing: link",
    "ingest": "service: decode",
    "compute": "service: kernel",
    "gate": "service: risk gate",
    "publish": "service: publish",
    "total": "engine, of signals",
    DELIVERY: "gate to client",
    LOOP: "beside: loop late",
    INJECTOR: "beside: injector late",
    NOISE: "beside: scheduling",
}
OMITTED: Final = 2.0
"""Ratio from which on the naive figure is said to hide something."""
_WIDTH: Final = 120
_SHOWN_REFUSALS: Final = 4


def label_of(stage: str) -> str:
    """Return what a stage is called in tables and figures."""
    kind, found, model = stage.partition(":")
    if found:
        return f"{'queueing' if kind == 'queue' else 'service'}: {model}"
    return LABELS.get(stage, stage)


def lab_console(*, stderr: bool = False) -> Console:
    """Return a console that is wide enough for a table where there is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def run_table(run: Run) -> RenderableType:
    """Return one run: a row a stage, and below what it means."""
    summaries = {label_of(name): summary for name, summary in run.summaries.items()}
    measured = run.outcome.measured
    title = (
        f"speed {run.speed:g}, run {run.repeat}: {run.ticks_per_s:,.0f} ticks/s for "
        f"{measured.seconds:.1f} s, {measured.signals:,} signals"
    )
    lines = [Text.from_markup(f"  {line}") for line in findings(run)]
    return Group(percentile_table(summaries, title), *lines, Text(""))


def findings(run: Run) -> Iterator[str]:
    """Yield what a reader must know of a run, a line each, with colours."""
    if run.void:
        yield f"[red]void: {run.void}[/]"
    summaries = run.summaries
    yield from _omission(summaries)
    if run.stalls:
        worst = format_ns(summaries[LOOP].max)
        budget = format_ns(run.stall_budget_ns)
        times = f"{run.stalls} times over {budget}, {worst} at most"
        yield f"[yellow]the engine's loop stalled {times}[/]"
    yield from _losses(run)
    yield from _refusals(run)
    yield from _few(run)
    if run.late_injector:
        yield from (f"[yellow]{problem}[/]" for problem in run.outcome.problems)


def _omission(summaries: dict[str, StageSummary]) -> Iterator[str]:
    true, naive = summaries[END_TO_END], summaries[NAIVE]
    for name, needed in (("p99_9", 1_000), ("p99", 100)):
        from_intended, waited = getattr(true, name), getattr(naive, name)
        if true.count >= needed and from_intended > OMITTED * max(waited, 1):
            yield (
                f"coordinated omission: {name.replace('_', '.')} is "
                f"[bold]{format_ns(from_intended)}[/] from intended time; a tester that waits for "
                f"answers would report {format_ns(waited)}"
            )
            return


def _losses(run: Run) -> Iterator[str]:
    if run.lost and run.late_injector:
        yield f"[red]{run.lost:,} of {run.outcome.sent:,} ticks sent were not taken in time[/]"
    faults = {
        name: count
        for name, count in run.outcome.status.get("input", {}).items()
        if name.startswith(("frame_", "refused_", "gap"))
    }
    if faults:
        told = ", ".join(f"{name} {count:,}" for name, count in faults.items())
        yield f"[yellow]input: {told}[/]"
    for problem in run.outcome.status.get("problems", []):
        yield f"[yellow]the engine said: {problem}[/]"


def _refusals(run: Run) -> Iterator[str]:
    refusals = sorted(
        run.outcome.status.get("refusals", {}).items(), key=lambda one: one[1], reverse=True
    )
    if refusals:
        shown = ", ".join(f"{name} {count:,}" for name, count in refusals[:_SHOWN_REFUSALS])
        more = len(refusals) - _SHOWN_REFUSALS
        yield f"refused: {shown}{f' and {more} more reasons' if more > 0 else ''}"
    if Reason.DATA_STALE in dict(refusals) or Reason.DATA_LATE in dict(refusals):
        yield "[dim]  what was refused as late or stale is in no end-to-end figure[/]"


def _few(run: Run) -> Iterator[str]:
    signals = run.outcome.measured.signals
    if not signals:
        yield (
            "[yellow]no signal in the measured part: end to end there is nothing to measure; what "
            "every tick has, stands under queueing[/]"
        )
    elif signals < 1_000:
        yield (
            f"[dim]{signals:,} signals: a p99.9 needs 1,000; see docs/latency.md on more of them[/]"
        )


def summary_table(result: Result) -> RenderableType:
    """Return all runs, one a row, and the search."""
    parts: list[RenderableType] = []
    if len(result.runs) > 1:
        parts.append(_runs_table(result.runs))
    if result.search is not None:
        parts += [_steps_table(result.search), Text.from_markup(answer(result)), Text("")]
    return Group(*parts)


def _runs_table(runs: Sequence[Run]) -> Table:
    table = _new_table("All runs: end to end from intended time")
    for name in ("speed", "run", "ticks/s", "signals", "p50", "p99", "p99.9", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("p99.9 if\nsenders waited", justify="right", no_wrap=True)
    table.add_column("injector\np99.9 late", justify="right", no_wrap=True)
    table.add_column("stalls", justify="right")
    table.add_column("verdict")
    for run in runs:
        one, naive = run.summaries[END_TO_END], run.summaries[NAIVE]
        times = [_time(one, name) for name in ("p50", "p99", "p99_9", "max")]
        late = format_ns(run.summaries[INJECTOR].p99_9)
        table.add_row(
            f"{run.speed:g}", str(run.repeat), f"{run.ticks_per_s:,.0f}",
            format_count(run.outcome.measured.signals), *times, _time(naive, "p99_9"), late,
            str(run.stalls), "[red]void[/]" if run.void else "valid",
        )  # fmt: skip
    return table


def _time(summary: StageSummary, name: str) -> str:
    return format_ns(getattr(summary, name)) if summary.count else "[dim]-[/]"


def _steps_table(search: Search) -> Table:
    table = _new_table("Search for the highest speed that can be sustained")
    for name in ("speed", "ticks/s", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for step in sorted(search.steps, key=lambda step: step.speed):
        verdict = "[green]kept[/]" if step.kept else f"[red]{step.why}[/]"
        table.add_row(
            f"{step.speed:.4g}", f"{step.ticks_per_s:,.0f}", format_ns(step.p99_ns), verdict
        )
    return table


def answer(result: Result) -> str:
    """Return in a sentence what the search found, with colours."""
    search = result.search
    assert search is not None
    budget = format_ns(result.budget_ns)
    best, crossed = search.best, search.crossed
    if best is None:
        return f"  [red]no speed kept a p99 of {budget}[/]"
    text = (
        f"  max sustainable: [bold]{best.ticks_per_s:,.0f} ticks/s[/] (speed {best.speed:.4g}) "
        f"with a p99 of {format_ns(best.p99_ns)} within {budget}, {_measure(best)}"
    )
    if search.limited_by == "log":
        return f"{text}; the log is too short for a faster one"
    if search.limited_by == "injector":
        return f"{text}; above it the injector itself was late on this machine"
    if crossed is None:
        return text
    return f"{text}; at {crossed.ticks_per_s:,.0f} ticks/s it was {format_ns(crossed.p99_ns)}"


def _measure(step: Step) -> str:
    if step.measure == END_TO_END:
        return "tick to client"
    return "tick to engine (too few signals to measure up to the client)"


def _new_table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
