"""A sweep as one HTML file: the best trials, the objective by trial and by parameter."""

import math
from pathlib import Path
from typing import Any

from engine.core.errors import ConfigError
from replay.report_page import COLOURS, Plot, Section, Table, Text, new_figure, write_page
from replay.sweep.dimension import Choices, Dimension
from replay.sweep.space import SearchSpace
from replay.sweep.text import headings, row_of, summary_lines
from replay.sweep.verdict import Verdict

_TOP = 25


def write_report(verdict: Verdict, space: SearchSpace, path: Path) -> None:
    """Write the report.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, "Parameter sweep", sections_of(verdict, space), verdict.objective.metric)
    except OSError as error:
        told = error.strerror or str(error)
        raise ConfigError("command line", "--html", str(path), f"a file to write: {told}") from None


def sections_of(verdict: Verdict, space: SearchSpace) -> list[Section]:
    """Return the page's parts."""
    sections: list[Section] = [Text("What came of it", "\n\n".join(summary_lines(verdict)))]
    if not verdict.ranked:
        return sections
    rows = [row_of(verdict, outcome) for outcome in verdict.ranked[:_TOP]]
    shown = [[str(cell) if isinstance(cell, bool) else cell for cell in row] for row in rows]
    sections.append(Table("Best trials", headings(verdict), shown))
    sections.append(Plot("Trials in their order", _history(verdict)))
    sections += [Plot(one.key, _slice(verdict, one)) for one in space.dimensions]
    numeric = [one for one in space.dimensions if len(one.ends) > 1]
    if len(numeric) > 1:
        sections.append(Plot(f"{numeric[0].key} and {numeric[1].key}", _pair(verdict, numeric)))
    return sections


def _points(verdict: Verdict) -> list[tuple[Any, float]]:
    """Return the trials that have a value, with it, in their order."""
    pairs = [(one, verdict.objective.value(one)) for one in verdict.outcomes]
    return [(one, value) for one, value in pairs if value is not None]


def _history(verdict: Verdict) -> Any:
    points = _points(verdict)
    numbers, values = [one.number for one, _ in points], [value for _, value in points]
    best, so_far = [], -math.inf
    sign = 1.0 if verdict.objective.maximise else -1.0
    for value in values:
        so_far = max(so_far, sign * value)
        best.append(sign * so_far)
    figure = new_figure(hovermode="closest")
    figure.add_scatter(x=numbers, y=values, mode="markers", name="trial")
    figure.add_scatter(x=numbers, y=best, mode="lines", name="best so far", line_shape="hv")
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title=verdict.objective.metric)
    return figure


def _slice(verdict: Verdict, dimension: Dimension) -> Any:
    points = _points(verdict)
    figure = new_figure(320, hovermode="closest", showlegend=False)
    figure.add_scatter(
        x=[one.params[dimension.key] for one, _ in points],
        y=[value for _, value in points],
        mode="markers",
        text=[f"trial {one.number}" for one, _ in points],
        marker={"color": COLOURS[0], "opacity": 0.7},
    )
    figure.update_xaxes(title=dimension.key, **_axis(dimension))
    figure.update_yaxes(title=verdict.objective.metric)
    return figure


def _pair(verdict: Verdict, dimensions: list[Dimension]) -> Any:
    points = _points(verdict)
    across, up = dimensions[:2]
    figure = new_figure(420, hovermode="closest", showlegend=False)
    figure.add_scatter(
        x=[one.params[across.key] for one, _ in points],
        y=[one.params[up.key] for one, _ in points],
        mode="markers",
        text=[f"trial {one.number}: {value:.4g}" for one, value in points],
        marker={
            "color": [value for _, value in points],
            "colorscale": "Viridis",
            "size": 10,
            "showscale": True,
            "colorbar": {"title": verdict.objective.metric},
        },
    )
    figure.update_xaxes(title=across.key, **_axis(across))
    figure.update_yaxes(title=up.key, **_axis(up))
    return figure


def _axis(dimension: Dimension) -> dict[str, Any]:
    if isinstance(dimension, Choices):
        order = list(dimension.listed())
        return {"type": "category", "categoryorder": "array", "categoryarray": order}
    return {"type": "log"} if dimension.log else {}
