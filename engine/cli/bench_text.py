"""What ``heqis bench`` prints for people."""

from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_TITLES: Final = (
    "form", "on", "load ms", "again", "warm-up", "alone p50 µs", "p99", "batcher p50 µs", "p99",
    "best batch", "bare rows/s", "batcher rows/s", "of bare",
)  # fmt: skip
_PIPE_WIDTH: Final = 160
"""Columns where there is no terminal to ask."""


def print_runtime(facts: dict[str, Any]) -> None:
    """Print what ``heqis bench runtime`` measured: a line a form, then a table of batch sizes."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    title = f"{facts['identity']} on {facts['cores']} cores, {facts['system']}"
    console.print(f"[bold]{escape(title)}[/]", highlight=False)
    console.print(_overview(facts["results"]))
    for result in facts["results"]:
        name = escape(f"{result['file']} on {result['backend']}@{result['device']}")
        if result["problem"]:
            console.print(f"[yellow]{name}: {escape(result['problem'])}[/]", highlight=False)
        else:
            console.print(f"[bold]{name}[/]", highlight=False)
            console.print(_sizes(result))


def _overview(results: list[dict[str, Any]]) -> Table:
    table = _table(_TITLES, left=2)
    for result in results:
        if result["problem"]:
            continue
        call, request = result["calls"][0], result["request"]
        best = max(result["bare"] or result["calls"], key=lambda one: one["rows_per_s"])
        served = result["saturated_rows_per_s"]
        table.add_row(
            f"{result['file']} {result['precision']}",
            f"{result['backend']}@{result['device']}",
            f"{result['load_ms']:,.0f}",
            f"{result['reload_ms']:,.0f}",
            f"{result['warm_up_ms']:,.0f}",
            f"{call['p50_us']:,.1f}",
            f"{call['p99_us']:,.1f}",
            f"{request['p50_us']:,.1f}",
            f"{request['p99_us']:,.1f}",
            str(best["batch"]),
            f"{best['rows_per_s']:,.0f}",
            f"{served:,.0f}",
            f"{served / best['rows_per_s']:.0%}",
        )
    return table


def _sizes(result: dict[str, Any]) -> Table:
    """Return the batch sizes of one form; the bare call is a graph's replay where there is one."""
    bare = "graph replay" if result["graphs"] else "bare call"
    table = _table(("batch", "p50 µs", "p99", "rows/s", f"{bare} p50 µs", "p99", "rows/s"), left=0)
    without = [None] * len(result["calls"])
    for call, alone in zip(result["calls"], result["bare"] or without, strict=True):
        row = [str(call["batch"]), *_cells(call)]
        table.add_row(*row, *(_cells(alone) if alone is not None else ("", "", "")))
    return table


def _cells(times: dict[str, Any]) -> tuple[str, str, str]:
    return f"{times['p50_us']:,.1f}", f"{times['p99_us']:,.1f}", f"{times['rows_per_s']:,.0f}"


def _table(titles: tuple[str, ...], left: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, no_wrap=True, justify="left" if place < left else "right")
    return table
