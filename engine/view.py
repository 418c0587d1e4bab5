"""Draws the terminal view: a ``ViewState`` and a size in, lines for rich to print out.

Pure. Sections are divided by titled rules, not boxes: a terminal of 80 x 24 has no rows to give
away.
"""

from collections.abc import Mapping
from typing import Any, Final

from rich.align import Align
from rich.console import Group, RenderableType
from rich.text import Text

from engine.core.signals import Signal
from engine.view_events import event_lines
from engine.view_models import model_lines, model_texts, scored_by
from engine.view_state import ViewState
from engine.view_text import (
    Cell,
    Column,
    beside,
    blank_line,
    fit,
    format_bytes,
    format_price,
    format_share,
    format_time,
    format_uptime,
    heading,
    labelled,
    printable,
    row,
    rule,
    sparkline,
    words,
)
from latency.report import format_count, format_ns

WIDE: Final = 110
"""Columns from which signals are shown with milliseconds, strength and the scoring library."""
WIDER: Final = 140
"""Columns from which the rates of a minute have a cell a second."""
TALL: Final = 36
"""Rows from which more reasons are listed than there are stages."""
MAX_WIDTH: Final = 150
"""Wider lines are hard to follow with the eye."""
MIN_SIGNALS: Final = 2
_RATE_WIDTH: Final = 15
"""So that the sparkline stands still."""
_MAX_PROBLEMS: Final = 4
_FEW_EVENTS: Final = 2
_MANY_EVENTS: Final = 6
_MANY_QUEUED: Final = 1000
_SIDE_STYLES: Final = {"BUY": "bold green", "SELL": "bold red"}
_STAGE_TIMES: Final = (("p50", 2), ("p99", 100), ("p99_9", 1000), ("max", 0))
"""Columns of the stage table, and the fewest values that make each more than the maximum."""
_STAGE_COLUMNS: Final = (
    Column("stage", 7),
    Column("count", 8, right=True),
    *(Column(title, 7, right=True) for title in ("p50", "p99", "p99.9", "max")),
)
_STAGES_WIDTH: Final = sum(column.width + 1 for column in _STAGE_COLUMNS) + 2


def render(state: ViewState, width: int, height: int, now_s: float) -> RenderableType:
    """Return the whole view.

    Args:
        state: What is known.
        width: Columns of the terminal.
        height: Rows of the terminal.
        now_s: Monotonic time, seconds.
    """
    if not state.status:
        return _waiting(state, height, now_s)
    width = min(width, MAX_WIDTH)
    head = [*_header(state, width, now_s), *_problems(state, width)]
    foot = [
        *event_lines(list(state.events), _MANY_EVENTS if height >= TALL else _FEW_EVENTS, width),
        *model_lines(state.status, width),
        *_figures(state.status, width, height),
        *_footer(state, width),
    ]
    rows = max(MIN_SIGNALS, height - len(head) - len(foot) - 2)
    return Group(*head, rule(_signals_title(state.status), width), *_signals(state, rows, width),
                 *foot)  # fmt: skip


def status_line(state: ViewState) -> str:
    """Return the state in one line, for an output that is not a terminal."""
    status = state.status
    problems = "; ".join(_problem_texts(state))
    stages = status.get("latency_recent") or status.get("latency", {})
    total = stages.get("total", {})
    count = total.get("count", 0)
    parts = [
        "healthy" if status.get("healthy") else "not healthy",
        *([problems] if problems else []),
        f"up {format_uptime(status.get('uptime_s', 0.0))}",
        f"{status.get('ticks_per_s', 0.0):,.0f} ticks/s",
        f"{status.get('ticks', 0):,} ticks",
        f"{status.get('signals', 0):,} signals",
        f"{status.get('refused', 0):,} refused",
        *([f"total p50 {format_ns(total['p50'])} p99 {format_ns(total['p99'])}"] if count else []),
        *model_texts(status),
        *(f"{count:,} {words(name)}" for name, count in state.odd_input().items()),
    ]
    return "status: " + ", ".join(parts)


def signal_line(signal: Signal) -> str:
    """Return a signal in one line, for an output that is not a terminal."""
    return (
        f"{format_time(signal.ts_emit, millis=True)} {signal.side:<4} {signal.instrument} "
        f"at {format_price(signal.price)}, strength {signal.strength:.2f}, "
        f"confidence {signal.confidence:.2f}, {signal.strategy} "
        f"({scored_by(signal, wide=True)[0]}), age {format_ns(signal.age_ns)}"
    )


