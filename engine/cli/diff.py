"""``heqis diff``: does a recording's replay decide what was decided live?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json
from engine.core.errors import CheckFailedError, ConfigError

if TYPE_CHECKING:
    from replay.analysis.diff_result import Cause


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="diff")(diff)


def diff(
    recording: Annotated[
        Path,
        typer.Argument(help="The directory `engine.record`, one session in it, or a tick log."),
    ],
    journal: Annotated[
        Path | None, typer.Argument(help="The live journal; absent: the configuration's.")
    ] = None,
    config: ConfigFiles = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A cause that is no failure, such as time; give it again for more."),
    ] = None,
    context: Annotated[
        bool, typer.Option(help="Replay once more to show what is behind the first difference.")
    ] = True,
    json: AsJson = False,
) -> None:
    """Replay what was live, and say where and why it first differs; exit 1 if it does.

    Every signal and refusal of the journal is compared with the replay's. The first difference is
    attributed to input, feature, model score, strategy, risk or time. Give the configuration that
    the engine had.

    Example: heqis diff var/recordings var/journal.db -c heqis.toml
    """
    from engine.cli.progress import record_progress
    from engine.composition import resolve
    from engine.config import load_config
    from engine.core.records import Schema
    from replay.analysis.diff import diff as compare
    from replay.analysis.diff_material import open_material
    from replay.analysis.diff_text import report_lines
    from replay.analysis.explain import explain_difference
    from replay.analysis.explain_text import explanation_lines
    from replay.bursts import count_records

    causes = _causes(allow or [])
    blueprint = resolve(load_config([Path(file) for file in config or ()]))
    told = journal or blueprint.config.journal.path
    with open_material(recording) as material:
        readers = [part.reader for part in material.parts]
        total = sum(count_records(reader, Schema.TICK, Schema.BAR) for reader in readers)
    with record_progress("comparing", total) as advance:
        report = compare(recording, told, blueprint, advance)
    found = None
    if context and report.first is not None:
        found = explain_difference(report.first, recording, told, blueprint)
        report.context = None if found is None else found.as_dict()
    if json:
        print_json(report.as_dict())
    else:
        lines = [*report_lines(report), *([] if found is None else ["", *explanation_lines(found)])]
        typer.echo("\n".join(lines))
    if report.failed(causes):
        assert report.first is not None
        raise CheckFailedError(
            f"{recording}: live and replay differ, first by {report.first.cause}"
        )


def _causes(names: list[str]) -> "frozenset[Cause]":
    from engine.core.suggest import known_names
    from replay.analysis.diff_result import Cause

    known = [cause.value for cause in Cause]
    for name in names:
        if name not in known:
            expected = known_names("causes", known, name)
            raise ConfigError("command line", "--allow", name, expected)
    return frozenset(map(Cause, names))
