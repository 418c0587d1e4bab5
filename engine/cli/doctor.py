"""``heqis doctor``: what this machine has, and what is missing for what."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from engine.core.errors import CheckFailedError
from engine.finding import Finding, Status

_MARKS: Final = {
    Status.OK: "[green]✓ ok[/]",
    Status.WARN: "[yellow]! warn[/]",
    Status.MISSING: "[dim]- missing[/]",
}
_FATAL: Final = "[bold red]✗ missing[/]"
_PIPE_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(examine)


def examine(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where logs, spool and journal are to lie.")
    ] = Path("var"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what this machine has and what is missing for what; exit 1 if something required is.

    Example: heqis doctor --json
    """
    from engine.doctor_devices import backend_findings, converter_findings, device_findings
    from engine.doctor_host import host_findings
    from engine.doctor_stack import stack_findings

    sections = {
        "software": stack_findings(),
        "host": host_findings(data_dir),
        "accelerators (optional)": device_findings(),
        "backends (one is enough)": backend_findings(),
        "converters (optional)": converter_findings(),
    }
    fatal = [finding.subject for part in sections.values() for finding in part if finding.fatal]
    if as_json:
        _write_json(sections, ok=not fatal)
    else:
        _write_table(sections)
    if fatal:
        raise CheckFailedError(f"required but missing: {', '.join(fatal)}")


def _write_json(sections: Mapping[str, Sequence[Finding]], *, ok: bool) -> None:
    import orjson

    findings = [
        {"section": name.split(" ")[0], **asdict(finding)}
        for name, part in sections.items()
        for finding in part
    ]
    typer.echo(orjson.dumps({"ok": ok, "findings": findings}))


def _write_table(sections: Mapping[str, Sequence[Finding]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found", ratio=3)
    table.add_column("needed for, [yellow]what to do[/]", ratio=3)
    for name, part in sections.items():
        table.add_row("", f"[bold underline]{name}[/]")
        for finding in part:
            mark = _FATAL if finding.fatal else _MARKS[finding.status]
            advice = f"\n[yellow]{escape(finding.advice)}[/]" if finding.advice else ""
            table.add_row(
                mark, finding.subject, escape(finding.found), escape(finding.needed_for) + advice
            )
        table.add_section()
    console.print(table)
