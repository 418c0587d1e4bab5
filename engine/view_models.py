"""What the terminal view shows of models: who scored a signal, a line for each model. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from engine.core.signals import Signal
from engine.view_text import GAP, Cell, bundle_text, clip, fit, labelled, printable, rule
from latency.report import format_count, format_ns

_BUNDLE_WIDTH: Final = 24
_NAMES_STAGES: Final = 100
"""Columns from which the times of inference are called so."""
MAX_SHOWN: Final = 4
"""Models with a line of their own."""


def scored_by(signal: Signal, *, wide: bool) -> Cell:
    """Return what scored a signal, and how long that took from request to answer."""
    if signal.backend is None:
        return "rule", "dim"
    took = format_ns((signal.queue_ns or 0) + (signal.service_ns or 0))
    where = f"{signal.backend}@{signal.device}" if wide else str(signal.device)
    return f"{where} {took}", "magenta"


def model_lines(status: Mapping[str, Any], width: int) -> list[Text]:
    """Return a titled line a model, the first few; nothing if there are none."""
    told = status.get("models", {})
    models = told.get("serving", {}).get("models", {})
    if not models:
        return []
    title = Text("models", "bold")
    if len(models) > MAX_SHOWN:
        title.append(f" {MAX_SHOWN} of {len(models)}", "dim")
    shown = list(models.items())[:MAX_SHOWN]
    lines = [_line(name, model, told.get("latency", {}), width) for name, model in shown]
    return [rule(title, width), *lines]


def model_texts(status: Mapping[str, Any]) -> list[str]:
    """Return what is said of each model in a line of plain text."""
    models = status.get("models", {}).get("serving", {}).get("models", {})
    return [
        f"model {name}: {_where(model)[0].removeprefix('● ')}, {model['scores']:,} scores"
        for name, model in models.items()
    ]


def _line(name: str, model: Mapping[str, Any], latency: Mapping[str, Any], width: int) -> Text:
    where, style = _where(model)
    times = _times_of(name, model, latency)
    failed = sum(model["failures"].values())
    shown = printable(name)
    bundle = clip(bundle_text(model["bundle"]), _BUNDLE_WIDTH)
    stages = [stage for stage in ("inference", "queue") if stage in times]
    parts = [
        Text(shown, "bold"),
        Text(bundle, "cyan"),
        Text(clip(where, width - cell_len(shown) - cell_len(bundle) - 2 * GAP), style),
        *(_stage_part(stage, times[stage], width) for stage in stages),
        labelled("scores", format_count(model["scores"])),
        *([labelled("no score", format_count(failed), "yellow")] if failed else []),
        *([labelled("beside it", printable(model["shadow"]["bundle"]))] if model["shadow"] else []),
        Text(printable(model["bundle"]), "dim"),
    ]
    return fit(parts, width)


def _stage_part(stage: str, times: Mapping[str, int], width: int) -> Text:
    """Return a stage's times; where there is little room only the queue says what it is."""
    label = "p50" if width < _NAMES_STAGES and stage == "inference" else f"{stage} p50"
    return labelled(label, format_ns(times["p50"])).append(" p99 ", "dim").append(
        format_ns(times["p99"])
    )  # fmt: skip


def _where(model: Mapping[str, Any]) -> tuple[str, str]:
    """Return what serves a model, and instead of what if it is not the preferred."""
    serving = next((rung for rung in model["rungs"] if rung["serves"]), None)
    first = model["rungs"][0]
    if serving is None:
        return f"● no device left: {first['detail']}", "bold red"
    text = f"● {serving['backend']}@{serving['device']} {serving['precision']}"
    if serving is first:
        return text, "green"
    return f"{text} instead of {first['rung']} ({first['detail']})", "yellow"


def _times_of(
    name: str, model: Mapping[str, Any], latency: Mapping[str, Any]
) -> Mapping[str, Mapping[str, int]]:
    """Return the stages of the lane that serves, where it has served at all."""
    backend, device = model["backend"], model["device"]
    for label in (name, f"{name}/{backend}"):
        for lane in (f"{backend}@{device}", device):
            stages = latency.get(f"{label}/{lane}")
            if stages:
                return {stage: times for stage, times in stages.items() if times["count"]}
    return {}
