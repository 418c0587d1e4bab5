"""Latency as a picture: percentile curves of every stage, and how each went over time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from latency.counts import Int64s, StageCounts
from latency.hlog_reader import Hlog, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people with any colour vision (Okabe and Ito, 2008), darkened where too light.
_COLOURS: Final = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A7A00", "#56B4E9", "#444444", "#E69F00",
)  # fmt: skip
# Once round the colours, the next stages' lines are broken, so that no two look alike.
_LINES: Final = ("-", "--", ":", "-.")
_COLUMNS: Final = 3
_INK: Final = "#333333"
_GRID: Final = "#E2E2E2"
_MAXIMUM: Final = "#9A9A9A"
_LEAST_NS: Final = 1.0
_PANEL_PERCENTILES: Final = (50.0, 99.0)
_CROWDED: Final = 30
_DAY_NS: Final = 86_400_000_000_000
_TICK_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def percentile_curve(counts: StageCounts) -> tuple[npt.NDArray[np.float64], Int64s]:
    """Return the curve as an HDR plot draws it.

    Returns:
        1 / (1 - p), and the value in ns below or at which that share p of the values lies; the
        curve ends where the count ends: at p = 1 - 1/count.
    """
    total = counts.total
    above = total - np.concatenate(([0], np.cumsum(counts.counts)))
    inverse = total / np.maximum(above, 1)
    values = counts.scale.highest_values(counts.indices)
    return inverse, np.concatenate((values[:1], values))


def write_plot(log: Hlog, path: Path, title: str = "") -> None:
    """Draw an ``.hlog`` into an image file; its suffix says which kind (PNG, SVG, PDF).

    Raises:
        ValueError: a stage's intervals differ in precision, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure = draw(log, title)
    figure.savefig(path, dpi=130, facecolor="white")


def draw(log: Hlog, title: str = "") -> "Figure":
    """Draw the percentile curves above, a panel over time for each stage below.

    Raises:
        ValueError: a stage's intervals differ in precision.
    """
    # Importing matplotlib takes most of a second, and drawing is rare.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    totals = {stage: counts for stage, counts in log.totals().items() if counts.total}
    rows = -(-len(totals) // _COLUMNS)
    figure = Figure(figsize=(12, 5.6 + 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title or "Latency by stage", x=0.01, ha="left", weight="bold", color=_INK)
    colours = {stage: _COLOURS[i % len(_COLOURS)] for i, stage in enumerate(log.stages)}
    if not rows:
        _draw_curves(figure.add_subplot(), totals, colours)
        return figure
    grid = figure.add_gridspec(2, 1, height_ratios=[5.4, 2.2 * rows], hspace=0.04)
    _draw_curves(figure.add_subfigure(grid[0]).add_subplot(), totals, colours)
    below = figure.add_subfigure(grid[1])
    panels = list(below.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat)
    for stage, panel in zip(totals, panels, strict=False):
        _draw_series(panel, stage, log.of_stage(stage), colours[stage])
    _finish_panels(panels, len(totals), _span_ns(log.intervals))
    return figure


def _draw_curves(axes: "Axes", totals: dict[str, StageCounts], colours: dict[str, str]) -> None:
    slowest_first = sorted(totals, key=lambda stage: -int(totals[stage].values_at([99.0])[0]))
    for stage in slowest_first:
        inverse, values = percentile_curve(totals[stage])
        shown = np.maximum(values, _LEAST_NS)
        line = _LINES[list(colours).index(stage) // len(_COLOURS) % len(_LINES)]
        axes.step(
            inverse, shown, where="pre", color=colours[stage], ls=line, linewidth=1.8, label=stage
        )
        axes.plot(inverse[-1], shown[-1], "o", color=colours[stage], markersize=4.5)
    _percentile_axis(axes, max((counts.total for counts in totals.values()), default=1))
    _latency_axis(axes)
    axes.set_xlabel("percentile: this share of the values is no slower", fontsize=9, color=_INK)
    axes.set_title("Distribution of each stage; the dot is its maximum", loc="left", fontsize=10)
    if totals:
        axes.legend(
            title="slowest p99 first", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False,
            fontsize=9, title_fontsize=8,
        )  # fmt: skip


def _percentile_axis(axes: "Axes", most: int) -> None:
    nines = range(2, max(2, len(str(most)) - 1) + 1)
    places = [1.0, 2.0, 4.0, 10.0, *(10.0**n for n in nines)]
    labels = ["0 %", "50 %", "75 %", "90 %", *(f"{100 - 10 ** (2 - n):.{n - 2}f} %" for n in nines)]
    axes.set_xscale("log")
    axes.set_xlim(1.0, max(10.0, most) * 1.3)
    axes.set_xticks(places, labels)
    axes.set_xticks([], minor=True)


def _draw_series(axes: "Axes", stage: str, intervals: Sequence[Interval], colour: str) -> None:
    from matplotlib.dates import date2num

    used = [interval for interval in intervals if interval.counts.total]
    days = np.array(
        [date2num(datetime.fromtimestamp(interval.end_wall_ns / 1e9, UTC)) for interval in used]  # type: ignore[no-untyped-call] # matplotlib's
    )
    marker = "o" if len(used) == 1 else "." if len(used) <= _CROWDED else ""
    middles, tails = np.maximum(
        np.array([interval.counts.values_at(_PANEL_PERCENTILES) for interval in used]), _LEAST_NS
    ).T
    worst = [max(interval.counts.max, _LEAST_NS) for interval in used]
    axes.fill_between(days, middles, tails, color=colour, alpha=0.15, linewidth=0)
    axes.plot(days, worst, color=_MAXIMUM, linewidth=1.0, marker=marker, label="max")
    axes.plot(days, tails, color=colour, linewidth=1.6, marker=marker, label="p99")
    axes.plot(days, middles, color=colour, linewidth=1.2, ls="--", marker=marker, label="p50")
    axes.set_title(stage, loc="left", fontsize=10, color=colour, weight="bold")
    _latency_axis(axes)


def _finish_panels(panels: Sequence["Axes"], used: int, span_ns: int) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter

    for panel in panels[used:]:
        panel.set_visible(False)
    for panel in panels[max(0, used - _COLUMNS) : used]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("time, UTC", fontsize=8, color=_INK)
    axis = panels[0].xaxis
    axis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5, tz=UTC))  # type: ignore[no-untyped-call] # matplotlib's
    form = "%H:%M:%S" if span_ns < _DAY_NS else "%m-%d %H:%M"
    axis.set_major_formatter(DateFormatter(form, tz=UTC))  # type: ignore[no-untyped-call] # matplotlib's
    panels[min(used, _COLUMNS) - 1].legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8
    )


def _span_ns(intervals: Sequence[Interval]) -> int:
    ends = [interval.end_wall_ns for interval in intervals]
    return max(ends) - min(ends)


def _latency_axis(axes: "Axes") -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _place: _tick_label(value))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)


def _tick_label(value_ns: float) -> str:
    unit_ns, name = next((unit for unit in _TICK_UNITS if value_ns >= unit[0]), _TICK_UNITS[-1])
    return f"{value_ns / unit_ns:g} {name}"