def _waiting(state: ViewState, height: int, now_s: float) -> RenderableType:
    text = Text(justify="center")
    text.append("HEQIS\n\n", "bold cyan")
    text.append(f"waiting for the engine at {state.url}\n", "bold")
    text.append(f"{state.silent_s(now_s):.0f} s\n\n", "dim")
    text.append("The first start compiles the kernel, which can take a minute.", "dim")
    if state.note:
        text.append(f"\n{state.note}", "dim")
    return Align.center(text, vertical="middle", height=height)


def _header(state: ViewState, width: int, now_s: float) -> list[Text]:
    return [
        _health_line(state, width, now_s),
        _rate_line(state, width),
        _resource_line(state.status, width),
    ]


def _health_line(state: ViewState, width: int, now_s: float) -> Text:
    status = state.status
    if state.stale(now_s):
        health = f"● not heard for {state.silent_s(now_s):.0f} s, trying again"
        style = "bold red"
    elif status.get("healthy"):
        health, style = "● healthy", "bold green"
    else:
        health, style = "● not healthy", "bold red"
    gate = str(status.get("state", ""))
    parts = [
        Text("HEQIS", "bold cyan"),
        Text(health, style),
        labelled("gate", gate.upper(), "bold" if gate == "active" else "bold yellow"),
        labelled("up", format_uptime(status.get("uptime_s", 0.0))),
        labelled("instruments", f"{status.get('instruments', 0):,}"),
        Text(state.url, "dim"),
    ]
    return fit(parts, width)


def _rate_line(state: ViewState, width: int) -> Text:
    status = state.status
    rate = Text(f"{status.get('ticks_per_s', 0.0):,.0f}", "bold").append(" ticks/s", "not bold dim")
    rate.append(" " * max(0, _RATE_WIDTH - rate.cell_len))
    count = Text(f"{format_count(status.get('ticks', 0))} ticks")
    bars = status.get("bars", {})
    closed = labelled("bars", "  ".join(f"{name} {format_count(n)}" for name, n in bars.items()))
    slots = 60 if width >= WIDER else 40 if width >= WIDE else 20
    minute = Text(sparkline(state.rate_slots(slots)), "cyan").append(" 60 s", "dim")
    return fit([rate, minute, count, closed] if bars else [rate, minute, count], width)


def _resource_line(status: Mapping[str, Any], width: int) -> Text:
    loop, journal = status.get("loop", {}), status.get("journal", {})
    stalls, queued = loop.get("stalls", 0), journal.get("queued", 0)
    written = labelled("journal", f"{journal.get('committed', 0):,}")
    if queued >= _MANY_QUEUED:
        written.append(f" (+{queued:,} waiting)", "yellow")
    parts = [
        labelled("memory", format_bytes(status.get("rss_bytes", 0))),
        labelled("stalls", f"{stalls:,}", "yellow" if stalls else ""),
        labelled("clock", _clock_offset(status.get("clock"))),
        labelled("clients", f"{status.get('clients', 0)}"),
        written,
        labelled("worst stall", format_ns(loop.get("worst_ns", 0))),
    ]
    return fit(parts, width)


def _clock_offset(clock: Mapping[str, int] | None) -> str:
    if clock is None:
        return "unknown"
    offset_ns, bound_ns = clock["offset_ns"], clock["error_bound_ns"]
    sign = "-" if offset_ns < 0 else "+"
    return f"{sign}{format_ns(abs(offset_ns))} ± {format_ns(bound_ns)}"


def _problem_texts(state: ViewState) -> list[str]:
    problems = [str(problem) for problem in state.status.get("problems", [])]
    failures = state.status.get("strategy_failures", {})
    problems += [f"strategy {name} failed {n:,} times" for name, n in failures.items() if n]
    if state.missed:
        problems.append(f"this view missed {state.missed:,} signals")
    return problems


