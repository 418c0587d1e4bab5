"""Latency for people and machines: a percentile table, and the same numbers as plain fields."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from latency.counts import StageSummary

_UNITS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))
_COUNT_UNITS: Final = ((10**12, "T"), (10**9, "G"), (10**6, "M"))
_TIMES: Final = {
    "mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "p99_9": "p99.9",
    "p99_99": "p99.99", "max": "max",
}  # fmt: skip
"""Headings by field."""
_MISSED_LEAST: Final = ("p99_99", "mean", "p90")
_UNBOUNDED: Final = 10_000
"""Columns of a terminal that has room for all."""


def format_ns(value_ns: float) -> str:
    """Write a duration with three significant digits in the unit that suits it."""
    for unit_ns, name in _UNITS:
        if abs(value_ns) >= unit_ns:
            value = value_ns / unit_ns
            decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
            return f"{value:.{decimals}f} {name}"
    return f"{value_ns:.0f} ns"


def format_count(count: int) -> str:
    """Write a count exactly below a million, and with three significant digits above."""
    for unit, name in _COUNT_UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,}"


class PercentileTable:
    """Stages as a table, one a row, as wide as there is room for; made by ``percentile_table``."""

    def __init__(self, summaries: Mapping[str, StageSummary], title: str) -> None:
        self._summaries = summaries
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Leave out what is missed least until the rest fits; then only names are folded."""
        unbounded = options.update(max_width=_UNBOUNDED)
        for left_out in range(len(_MISSED_LEAST) + 1):
            shown = [time for time in _TIMES if time not in _MISSED_LEAST[:left_out]]
            table = self._table(shown)
            if Measurement.get(console, unbounded, table).maximum <= options.max_width:
                break
        yield table

    def _table(self, shown: Sequence[str]) -> Table:
        table = Table(
            title=self._title or None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        table.add_column("stage", style="bold", overflow="fold")
        table.add_column("count", justify="right", no_wrap=True)
        for name in shown:
            table.add_column(_TIMES[name], justify="right", no_wrap=True)
        summaries = self._summaries
        odd = any(summary.clock_faults or summary.out_of_range for summary in summaries.values())
        if odd:
            gap = " " if len(shown) == len(_TIMES) else "\n"
            table.add_column(f"clock{gap}faults", justify="right", style="red")
            table.add_column(f"out of{gap}range", justify="right", style="yellow")
        for name, summary in summaries.items():
            faults = [f"{summary.clock_faults:,}", f"{summary.out_of_range:,}"] if odd else []
            table.add_row(name, format_count(summary.count), *_cells(summary, shown), *faults)
        return table


def percentile_table(summaries: Mapping[str, StageSummary], title: str = "") -> PercentileTable:
    """Lay the stages out as a table, one a row.

    A percentile that the count cannot support (fewer than one value above it) is dimmed: it is
    the maximum under another name. In a narrow terminal p99.99, mean and p90 are left out.
    """
    return PercentileTable(summaries, title)


def summary_fields(summaries: Mapping[str, StageSummary]) -> dict[str, dict[str, Any]]:
    """Return the summaries as plain fields for JSON, times suffixed ``_ns``."""
    return {
        name: {
            f"{field}_ns" if field in _TIMES else field: value
            for field, value in asdict(summary).items()
        }
        for name, summary in summaries.items()
    }


def _cells(summary: StageSummary, shown: Sequence[str]) -> list[str]:
    if not summary.count:
        return ["[dim]-[/]"] * len(shown)
    beyond = {"p90": 10, "p99": 100, "p99_9": 1_000, "p99_99": 10_000}
    return [
        f"[dim]{text}[/]" if summary.count < beyond.get(field, 0) else text
        for field, text in ((field, format_ns(getattr(summary, field))) for field in shown)
    ]
