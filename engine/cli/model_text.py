"""What ``heqis model`` prints for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.view_text import format_uptime
from latency.report import format_ns

_PIPE_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""
_STYLES: Final = {"passed": "green", "failed": "bold red"}
_RUNG_STYLES: Final = {"left": "yellow", "absent": "dim"}


def print_check(facts: dict[str, Any]) -> None:
    """Print what ``heqis model check`` found."""
    console = _console()
    console.print(f"[bold green]whole[/]: {escape(facts['identity'])}", highlight=False)
    rows = [
        ("hashes", f"{facts['files']} files as the manifest says"),
        ("input", _input_text(facts)),
        ("output", f"{', '.join(facts['labels'])} in {facts['horizon']}"),
    ]
    rows += [("fits", f"model {name!r} of the configuration") for name in facts["fits"]]
    rows += [("note", f"{name} is not in the manifest: unverified") for name in facts["unverified"]]
    console.print(_pairs(rows))
    _print_forms(console, facts["forms"])


def print_build(facts: dict[str, Any]) -> None:
    """Print what ``heqis model build`` made."""
    console = _console()
    text = f"[bold green]built[/] for {escape(facts['target'])}: {escape(facts['identity'])}"
    console.print(f"{text} in {escape(facts['bundle'])}", highlight=False)
    _print_forms(console, facts["built"])


def print_models(models: Sequence[dict[str, Any]]) -> None:
    """Print the models of a configuration."""
    console = _console()
    if not models:
        console.print("the configuration has no models")
    for model in models:
        console.print(f"[bold]{escape(model['name'])}[/]", highlight=False)
        rows = [("bundle", model["bundle"])]
        if model["problem"]:
            rows.append(("problem", model["problem"]))
        else:
            rows += [
                ("identity", model["identity"]),
                ("input", _input_text(model)),
                ("output", f"{', '.join(model['labels'])} in {model['horizon']}"),
                ("forms", ", ".join(model["forms"])),
            ]
        rows += [
            ("placement", ", ".join(model["placement"])),
            ("asked by", ", ".join(model["asked_by"]) or "no strategy"),
        ]
        console.print(_pairs(rows))


def print_served(models: Mapping[str, Any]) -> None:
    """Print what a running engine tells of its models."""
    console = _console()
    served = models.get("serving", {}).get("models", {})
    if not served:
        console.print("the engine has no models")
        return
    for name, model in served.items():
        console.print(f"[bold]{escape(name)}[/]  {escape(model['bundle'])}", highlight=False)
        console.print(_ladder(model["rungs"]))
        failures = ", ".join(f"{why} {count:,}" for why, count in model["failures"].items())
        times = "once" if model["swaps"] == 1 else f"{model['swaps']:,} times"
        rows = [
            ("scores", f"{model['scores']:,}, swapped {times}"),
            ("no score", failures or "never"),
            ("precision", watch_text(model["watch"])),
            ("beside it", shadow_text(model["shadow"])),
        ]
        rows += [
            (f"{stage} on {_where(where)}", _times(times))
            for where, stages in models["latency"].items()
            if where.partition("/")[0] == name
            for stage, times in stages.items()
        ]
        console.print(_pairs(rows))


def watch_text(watch: Mapping[str, Any] | None) -> str:
    """Return in words how far the form that serves was off the reference so far."""
    if watch is None:
        return "not watched: the reference form itself serves, check_share is 0, or nothing serves"
    unchecked = f", {watch['unchecked']:,} not comparable" if watch["unchecked"] else ""
    if not watch["checks"]:
        return f"no input checked yet{unchecked}"
    drift = f"{watch['max_abs']:.2g} off at most, {watch['tolerance']:g} allowed"
    outside = f"{watch['outside']:,} outside" if watch["outside"] else "none outside"
    alarm = "ALARM: " if watch["alarm"] else ""
    return f"{alarm}{watch['checks']:,} inputs checked, {outside}, {drift}{unchecked}"


def shadow_text(shadow: Mapping[str, Any] | None) -> str:
    """Return in words how a candidate's answers differ from those served."""
    if shadow is None:
        return "nobody"
    who = f"{shadow['bundle']} on {shadow['backend']}@{shadow['device']}"
    compared = shadow["compared"]
    missing = f", {shadow['unanswered']:,} without an answer" if shadow["unanswered"] else ""
    if not compared:
        return f"{who}: nothing compared yet{missing}"
    share = shadow["disagreed"] / compared
    otherwise = f"decided otherwise in {shadow['disagreed']:,} of {compared:,} ({share:.1%})"
    return f"{who}: {otherwise}, {shadow['max_abs']:.2g} apart at most{missing}"


