"""``heqis latency``: percentiles and a picture of an ``.hlog`` file, and the latency lab."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from engine.cli.latency_lab import compare, run
from engine.core.errors import InputFileError, UserError

if TYPE_CHECKING:
    from latency.counts import StageSummary
    from latency.hlog_reader import Hlog

_PIPE_WIDTH: Final = 120
"""Columns where there is no terminal to ask."""


_HELP: Final = """Latency: show an .hlog file, measure a system with the lab, compare two sessions.

What is no command is a file: `heqis latency live.hlog` is `heqis latency show live.hlog`.

Example: heqis latency live.hlog -o latency.png
"""


class ShowByDefault(TyperGroup):
    """Takes a file where a command would stand, and shows it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``show`` before what is neither a command nor a call for help."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["show", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True, cls=ShowByDefault)
    group.command("show")(show_latency)
    group.command("run")(run)
    group.command("compare")(compare)
    app.add_typer(group, name="latency")


def show_latency(
    file: Annotated[Path, typer.Argument(help="An .hlog file, ours or another tool's.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the plot goes (.png, .svg, .pdf); FILE.png."),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Whether to draw.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Print latency percentiles by stage and draw their curves.

    Example: heqis latency show live.hlog -o latency.png
    """
    log, summaries = _read(file)
    drawn = _draw(log, output or file.with_suffix(".png"), file) if plot else None
    if as_json:
        import orjson

        typer.echo(orjson.dumps(_fields(file, log, summaries, drawn)))
    else:
        _print(file, log, summaries, drawn)


def _read(file: Path) -> tuple["Hlog", dict[str, "StageSummary"]]:
    from latency.hlog_reader import HlogError, read_hlog

    try:
        log = read_hlog(file)
        return log, {stage: counts.summary() for stage, counts in log.totals().items()}
    except HlogError as error:
        where = f"line {error.line}: " if error.line else ""
        raise InputFileError(file, where + error.problem) from error
    except ValueError as error:
        raise InputFileError(file, str(error)) from error
    except OSError as error:
        raise InputFileError(file, f"cannot be read: {error.strerror}") from error


def _draw(log: "Hlog", path: Path, file: Path) -> Path:
    from latency.plot import write_plot

    try:
        write_plot(log, path, f"{file.name} · {_utc(log.start_wall_ns)}")
    except OSError as error:
        raise UserError(f"{path}: the plot cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    return path


def _fields(
    file: Path, log: "Hlog", summaries: dict[str, "StageSummary"], drawn: Path | None
) -> dict[str, Any]:
    from latency.report import summary_fields

    return {
        "file": str(file),
        "start_wall_ns": log.start_wall_ns,
        "end_wall_ns": max(interval.end_wall_ns for interval in log.intervals),
        "intervals": len(log.intervals),
        "torn_bytes": log.torn_bytes,
        "plot": str(drawn) if drawn else None,
        "latency": summary_fields(summaries),
    }


def _print(
    file: Path, log: "Hlog", summaries: dict[str, "StageSummary"], drawn: Path | None
) -> None:
    from rich.console import Console

    from latency.report import percentile_table

    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    until = max(interval.end_wall_ns for interval in log.intervals)
    console.print(percentile_table(summaries, f"{file.name}: latency by stage"))
    console.print(f"  {_utc(log.start_wall_ns)} to {_utc(until)}, {len(log.intervals)} intervals")
    if log.torn_bytes:
        console.print(f"  [yellow]unfinished last line left out: {log.torn_bytes} bytes[/]")
    if drawn:
        console.print(f"  plot: {drawn}", soft_wrap=True)


def _utc(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
