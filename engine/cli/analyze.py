"""``heqis analyze``: who knows the future, and how much history an indicator needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json, tell_bad_input
from engine.core.errors import CheckFailedError

if TYPE_CHECKING:
    from replay.analysis.lookahead_report import LookaheadReport
    from replay.analysis.warmup_report import WarmupReport

_HELP: Final = """Prove that strategies do not know the future, and how much history they need.

Example: heqis analyze lookahead aig.hql -c mine.toml
"""
_SHOWN: Final = 20
_NUMBERS: Final = 7
"""Columns of the warm-up table that are always there."""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    for command in (lookahead, warmup):
        group.command()(command)
    app.add_typer(group, name="analyze")


def lookahead(
    logs: Annotated[list[Path], typer.Argument(help="Tick logs; several are merged by time.")],
    config: ConfigFiles = None,
    cuts: Annotated[int, typer.Option(min=1, help="Places at which the future is changed.")] = 10,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Look at so many records of the log only.")
    ] = None,
    dated: Annotated[
        bool, typer.Option("--dated", help="The strategies may go by the date: do not move it.")
    ] = False,
    trust: Annotated[
        list[Path] | None, typer.Option(help="A file or directory that user code may read.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Change the future of a log in many places; exit 1 if anything before it changes.

    Every strategy of the configuration is run on the log as it is, and on logs that end, go on with
    their next values, or fall where it rose, from a cut on. What it proposed before the cut and the
    indicators' values there must be the same. docs/analysis.md says what else is tried.

    Example: heqis analyze lookahead aig.hql -c mine.toml --cuts 20
    """
    from engine.cli.progress import record_progress
    from engine.config import CONFIGS, load_config
    from replay.analysis.lookahead import analyze_lookahead
    from replay.analysis.lookahead_report import LookaheadOptions

    files = [Path(file) for file in config or (CONFIGS / "replay.toml",)]
    loaded = load_config(files)
    with record_progress("running", 3 + 3 * cuts) as advance:
        options = LookaheadOptions(
            cuts=cuts,
            dated=dated,
            trust=tuple(trust or ()),
            limit=limit,
            progress=None if advance is None else lambda done, _: advance(done),
        )
        report = analyze_lookahead(logs, loaded, options)
    if json:
        print_json(report.as_dict())
    else:
        _tell(report)
    if report.idle:
        raise CheckFailedError(
            "nothing is shown: no strategy proposed anything, and no indicator was ready at a "
            "cut; take a longer log, or one with what the configuration needs"
        )
    if not report.ok:
        count = len(report.findings)
        raise CheckFailedError(f"{count} finding{'s' if count > 1 else ''}")


def _tell(report: "LookaheadReport") -> None:
    typer.echo(
        f"{report.records:,} records, {report.runs} runs, the future changed at "
        f"{len(report.cuts)} places; {report.values_compared:,} indicator values compared"
    )
    tell_bad_input(report.bad_input)
    told = ", ".join(f"{name} {count:,}" for name, count in report.proposals.items())
    typer.echo(f"proposals: {told}")
    for one in report.findings[:_SHOWN]:
        who = " ".join(filter(None, (one.strategy, one.instrument)))
        at = f" at tick {one.epoch}:{one.seq}" if one.ts_event else ""
        cut = "" if one.cut is None else f", future changed from record {one.cut:,} on"
        typer.echo(f"  {one.check}: {who}{at}{cut}: {one.problem}".replace(": :", ":"))
    if len(report.findings) > _SHOWN:
        typer.echo(f"  and {len(report.findings) - _SHOWN:,} more (--json has them)")
    for note in report.notes:
        typer.echo(f"note: {note}")
    if not report.idle:
        typer.echo("nothing knows the future" if report.ok else f"{len(report.findings)} findings")


def warmup(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(help="Tick logs to take samples from; a made series if none."),
    ] = None,
    config: ConfigFiles = None,
    indicator: Annotated[
        list[str] | None, typer.Option(help="name or name(parameter=number, …); repeat for more.")
    ] = None,
    on: Annotated[
        str, typer.Option(help="Clock in a log: tick, trade, quote or a bar of the configuration.")
    ] = "tick",
    instrument: Annotated[
        str, typer.Option(help="SYMBOL.VENUE in a log; the one with the most records if not given.")
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=1e-12, help="Disagreement that counts, in spreads of the output.")
    ] = 1e-3,
    samples: Annotated[
        int | None, typer.Option(min=16, max=2_000_000, help="Length of the series.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Say how much history indicators need, beside what they declare.

    Without -c and --indicator: all that are built in, with their defaults. With -c: those that its
    strategies and models read, on their clocks.

    Example: heqis analyze warmup --indicator 'ema(length=50)' --indicator macd
    """
    from engine.config import load_config
    from replay.analysis.warmup_report import WarmupOptions, analyze_warmup

    loaded = load_config([Path(file) for file in config]) if config else None
    options = WarmupOptions(
        indicators=tuple(indicator or ()),
        on=on,
        instrument=instrument,
        tolerance=tolerance,
        samples=samples,
    )
    report = analyze_warmup(logs or [], loaded, options)
    if json:
        print_json(report.as_dict())
    else:
        _tell_warmup(report)


def _tell_warmup(report: "WarmupReport") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"samples needed on {report.source}, to {report.tolerance:g} of the output's spread",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("indicator", overflow="fold")
    for name in ("on", "declared", "ready", "needed", "off when ready", "off at the end"):
        table.add_column(name, justify="right")
    if any(one.used_by for one in report.histories):
        table.add_column("used by", overflow="fold")
    for one in report.histories:
        needed = "never" if one.needed is None else f"{one.needed:,}"
        ready = "never" if one.ready is None else f"{one.ready:,}"
        off = (f"{one.off_at_ready:.2g}", f"{one.off_at_end:.2g}")
        used = [", ".join(one.used_by)] if len(table.columns) > _NUMBERS else []
        table.add_row(one.indicator, one.clock, f"{one.declared:,}", ready, needed, *off, *used)
    Console().print(table)
    tell_bad_input(report.bad_input)
    for name, count in report.strategies.items():
        told = "one of its indicators never settles" if count is None else f"{count:,} samples"
        typer.echo(f"strategy {name}: {told}")
