"""A comparison for a terminal."""

import math
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from latency.report import format_ns
from replay.lab.compare import Change, Comparison
from replay.lab.table import label_of

_COLOURS: Final = {"slower": "red", "faster": "green", "same": "default", "too few": "dim"}


def comparison_table(comparison: Comparison, base: str, new: str) -> RenderableType:
    """Return a comparison: a row a percentile, what was judged first."""
    table = Table(
        title=f"{base} → {new}: median of paired runs", title_justify="left",
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("speed", justify="right")
    table.add_column("what", no_wrap=True)
    for name in ("before", "after", "change", "noise band", "pairs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for change in comparison.changes:
        table.add_row(*_row(change))
    lines = [f"[yellow]{note}[/]" for note in comparison.notes]
    if comparison.sustainable is not None:
        before, after = comparison.sustainable
        lines.append(
            f"max sustainable: {before:,.0f} → {after:,.0f} ticks/s ({after / before - 1:+.0%}); "
            "one search each, not judged"
        )
    lines.append(_conclusion(comparison))
    return Group(table, *(Text.from_markup(f"  {line}") for line in lines))


def _row(change: Change) -> list[str]:
    stage, _, percentile = change.metric.partition(".")
    what = f"{label_of(stage).strip()} {percentile.replace('_', '.')}"
    colour = _COLOURS[change.verdict]
    band = "-" if math.isnan(change.low) else f"{change.low - 1:+.1%} to {change.high - 1:+.1%}"
    verdict = change.verdict if change.judged else f"({change.verdict})"
    return [
        f"{change.speed:g}", f"[bold]{what}[/]" if change.judged else what,
        format_ns(change.base_ns), format_ns(change.new_ns), f"{change.ratio - 1:+.1%}", band,
        str(change.pairs), f"[{colour}]{verdict}[/]",
    ]  # fmt: skip


def _conclusion(comparison: Comparison) -> str:
    limit = f"{comparison.threshold:.0%}"
    if comparison.regressions:
        return f"[red]regression beyond {limit} and the noise: {len(comparison.regressions)}[/]"
    return f"[green]no regression beyond {limit} and the noise in what is judged[/]"
