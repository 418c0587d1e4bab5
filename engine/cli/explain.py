"""``heqis explain``: everything behind one signal."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json
from engine.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="explain")(explain)


def explain(
    signal_id: Annotated[str, typer.Argument(help="The signal's id, or the beginning of it.")],
    recording: Annotated[
        Path | None,
        typer.Argument(help="A recording as for `heqis diff`; absent: `engine.record`."),
    ] = None,
    journal: Annotated[
        Path | None, typer.Argument(help="The live journal; absent: the configuration's.")
    ] = None,
    config: ConfigFiles = None,
    ticks: Annotated[
        int, typer.Option(min=1, max=10_000, help="Records of its instrument to show.")
    ] = 10,
    json: AsJson = False,
) -> None:
    """Tell everything behind one signal: ticks, indicators, window, score, gates, times.

    The recording is replayed up to the signal's tick; live values are the journal's. Give the
    configuration that the engine had.

    Example: heqis explain 3f2a9c var/recordings -c heqis.toml
    """
    from engine.cli.progress import record_progress
    from engine.composition import resolve
    from engine.config import load_config
    from engine.core.records import Schema
    from replay.analysis.diff_material import open_material
    from replay.analysis.explain import explain as tell
    from replay.analysis.explain_text import explanation_lines
    from replay.bursts import count_records

    blueprint = resolve(load_config([Path(file) for file in config or ()]))
    source = recording or blueprint.config.engine.record
    if source is None:
        raise ConfigError("command line", "recording", None, "give the recording; none is set")
    if not signal_id.isalnum():
        raise ConfigError("command line", "signal_id", signal_id, "an id of letters and digits")
    told = journal or blueprint.config.journal.path
    with open_material(source) as material:
        readers = [part.reader for part in material.parts]
        total = sum(count_records(reader, Schema.TICK, Schema.BAR) for reader in readers)
    with record_progress("replaying", total) as advance:
        found = tell(signal_id, source, told, blueprint, ticks=ticks, progress=advance)
    if json:
        print_json(found.as_dict())
        return
    for line in explanation_lines(found):
        typer.echo(line)
