"""An explanation as text for people. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from replay.analysis.diff_text import fields_text, moment
from replay.analysis.explain import Explanation
from replay.analysis.explain_scene import Fields

_ROWS: Final = 5
_SIGNAL: Final = (
    "side", "strength", "confidence", "edge_bps", "price", "age_ns", "epoch", "seq", "model",
    "backend", "device", "precision", "reason", "detail",
)  # fmt: skip
_TICK: Final = ("price", "size", "bid", "bid_size", "ask", "ask_size", "side", "flags")


def explanation_lines(told: Explanation) -> Iterator[str]:
    """Yield the lines of an explanation."""
    wanted, scene = told.wanted, told.scene
    yield f"signal {wanted.id}"
    yield f"  {wanted.strategy} on {wanted.instrument}, tick {wanted.tick_epoch}/{wanted.tick_seq}"
    if told.live is not None:
        yield f"  live: {fields_text(_some(told.live, _SIGNAL))}"
    if scene.decided is not None:
        yield f"  here: {fields_text(_some(scene.decided, _SIGNAL))}"
    for note in told.notes:
        yield f"  note: {note}"
    if told.strategy is not None:
        yield f"  strategy: version {told.strategy['version']}, {told.strategy['parameters']}"
    yield from _section("times", map(_time_line, told.times))
    yield from _section("ticks of the instrument, the cause last", map(_tick_line, scene.ticks))
    yield from _section("market", [fields_text(scene.market)])
    yield from _section("bars closed by it", (fields_text(bar) for bar in scene.bars))
    yield from _section("indicators", map(_indicator_line, scene.indicators))
    if scene.rule:
        yield from _section("the rule's own state", [fields_text(scene.rule)])
    if scene.window is not None:
        yield from _section("feature window", _window_lines(scene.window))
    if scene.score is not None:
        yield from _section("score", _score_lines(scene.score))
    if scene.candidate is not None:
        yield from _section("proposed", [fields_text(scene.candidate)])
    yield from _section("gates", map(_gate_line, scene.gates))


def _section(title: str, lines: Any) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"{title}:"
        yield from (f"  {line}" for line in found)


def _some(fields: Mapping[str, Any], names: tuple[str, ...]) -> Fields:
    return {name: fields[name] for name in names if fields.get(name) not in (None, "")}


def _time_line(step: Fields) -> str:
    since = "" if step["since_ns"] is None else f"{step['since_ns'] / 1e6:+14.3f} ms"
    return f"{moment(step['ts'])} {since:>18}  {step['what']}"


def _tick_line(tick: Fields) -> str:
    known = {name: tick[name] for name in _TICK if tick.get(name) not in (None, 0, 0.0)}
    there = {name: value for name, value in known.items() if value == value}
    kind = tick.get("kind", "bar")
    numbers = there if "kind" in tick else _some(tick, ("open", "high", "low", "close", "volume"))
    return f"{tick['seq']:>10} {moment(tick['ts_event'])} {kind:9} {fields_text(numbers)}"


def _indicator_line(one: Fields) -> str:
    ready = "" if one["ready"] else " (not ready)"
    return f"{one['indicator']}{ready}: {fields_text(one['outputs'])}"


def _window_lines(window: Fields) -> Iterator[str]:
    rows, columns = window["rows"], window["columns"]
    yield (
        f"{len(rows)} rows x {len(columns)} features on {window['clock']}, as the model "
        f"{window['model']} sees them; the last {min(_ROWS, len(rows))}:"
    )
    yield " ".join(f"{name:>12.12}" for name in columns)
    for row in rows[-_ROWS:]:
        yield " ".join(f"{value:>12.5g}" for value in row)


def _score_lines(score: Fields) -> Iterator[str]:
    if score["values"] is None:
        yield f"none: {score['failure']}"
        return
    yield f"{fields_text(score['values'])} by {score['bundle']}"
    yield f"it {'confirms' if score['confirms'] else 'proposes'}: {score['proposes']}"
    if score["failure"]:
        yield f"{score['failure']}: {score['detail']}"
    yield f"{score['room']:.6g} from another decision; devices agree within {score['tolerance']:g}"


def _gate_line(asked: Fields) -> str:
    return f"{asked['gate']:9} {asked['reason']:22} {asked['verdict']:9} {asked['saw']}"
