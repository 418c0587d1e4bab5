"""``heqis latency run`` and ``heqis latency compare``: the latency lab."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.common import AsJson, ConfigFiles, need, print_json
from engine.core.errors import CheckFailedError, ConfigError, UserError

if TYPE_CHECKING:
    from engine.config import Config
    from replay.lab.results import Result, Run
    from replay.lab.settings import LabSettings

_OVERRIDES = "HEQIS__"


def run(
    log: Annotated[Path, typer.Argument(help="The log: a file or a directory of segments.")],
    config: ConfigFiles = None,
    speed: Annotated[
        str, typer.Option(help="Speeds with commas between them, or max-sustainable, too.")
    ] = "1",
    clients: Annotated[int, typer.Option(min=1, max=500, help="WebSocket clients.")] = 1,
    seconds: Annotated[
        str, typer.Option(help="What is measured of a run at most: 10, 500ms.")
    ] = "10s",
    warm_up: Annotated[str, typer.Option(help="Left out at the begin of each run.")] = "1s",
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Runs of each speed.")] = 1,
    budget: Annotated[
        str | None,
        typer.Option(
            help="The p99 that max-sustainable keeps, tick to client; 5ms.", show_default=False
        ),
    ] = None,
    lateness_budget: Annotated[
        str, typer.Option(help="A run is void whose injector's p99.9 was later.")
    ] = "1ms",
    batch: Annotated[
        str | None,
        typer.Option(
            help="Ticks due in one such slot share a frame; the gateway's turn_interval.",
            show_default=False,
        ),
    ] = None,
    longest_gap: Annotated[str, typer.Option(help="Longer waits are cut to this.")] = "5s",
    skip: Annotated[str, typer.Option(help="Recorded time left out at the log's begin.")] = "0s",
    times: Annotated[
        str, typer.Option(help="now: move the log's times to now; market: keep them.")
    ] = "now",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A new directory for the results.", show_default=False),
    ] = None,
    html: Annotated[bool, typer.Option(help="Whether to write the report.")] = True,
    json: AsJson = False,
) -> None:
    """Replay a log through real processes and measure every stage from intended time.

    An injector sends the log's ticks over ZeroMQ at their recorded gaps divided by the speed,
    whatever becomes of them; a real engine with this configuration answers real WebSocket clients.
    In the directory: result.json, report.html, and an .hlog a run.

    Example: heqis latency run btc.hql -c configs/demo.toml --speed 1,10,max-sustainable
    """
    from engine.config import load_config
    from replay.lab.settings import LabSettings, check_settings, parse_speeds

    if html:
        need("plotly", "lab")
    loaded = load_config(config or ())
    if times not in ("now", "market"):
        raise ConfigError("command line", "--times", times, "now or market")
    speeds, search = parse_speeds(speed)
    settings = LabSettings(
        log=log,
        speeds=speeds,
        search=search,
        clients=clients,
        warm_up_ns=_duration_ns("--warm-up", warm_up),
        length_ns=_duration_ns("--seconds", f"{seconds}s" if seconds.isdecimal() else seconds),
        repeats=repeats,
        budget_ns=_duration_ns("--budget", budget or "5ms"),
        lateness_budget_ns=_duration_ns("--lateness-budget", lateness_budget),
        slot_ns=_duration_ns("--batch", batch) if batch else loaded.gateway.turn_interval,
        longest_gap_ns=_duration_ns("--longest-gap", longest_gap),
        skip_ns=_duration_ns("--skip", skip),
        market_times=times == "market",
    )
    check_settings(settings, budget_given=budget is not None)
    directory, result = _measure(loaded, settings, out, quiet=json)
    _write(directory, result, html=html)
    _show(directory, result, as_json=json)


def _duration_ns(option: str, text: str) -> int:
    from engine.core.settings import parse_duration_ns

    try:
        return int(parse_duration_ns(text))
    except ValueError as error:
        raise ConfigError("command line", option, text, str(error)) from error


def _measure(
    config: "Config", settings: "LabSettings", out: Path | None, *, quiet: bool
) -> tuple[Path, "Result"]:
    """Do what was asked for; return where the results go, and the results."""
    import uvloop

    from engine.composition import resolve
    from replay.lab.campaign import Campaign
    from replay.lab.table import lab_console

    resolve(config)
    told = lab_console(stderr=True)
    campaign = Campaign(config, settings, lambda text: told.print(text, style="dim"))
    directory = _make_directory(out)
    with _without_overrides():
        work = campaign.run(directory, _shower(directory, quiet=quiet))
        try:
            return directory, uvloop.run(_until_terminated(work))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _until_terminated(work: Coroutine[Any, Any, "Result"]) -> "Result":
    """Have a request to end cancel the work, so that it ends its processes and clears its files."""
    cancel = asyncio.current_task().cancel  # type: ignore[union-attr] # it runs as a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel)
    return await work


def _make_directory(out: Path | None) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    directory = (out or Path("var/latency") / stamp).resolve()
    try:
        if directory.exists() and any(directory.iterdir()):
            raise UserError(f"{directory} is not empty; results go into a directory of their own")
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be made: {error.strerror}") from error
    return directory


@contextlib.contextmanager
def _without_overrides() -> Iterator[None]:
    """Hide variables that are in the configuration already from the processes."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(_OVERRIDES)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _shower(directory: Path, *, quiet: bool) -> Any:
    from replay.lab.results import hlog_name, write_hlog
    from replay.lab.table import lab_console, run_table

    console = lab_console()

    def on_run(run: "Run") -> None:
        write_hlog(directory / hlog_name(run), run)
        if not quiet:
            console.print(run_table(run))

    return on_run


