"""``heqis export``: ticks, bars, depth, features and signals as Parquet, Arrow or NumPy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json, tell_bad_input
from engine.cli.features import Out, Overwrite, features
from engine.core.errors import ConfigError

if TYPE_CHECKING:
    from replay.export.bars import BarBuilder
    from replay.export.records import Batches
    from replay.export.table import Table

_HELP: Final = """Export ticks, bars, depth, features and signals to Parquet, Arrow or NumPy.

The ending of the file says the format: .parquet, .arrow, .feather, .npy (one structured array) or
.npz (an array a column). Units stand in the schema; docs/export.md names every column.

Example: heqis export ticks aig.hql -o aig.parquet
"""
Logs = Annotated[list[Path], typer.Argument(help="Tick logs; several are merged by time.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    for command in (ticks, bars, depth, features, signals):
        group.command()(command)
    app.add_typer(group, name="export")


def ticks(logs: Logs, out: Out, overwrite: Overwrite = False, json: AsJson = False) -> None:
    """Write every tick of a log, heartbeats and gaps among them.

    Example: heqis export ticks aig.hql -o aig.parquet
    """
    from contextlib import ExitStack

    from feeds.log_reader import LogReader
    from replay.export.files import check_target
    from replay.export.records import TICKS, tick_batches, with_source

    check_target(out, overwrite=overwrite)
    with ExitStack() as opened:
        readers = [opened.enter_context(LogReader(path)) for path in logs]
        table = with_source(TICKS, logs)
        _write(out, table, tick_batches(readers), overwrite=overwrite, json=json)


def bars(
    logs: Logs,
    out: Out,
    config: ConfigFiles = None,
    bar: Annotated[
        str,
        typer.Option(help="Build this bar of the configuration; else those in the log."),
    ] = "",
    indicator: Annotated[
        list[str] | None,
        typer.Option(help="With --bar: name or name(parameter=number, …), told at each close."),
    ] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write the bars of a log, or those that the live kernel builds from it.

    Examples: heqis export bars daily.hql -o daily.parquet;
    heqis export bars aig.hql --bar 1m --indicator 'rsi(length=14)' -o aig-1m.parquet
    """
    from contextlib import ExitStack

    from feeds.log_reader import LogReader
    from replay.export.files import check_target
    from replay.export.records import RECORDED_BARS, recorded_bar_batches, with_source

    check_target(out, overwrite=overwrite)
    with ExitStack() as opened:
        readers = [opened.enter_context(LogReader(path)) for path in logs]
        if bar:
            builder = _builder(config, bar, indicator or [])
            table, made = builder.table, builder.batches(readers)
        elif indicator:
            raise ConfigError("command line", "--indicator", indicator[0], "it goes with --bar")
        else:
            if len(readers) > 1:
                expected = "one log of bars at a time; with --bar several are played together"
                raise ConfigError("command line", "LOGS", len(readers), expected)
            table, made = RECORDED_BARS, recorded_bar_batches(readers[0])
        _write(out, with_source(table, logs), made, overwrite=overwrite, json=json)


def depth(
    log: Annotated[Path, typer.Argument(help="A log with depth frames.")],
    out: Out,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write the depth snapshots of a log, sides as lists, best first.

    Example: heqis export depth btc.hql -o btc-depth.parquet
    """
    from feeds.log_reader import LogReader
    from replay.export.files import check_target
    from replay.export.records import depth_batches, depth_levels, depth_table, with_source

    check_target(out, overwrite=overwrite)
    with LogReader(log) as reader:
        levels = depth_levels(reader)
        table = with_source(depth_table(levels), [log], levels=levels)
        _write(out, table, depth_batches(reader, levels), overwrite=overwrite, json=json)


def signals(
    source: Annotated[list[Path], typer.Argument(help="A journal, or logs that are replayed.")],
    out: Out,
    config: ConfigFiles = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write the signals of a journal, or those that a replay of logs makes.

    Examples: heqis export signals var/journal.db -o signals.parquet;
    heqis export signals aig.hql -c mine.toml -o signals.parquet
    """
    from engine.composition import resolve
    from engine.config import CONFIGS, load_config
    from replay.export.files import check_target, open_table
    from replay.export.records import with_source
    from replay.export.signals import SIGNALS, is_journal, write_journal, write_replay

    check_target(out, overwrite=overwrite)
    table = with_source(SIGNALS, source)
    if is_journal(source[0]):
        if len(source) > 1 or config:
            raise ConfigError("command line", "SOURCE", str(source[0]), "one journal, without -c")
        with open_table(out, table, overwrite=overwrite) as file:
            damaged = write_journal(source[0], file)
        _tell(out, file.rows, {"damaged": damaged}, json=json)
    else:
        files = [Path(file) for file in config or (CONFIGS / "replay.toml",)]
        blueprint = resolve(load_config(files))
        with open_table(out, table, overwrite=overwrite) as file:
            bad_input = write_replay(source, blueprint, file)
        _tell(out, file.rows, {"bad_input": bad_input}, json=json)


def _builder(config: list[Path] | None, bar: str, texts: list[str]) -> "BarBuilder":
    from engine.config import CONFIGS, load_config
    from engine.core.suggest import known_names
    from replay.export.bars import BarBuilder
    from strategies.registry import load_registry
    from strategies.use_text import parse_use

    loaded = load_config([Path(file) for file in config or (CONFIGS / "replay.toml",)])
    names = [one.name for one in loaded.bars]
    if bar not in names:
        raise ConfigError("command line", "--bar", bar, known_names("bars", names, bar))
    registry = load_registry(loaded.plugins)
    uses = [parse_use(text, registry, "--indicator") for text in texts]
    return BarBuilder(bar, [one.spec() for one in loaded.bars], uses, registry)


def _write(out: Path, table: "Table", batches: "Batches", *, overwrite: bool, json: bool) -> None:
    from engine.core.errors import InputFileError
    from replay.export.files import open_table

    with open_table(out, table, overwrite=overwrite) as file:
        for batch in batches:
            file.write(batch)
        if not file.rows:
            source = ", ".join(table.facts["source"])
            raise InputFileError(source, f"it holds no {table.facts['table']}; nothing was written")
    _tell(out, file.rows, {"bad_input": batches.faults()}, json=json)


def _tell(out: Path, rows: int, wrong: dict[str, Any], *, json: bool) -> None:
    """Say what was written; ``wrong``: ``damaged`` of a journal, ``bad_input`` of logs."""
    if json:
        print_json({"output": str(out), "rows": rows, **wrong})
        return
    left = f", {wrong['damaged']:,} damaged ones left out" if wrong.get("damaged") else ""
    typer.echo(f"{rows:,} rows in {out}{left}")
    tell_bad_input(wrong.get("bad_input", {}))