def _ladder(rungs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the placement as a table: who serves, since when, in which precision, and why."""
    table = Table(box=None, padding=(0, 1, 0, 2), header_style="dim")
    for title in ("entry", "stands", "for", "library", "computes in", "parity"):
        table.add_column(title, no_wrap=True)
    table.add_column("why", overflow="fold")
    for rung in rungs:
        style = "bold green" if rung["serves"] else _RUNG_STYLES.get(rung["standing"], "")
        since_s = rung.get("for_s")
        parity = rung.get("parity_max_abs")
        table.add_row(
            escape(rung["rung"]),
            f"[{style}]{_standing(rung)}[/]" if style else _standing(rung),
            "-" if since_s is None else format_uptime(since_s),
            escape(rung.get("backend", "-")),
            rung.get("precision", "-"),
            "-" if parity is None else f"{parity:.1e}",
            escape(rung["detail"]),
        )
    return table


def _where(label: str) -> str:
    """Return the lane that a label of times is about, and the candidate's or the reference's."""
    _, *role, lane = label.split("/")
    return f"{lane}, {role[0]}" if role in (["shadow"], ["reference"]) else lane


def _standing(rung: Mapping[str, Any]) -> str:
    return "serves" if rung["serves"] else str(rung["standing"])


def _times(stage: Mapping[str, int]) -> str:
    if not stage["count"]:
        return "-"
    shown = ", ".join(f"{name} {format_ns(stage[name])}" for name in ("p50", "p99", "max"))
    return f"{shown} of {stage['count']:,}"


def _console() -> Console:
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _input_text(facts: dict[str, Any]) -> str:
    features = ", ".join(facts["features"])
    return f"{facts['window']} rows of {features}, on {facts['clock']}"


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, escape(text))
    return table


def _print_forms(console: Console, forms: Sequence[dict[str, Any]]) -> None:
    """Print what ran as a table, and below it why the others did not."""
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim")
    for title in ("form", "", "on", "verdict", "difference"):
        table.add_column(title, no_wrap=True)
    for form in forms:
        if form["verdict"] != "not run":
            where = f"{form['backend']}@{form['device']}"
            kind = f"{form['format']} {form['precision']}"
            verdict = f"[{_STYLES[form['verdict']]}]{form['verdict']}[/]"
            table.add_row(form["file"], kind, where, verdict, _difference(form))
    if table.rows:
        console.print(table)
    whys = [form for form in forms if form["verdict"] == "not run" or "max_abs" not in form]
    rows = [(form["verdict"], f"{_on(form)}: {form['why']}") for form in whys]
    rows += [("note", f"{_on(form)}: {form['fallback']}") for form in forms if form["fallback"]]
    console.print(_pairs(list(dict.fromkeys(rows))))


def _on(form: dict[str, Any]) -> str:
    if not form["backend"]:
        return str(form["file"])
    return f"{form['file']} on {form['backend']}" if form["device"] else str(form["backend"])


def _difference(form: dict[str, Any]) -> str:
    if "max_abs" not in form:
        return ""
    if form["not_finite"]:
        return f"{form['not_finite']} not finite"
    sign = "≤" if form["max_abs"] <= form["tolerance"] else ">"
    return f"{form['max_abs']:.1e} {sign} {form['tolerance']:g}"