def _write(directory: Path, result: "Result", *, html: bool) -> None:
    from replay.lab.results import RESULT, write_result

    write_result(directory / RESULT, result)
    if html:
        from replay.lab.report import write_report

        write_report(directory / "report.html", result)


def _show(directory: Path, result: "Result", *, as_json: bool) -> None:
    from replay.lab.table import lab_console, summary_table

    if as_json:
        print_json({"directory": str(directory), **result.as_dict()})
    else:
        console = lab_console()
        console.print(summary_table(result))
        console.print(f"  results: {directory}", soft_wrap=True)
    void = [run for run in result.runs if run.void]
    if void:
        raise CheckFailedError(
            f"{len(void)} of {len(result.runs)} runs are void: {void[0].void}; leave the machine "
            "more to itself, or widen --lateness-budget"
        )


def compare(
    base: Annotated[Path, typer.Argument(help="Results before: a directory or result.json.")],
    new: Annotated[Path, typer.Argument(help="Results after, of the same log and options.")],
    threshold: Annotated[
        str, typer.Option(help="A regression is more than this: 10% or 0.1.")
    ] = "10%",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="stage.percentile to be judged; give it again for more."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Judge two sessions of the lab; exit 1 if the second is slower by more than a threshold.

    Runs are paired by speed and repeat. What is judged is the median of the pairs' ratios, and
    only where the noise band, a bootstrap's 95 % interval of that median, lies above 1 as a whole.

    Example: heqis latency compare before/ after/ --threshold 10%
    """
    from replay.lab.compare import JUDGED, compare_results, parse_threshold
    from replay.lab.compare_table import comparison_table
    from replay.lab.results import read_result
    from replay.lab.table import lab_console

    limit = parse_threshold(threshold)
    comparison = compare_results(read_result(base), read_result(new), limit, metric or JUDGED)
    if json:
        print_json(comparison.as_dict())
    else:
        lab_console().print(comparison_table(comparison, str(base), str(new)))
    regressions = comparison.regressions
    if regressions:
        raise CheckFailedError(f"slower by more than {limit:.0%}: {', '.join(regressions)}")
