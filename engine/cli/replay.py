"""``heqis replay``: a recording through the live pipeline."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import AsJson, ConfigFiles, print_json
from engine.core.errors import ConfigError
from engine.core.signals import Signal, as_fields

if TYPE_CHECKING:
    from replay.player import Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="replay")(replay)


def replay(
    logs: Annotated[list[Path], typer.Argument(help="Tick logs; several are merged by time.")],
    config: ConfigFiles = None,
    pace: Annotated[
        str, typer.Option(help='"max", or recorded seconds a second: 1, 10, 0.5.')
    ] = "max",
    burst: Annotated[
        str | None,
        typer.Option(help='Ticks of one kernel call, or "random"; the log\'s own otherwise.'),
    ] = None,
    signals: Annotated[
        Path | None, typer.Option(help="Write every signal to this file, a JSON object a line.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Play recorded ticks through the live pipeline and say what came of it.

    The same log and configuration give the same digest in any process, at any burst size, on any
    run. Without -c, configs/replay.toml is used; it works on any imported log.

    Example: heqis replay aig.hql --json
    """
    from engine.cli.progress import record_progress
    from engine.composition import resolve
    from engine.config import CONFIGS, load_config
    from engine.core.records import Schema
    from feeds.log_reader import LogReader
    from replay.bursts import count_records
    from replay.player import Options, play

    files = [Path(file) for file in config or (CONFIGS / "replay.toml",)]
    blueprint = resolve(load_config(files))
    total = 0
    for path in logs:
        with LogReader(path) as reader:
            total += count_records(reader, Schema.TICK, Schema.BAR)
    with record_progress("replaying", total) as advance, _signal_file(signals) as keep:
        options = Options(pace=_pace(pace), burst=_burst(burst), keep=keep, progress=advance)
        result = play(logs, blueprint, options)
    if json:
        print_json(result.as_dict())
    else:
        _print(result)


def _pace(text: str) -> float:
    if text == "max":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise ConfigError("command line", "--pace", text, 'give "max" or a number above 0')
    return value


def _burst(text: str | None) -> int | None:
    from replay.player import RANDOM_BURSTS

    if text is None:
        return None
    if text == "random":
        return RANDOM_BURSTS
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("command line", "--burst", text, 'give "random" or a number from 1')
    return int(text)


@contextlib.contextmanager
def _signal_file(path: Path | None) -> Iterator[Callable[[Signal], None] | None]:
    """Give what writes a signal into a file; one that was there stays until all is well."""
    if path is None:
        yield None
        return
    in_place = path.exists() and not path.is_file()  # a terminal, a pipe
    draft = path if in_place else path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:

            def keep(signal: Signal) -> None:
                file.write(orjson.dumps(as_fields(signal)) + b"\n")

            yield keep
        if not in_place:
            draft.replace(path)
    except OSError as error:
        told = error.strerror or str(error)
        raise ConfigError(
            "command line", "--signals", str(path), f"a file to write: {told}"
        ) from None
    finally:
        if not in_place:
            draft.unlink(missing_ok=True)


def _print(result: "Result") -> None:
    from rich.console import Console

    from latency.report import percentile_table

    console = Console()
    rate = f"{result.records_per_s:,.0f} ticks/s"
    console.print(f"{result.ticks:,} ticks in {result.wall_s:.3f} s ({rate})")
    rows = {
        "bar records": result.bar_records,
        "depth records passed over": result.depth_records,
        "heartbeats": result.heartbeats,
        "gaps": result.gaps,
        "missing": result.missing,
    }
    for name, count in rows.items():
        if count:
            console.print(f"{name}: {count:,}")
    for title, counts in (
        ("bars", result.bars_by_spec),
        ("signals", result.signals_by_strategy),
        ("refused", result.refusals),
        ("bad input", result.bad_input),
        ("strategy failures", result.strategy_failures),
    ):
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        if told or title == "signals":
            console.print(f"{title}: {told or 'none'}", soft_wrap=True)
    console.print(f"digest: {result.digest}")
    for name in result.unmatched_strategies:
        console.print(f"strategy {name}: its patterns match no instrument", style="yellow")
    measured = {name: stage for name, stage in result.latency.items() if stage.count}
    console.print(percentile_table(measured))
