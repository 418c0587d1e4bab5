"""What became of models from one status to the next: swapped, degraded, recovered. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.text import Text

from engine.view_text import bundle_text, clip, fit, format_time, printable, rule


class ViewEvent(NamedTuple):
    """Something that happened between two statuses."""

    wall_ns: int
    """Time of the status that told of it."""
    text: str
    style: str


def model_events(
    before: Mapping[str, Any], after: Mapping[str, Any], wall_ns: int
) -> list[ViewEvent]:
    """Return what happened to models between two statuses of one run of the engine.

    Args:
        before: The status before, empty if there was none.
        after: The status now.
        wall_ns: Its time.
    """
    if not before or after.get("uptime_s", 0.0) < before.get("uptime_s", 0.0):
        return []
    was, now = _models(before), _models(after)
    return [
        ViewEvent(wall_ns, f"{printable(name)}: {text}", style)
        for name in now
        if name in was
        for text, style in _changes(was[name], now[name])
    ]


def event_lines(events: list[ViewEvent], rows: int, width: int) -> list[Text]:
    """Return a titled line for each of the newest events; nothing if there are none."""
    shown = events[:rows]
    lines = [fit([Text(clip(event_text(one), width), one.style)], width) for one in shown]
    return [rule(Text("models changed", "bold"), width), *lines] if shown else []


def event_text(event: ViewEvent) -> str:
    """Return an event in one line of plain text."""
    return f"{format_time(event.wall_ns, millis=False)} {event.text}"


def _models(status: Mapping[str, Any]) -> Mapping[str, Any]:
    models: Mapping[str, Any] = status.get("models", {}).get("serving", {}).get("models", {})
    return models


def _changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if was["bundle"] != now["bundle"]:
        old, new = bundle_text(was["bundle"]), bundle_text(now["bundle"])
        if old == new:
            old, new = was["bundle"], now["bundle"]
        yield f"swapped: {printable(new)} serves, it was {printable(old)}", "bold cyan"
    before, after = _place(was), _place(now)
    if after > before:
        yield _degraded(now, before, after), "bold red" if _is_last(now, after) else "yellow"
    elif after < before:
        yield f"recovered: {now['rungs'][after]['rung']} serves again", "green"


def _degraded(now: Mapping[str, Any], before: int, after: int) -> str:
    left = now["rungs"][before]
    why = f"{left['rung']} is left ({printable(str(left['detail']))})"
    if _is_last(now, after):
        return f"no device left: {why}"
    return f"degraded: {now['rungs'][after]['rung']} serves, {why}"


def _place(model: Mapping[str, Any]) -> int:
    """Return which entry of the placement serves; behind the last if none does."""
    rungs = model["rungs"]
    return next((place for place, rung in enumerate(rungs) if rung["serves"]), len(rungs))


def _is_last(model: Mapping[str, Any], place: int) -> bool:
    return place == len(model["rungs"])
