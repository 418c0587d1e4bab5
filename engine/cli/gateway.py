"""``heqis gateway`` sends ticks, ``record`` logs what one sends, ``simulate`` logs a market."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import AsJson, ConfigFiles, Verbose, log_to_stderr, print_json
from engine.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="gateway")(gateway)
    app.command(name="record")(record)
    app.command(name="simulate")(simulate)


def gateway(config: ConfigFiles = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Run the gateway until its source ends, SIGTERM or Ctrl-C: a source in, engines out.

    Without -c it simulates a market of 20 instruments and sends it to an engine on this machine.

    Example: heqis gateway -c configs/default.toml
    """
    import uvloop

    from engine.config import load_config
    from engine.gateway_process import run_gateway_process
    from engine.notify import own_notifier
    from engine.process import give_large_blocks_back, refuse_huge_pages, tell_where_it_hangs

    log_to_stderr(verbose=verbose)
    refuse_huge_pages()
    give_large_blocks_back()
    tell_where_it_hangs()
    notifier = own_notifier()
    files = tuple(config or ())
    status = uvloop.run(run_gateway_process(load_config(files), files, notifier))
    notifier.close()
    if as_json:
        print_json(status)


def record(
    output: Annotated[Path, typer.Option("--output", "-o", help="The log to write.")],
    config: ConfigFiles = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="End after so many seconds of recording.")
    ] = None,
    ticks: Annotated[
        int | None, typer.Option(min=1, help="End with the frame that reaches so many ticks.")
    ] = None,
    rotate_mb: Annotated[
        int | None, typer.Option(min=1, help="Begin a new segment at so many megabytes.")
    ] = None,
    rotate_every: Annotated[
        str | None, typer.Option(help='Begin a new segment after this time, such as "1h".')
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing log.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Record what a gateway publishes, frame by frame, until a limit or Ctrl-C.

    Takes the engine's place: it binds link.data, so stop the engine first or give the gateway a
    second output. Waits for the gateway if it is not there; --seconds counts from its first frame.
    With a rotation option the log is a directory of segments.

    Example: heqis record -c configs/default.toml -o monday.hql --seconds 60
    """
    import uvloop

    from engine.config import load_config
    from feeds.recording import RecordLimits
    from feeds.recording import record as record_stream

    log_to_stderr(verbose=verbose)
    limits = RecordLimits(
        seconds,
        ticks,
        None if rotate_mb is None else rotate_mb * 1_000_000,
        None if rotate_every is None else _parse_rotation(rotate_every),
    )
    link = load_config(config or ()).link
    summary = uvloop.run(record_stream(link, output, limits, overwrite=overwrite))
    if as_json:
        print_json(summary)
    else:
        _show(summary)


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The log to write.")],
    config: ConfigFiles = None,
    ticks: Annotated[int, typer.Option(min=1, help="How many ticks.")] = 1_000_000,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a simulated market to a log, as fast as it goes: the same bytes every time.

    The market is the one of `gateway.source`, under its own times.

    Example: heqis simulate -o market.hql --ticks 100000
    """
    from engine.config import load_config
    from feeds.config import SimulatorConfig
    from feeds.simulator.to_log import write_simulated_log

    source = load_config(config or ()).gateway.source
    if not isinstance(source, SimulatorConfig):
        raise ConfigError("configuration", "gateway.source.kind", source.kind, 'give "simulator"')
    market = source.model_copy(update={"limit_ticks": ticks})
    summary = write_simulated_log(market, output, overwrite=overwrite)
    if as_json:
        print_json(summary)
    else:
        _show(summary)


def _parse_rotation(text: str) -> int:
    from engine.core.settings import parse_duration_ns

    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise ConfigError("command line", "--rotate-every", text, str(error)) from None


def _show(summary: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in summary.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