def _problems(state: ViewState, width: int) -> list[Text]:
    problems = _problem_texts(state)
    shown = problems[:_MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown[-1] += f" (and {len(problems) - len(shown)} more)"
    return [fit([Text(printable(f"! {problem}"), "bold red")], width) for problem in shown]


def _signals_title(status: Mapping[str, Any]) -> Text:
    title = Text("signals ", "bold").append(f"{status.get('signals', 0):,}", "cyan")
    if status.get("void"):
        title.append(f"  void {status['void']:,}", "bold red")
    return title


def _signals(state: ViewState, rows: int, width: int) -> list[Text]:
    """Return the headings and the newest signals, ``rows`` lines in all."""
    wide = width >= WIDE
    columns = _signal_columns(width, wide=wide)
    shown = list(state.signals)[: rows - 1]
    lines = [heading(columns), *(row(_signal_cells(one, wide=wide), columns) for one in shown)]
    if not shown:
        lines.append(Text("none yet: indicators warm up before a strategy acts", "dim"))
    return [*lines, *(blank_line() for _ in range(rows - len(lines)))]


def _signal_columns(width: int, *, wide: bool) -> list[Column]:
    widths = (12, 4, 14, 10, 8, 24) if wide else (8, 4, 11, 4, 7, 12)
    time, side, price, confidence, age, scored = widths
    strength = [Column("strength", 8, right=True)] if wide else []
    rest = max(16, width - sum(widths) - 8 - 9 * len(strength))
    return [
        Column("time", time),
        Column("instrument", rest // 2),
        Column("side", side),
        Column("price", price, right=True),
        *strength,
        Column("confidence" if wide else "conf", confidence, right=True),
        Column("strategy", rest - rest // 2),
        Column("age", age, right=True),
        Column("scored by", scored),
    ]


def _signal_cells(signal: Signal, *, wide: bool) -> list[Cell]:
    strength = [(f"{signal.strength:.2f}", "")] if wide else []
    return [
        (format_time(signal.ts_emit, millis=wide), "dim"),
        (signal.instrument, ""),
        (signal.side, _SIDE_STYLES[signal.side]),
        (format_price(signal.price), ""),
        *strength,
        (f"{signal.confidence:.2f}", ""),
        (signal.strategy, "cyan"),
        (format_ns(signal.age_ns), "dim"),
        scored_by(signal, wide=wide),
    ]


def _figures(status: Mapping[str, Any], width: int, height: int) -> list[Text]:
    """Return the stage percentiles with the refusals on their right."""
    whole, recent = status.get("latency", {}), status.get("latency_recent", {})
    stages = {name: recent.get(name, {}) for name in whole} if recent else whole
    title = "latency, last minute" if recent else "latency since the start"
    right = width - _STAGES_WIDTH
    rows = 1 + len(stages) + (6 if height >= TALL else 0)
    latency = [
        rule(Text(title, "bold"), _STAGES_WIDTH - 2),
        heading(_STAGE_COLUMNS),
        *(row(_stage_cells(name, stage), _STAGE_COLUMNS) for name, stage in stages.items()),
    ]
    refusals = [rule(_refusals_title(status), right), *_refusals(status, rows, right)]
    return beside(latency, refusals, _STAGES_WIDTH)


def _stage_cells(name: str, stage: Mapping[str, int]) -> list[Cell]:
    """A percentile that the count cannot support is dimmed: it is the maximum by another name."""
    count = stage.get("count", 0)
    if not count:
        return [(name, "bold"), *[("-", "dim")] * (1 + len(_STAGE_TIMES))]
    times = [
        (format_ns(stage.get(field, 0)), "dim" if count < least else "")
        for field, least in _STAGE_TIMES
    ]
    return [(name, "bold"), (format_count(count), ""), *times]


def _refusals_title(status: Mapping[str, Any]) -> Text:
    refused, signals = status.get("refused", 0), status.get("signals", 0)
    title = Text("refused ", "bold").append(f"{refused:,}", "cyan")
    if refused:
        title.append(f" ({format_share(refused, refused + signals)})", "dim")
    return title


def _refusals(status: Mapping[str, Any], rows: int, width: int) -> list[Text]:
    """Return the headings and the most frequent reasons, at most ``rows`` lines."""
    counts: Mapping[str, int] = status.get("refusals", {})
    total = sum(counts.values())
    if not total:
        return [Text("none", "dim")]
    columns = (
        Column("reason", max(8, min(width - 16, 24))),
        Column("count", 8, right=True),
        Column("share", 5, right=True),
    )
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    if len(ranked) > rows - 1:
        rest = ranked[rows - 2 :]
        ranked = [*ranked[: rows - 2], (f"{len(rest)} more", sum(n for _, n in rest))]
    return [
        heading(columns),
        *(
            row([(reason, "yellow"), (format_count(n), ""), (format_share(n, total), "")], columns)
            for reason, n in ranked
        ),
    ]


def _footer(state: ViewState, width: int) -> list[Text]:
    odd = state.odd_input().items()
    counters = [labelled(words(name), format_count(n), "yellow") for name, n in odd]
    lines = [fit([Text("input", "bold"), *counters], width)] if counters else []
    if state.note:
        lines.append(fit([Text(state.note, "dim")], width))
    return lines
