"""The lab's figures: percentile curves, latencies over time, a flame of stages, the search."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from latency.counts import StageCounts
from latency.plot import percentile_curve
from latency.report import format_ns
from replay.lab.flame import Part, flame_of_all, flame_of_slowest
from replay.lab.measured import END_TO_END, INJECTOR, NAIVE, NOISE
from replay.lab.results import Run
from replay.lab.search import Search
from replay.lab.table import label_of
from replay.report_page import COLOURS, new_figure

COMPARED: Final = (END_TO_END, NAIVE, INJECTOR, NOISE)
_DASHES: Final = {NAIVE: "dash", INJECTOR: "dot", NOISE: "dot"}
_NS_PER_MS: Final = 1e6
_SERIES: Final = (
    ("worst", "end to end, max", COLOURS[1], "solid"),
    ("p99", "end to end, p99", COLOURS[0], "solid"),
    ("p50", "end to end, p50", COLOURS[5], "solid"),
    ("naive_worst", "if senders waited, max", COLOURS[2], "dash"),
    ("injector", "injector late, max", COLOURS[6], "dot"),
    ("noise", "scheduling, max", COLOURS[4], "dot"),
)
_MOST_POINTS: Final = 600


def curves(stages: Mapping[str, StageCounts], names: Sequence[str]) -> Any:
    """Return percentile curves: the share of values is drawn by its distance from all of them."""
    figure = new_figure(430, hovermode="closest")
    for number, name in enumerate(names):
        counts = stages.get(name)
        if counts is None or not counts.total:
            continue
        inverse, values = _thinned(counts)
        figure.add_scatter(
            x=inverse, y=values / _NS_PER_MS, mode="lines", line_shape="vh",
            name=label_of(name).strip(),
            line={"color": COLOURS[number % len(COLOURS)], "dash": _DASHES.get(name, "solid")},
            customdata=100 * (1 - 1 / inverse),
            hovertemplate="%{customdata:.4g} %: %{y:.4g} ms",
        )  # fmt: skip
    most = max((counts.total for counts in stages.values()), default=1)
    nines = range(1, max(2, len(str(most))))
    figure.update_xaxes(
        type="log", title="percentile: this share of the values is no slower",
        tickvals=[1, 2, 4, *(10**n for n in nines)],
        ticktext=["0 %", "50 %", "75 %", *(f"{100 - 10.0 ** (2 - n):.10g} %" for n in nines)],
    )  # fmt: skip
    figure.update_yaxes(type="log", title="ms", exponentformat="none")
    return figure


def over_time(run: Run) -> Any:
    """Return latencies over the measured time, by when ticks were due."""
    figure = new_figure(380)
    series = run.outcome.measured.series
    for field, name, colour, dash in _SERIES:
        values = getattr(series, field)
        if np.isfinite(values).any():
            figure.add_scatter(
                x=series.begin_s, y=np.maximum(values, 1.0) / _NS_PER_MS, mode="lines", name=name,
                line={"color": colour, "dash": dash}, hovertemplate="%{y:.4g} ms",
            )  # fmt: skip
    figure.update_xaxes(title="seconds, by the time ticks were due")
    figure.update_yaxes(type="log", title="ms", exponentformat="none")
    return figure


def flames(run: Run) -> Any:
    """Return where the time goes: all signals to the left, the slowest hundredth to the right."""
    import plotly.graph_objects as go

    figure = new_figure(360, hovermode="closest")
    pairs = [flame_of_all(run), flame_of_slowest(run)]
    shown = [boxes for boxes in pairs if boxes[0].value > 0]
    for number, boxes in enumerate(shown):
        begin = number / len(shown)
        domain = {"x": [begin, begin + 1 / len(shown) - 0.01], "y": [0, 1]}
        figure.add_trace(go.Icicle(domain=domain, **_boxes(boxes)))
    return figure


def _boxes(boxes: Sequence[Part]) -> dict[str, Any]:
    whole = max(boxes[0].value, 1e-9)
    return {
        "labels": [box.name for box in boxes],
        "parents": [box.parent for box in boxes],
        "values": [box.value for box in boxes],
        "text": [f"{format_ns(box.value)}, {box.value / whole:.0%}" for box in boxes],
        "textinfo": "label+text",
        "hovertemplate": "%{label}: %{text}<extra></extra>",
        "branchvalues": "total",
        "tiling": {"orientation": "v"},
        "sort": False,
    }


def search_steps(search: Search, budget_ns: int) -> Any:
    """Return p99 over the rate, for every speed tried, with the budget."""
    figure = new_figure(340, hovermode="closest")
    for kept, name, colour in ((True, "kept", COLOURS[0]), (False, "not kept", COLOURS[1])):
        steps = [step for step in search.steps if step.kept is kept]
        if steps:
            figure.add_scatter(
                x=[step.ticks_per_s for step in steps],
                y=[step.p99_ns / _NS_PER_MS for step in steps],
                mode="markers", marker={"size": 9, "color": colour}, name=name,
                text=[step.why for step in steps],
                hovertemplate="%{x:,.0f} ticks/s: %{y:.4g} ms %{text}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=budget_ns / _NS_PER_MS, line={"color": COLOURS[6], "dash": "dash"})
    figure.update_xaxes(type="log", title="ticks/s")
    figure.update_yaxes(type="log", title="p99, ms", exponentformat="none")
    return figure


def _thinned(counts: StageCounts) -> tuple[Any, Any]:
    inverse, values = percentile_curve(counts)
    if len(inverse) <= _MOST_POINTS:
        return inverse, values
    chosen = np.unique(np.linspace(0, len(inverse) - 1, _MOST_POINTS).astype(np.int64))
    return inverse[chosen], values[chosen]
