"""``heqis journal``: check the journal, look into it, prune it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engine.cli.common import AsJson, print_json
from engine.core.errors import CheckFailedError, ConfigError

if TYPE_CHECKING:
    from engine.journal_verify import JournalReport
    from engine.stream_config import JournalConfig

JournalPath = Annotated[Path, typer.Argument(help="The journal: an SQLite file.")]

_HELP: Final = """The journal: check it, look into it, prune it.

Example: heqis journal verify
"""
_DEFAULT: Final = Path("var/journal.db")
_SHOWN: Final = 20


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    for command in (verify, stats, prune):
        group.command()(command)
    app.add_typer(group, name="journal")


def verify(journal: JournalPath = _DEFAULT, json: AsJson = False) -> None:
    """Check the file, every checksum, the sequence and the ids; exit 1 if something is wrong.

    An engine may be writing it meanwhile. Example: heqis journal verify var/journal.db
    """
    from engine.journal_verify import verify as verify_journal

    report = verify_journal(journal)
    if json:
        print_json(_report_fields(report))
    else:
        _tell_report(report)
    if not report.ok:
        raise CheckFailedError(f"{journal}: {report.problems} problems")


def stats(journal: JournalPath = _DEFAULT, json: AsJson = False) -> None:
    """Say what is in a journal: rows, epochs, times, bytes.

    Example: heqis journal stats var/journal.db
    """
    from engine.journal_stats import journal_stats

    facts = journal_stats(journal)
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:14} {_as_text(value)}")


def prune(
    journal: JournalPath = _DEFAULT,
    keep_signals: Annotated[
        int | None, typer.Option(min=1, help="Newest signals to keep; refusals and events stay.")
    ] = None,
    keep_age: Annotated[
        str | None, typer.Option(help='Remove what is older, such as "90d".')
    ] = None,
    keep_bytes: Annotated[
        int | None, typer.Option(min=1 << 20, help="Remove the oldest until the rest fits.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Remove old rows and give the space back; no engine may be writing the journal.

    An engine does this by itself, as the table `journal` of its configuration says. Without options
    nothing is removed, and the file only made as small as it can be; one of an earlier version is
    brought up to date. Example: heqis journal prune var/journal.db --keep-age 90d
    """
    import asyncio

    from engine.journal_offline import prune_journal

    if not journal.is_file():
        raise ConfigError("command line", "journal", str(journal), "give the path of a journal")
    wanted = {"keep_signals": keep_signals, "keep_age": keep_age, "keep_bytes": keep_bytes}
    done = asyncio.run(prune_journal(journal, _config(wanted)))
    if json:
        print_json(done)
        return
    typer.echo(f"{done['pruned']:,} rows removed, {done['bytes_before']:,} bytes before, "
               f"{done['bytes_after']:,} after")  # fmt: skip


def _config(wanted: dict[str, Any]) -> "JournalConfig":
    from pydantic import ValidationError

    from engine.stream_config import JournalConfig

    everything = dict.fromkeys(("keep_signals", "keep_refusals", "keep_events"), 1 << 62)
    given = {name: value for name, value in wanted.items() if value is not None}
    try:
        return JournalConfig.model_validate(everything | given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ConfigError("command line", option, first["input"], first["msg"]) from None


def _report_fields(report: "JournalReport") -> dict[str, Any]:
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(report)
    fields["listed"] = [problem._asdict() for problem in report.listed]
    return {"ok": report.ok} | fields


def _tell_report(report: "JournalReport") -> None:
    typer.echo(f"{report.path}: {report.signals:,} signals, {report.refusals:,} refusals, "
               f"{report.events:,} events")  # fmt: skip
    for one in report.epochs:
        typer.echo(f"  epoch {one.epoch}: signals {one.first_seq:,} to {one.last_seq:,}")
    typer.echo("closed in order" if report.clean else "not closed in order, or being written")
    for problem in report.listed[:_SHOWN]:
        typer.echo(f"  {problem.place}: {problem.problem}")
    if report.problems > _SHOWN:
        typer.echo(f"  and {report.problems - _SHOWN:,} more (--json lists up to 1,000)")
    typer.echo("nothing is wrong" if report.ok else f"{report.problems:,} problems")


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(one)}" for name, one in value.items()) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
