"""``heqis sweep``: many backtests with other parameters, every one kept and counted."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.common import AsJson, ConfigFiles, need, print_json
from engine.core.errors import CheckFailedError, ConfigError

if TYPE_CHECKING:
    from replay.sweep.session import Session
    from replay.sweep.verdict import Verdict

STORAGE = "var/sweeps.journal"
_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="sweep")(sweep)


def sweep(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs of ticks or bars, or Parquet files of daily bars.")
    ],
    param: Annotated[
        list[str],
        typer.Option(
            "--param",
            "-p",
            help="What varies: KEY=LOW:HIGH, KEY=LOW:HIGH:STEP, KEY=LOW:HIGH:log or KEY=A,B,C; "
            "give it again for further keys.",
        ),
    ],
    config: ConfigFiles = None,
    sampler: Annotated[str, typer.Option(help="grid, random or tpe.")] = "tpe",
    trials: Annotated[
        int | None,
        typer.Option(help="Trials in all; 100, or every point of a grid.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", help="Workers; one a processor.", show_default=False),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            help="Where trials are kept: FILE.journal, FILE.db, a database's address, or none."
        ),
    ] = STORAGE,
    name: Annotated[str, typer.Option(help="Name of the study there.")] = "sweep",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study.")] = False,
    objective: Annotated[str, typer.Option(help="Metric that trials are judged by.")] = "sharpe",
    seed: Annotated[int, typer.Option(help="The same seed, the same trials.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(help="Run on the Ray cluster at this address; local starts one here."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report to this file.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write trials and daily returns into this directory.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Run a backtest for every set of parameters, on all processors, and judge the best by all.

    Every trial is kept, with its metrics and daily returns, and counts in the deflated Sharpe
    ratio. Without -c, configs/replay.toml is used.

    Example: heqis sweep daily.hql -c mine.toml -p strategies.macd.params.fast=5:50:5
    -p strategies.macd.params.slow=20:120:10 --sampler grid
    """
    for module in ("optuna", "empyrical", *(["plotly"] if html else [])):
        need(module, "lab")
    if ray is not None:
        need("ray", "ray")
    from engine.config import CONFIGS, load_config
    from replay.backtest.bar_files import as_logs
    from replay.sweep.session import Options, Session

    _check_places(html, out)
    options = Options(
        tuple(param), _sampler(sampler), trials, jobs, None if storage == "none" else storage,
        name, resume, objective, seed, ray,
    )  # fmt: skip
    settings = load_config(config or [CONFIGS / "replay.toml"])
    with (
        _terminable(),
        as_logs(logs) as given,
        Session(given.paths, settings, options, _cores()) as session,
    ):
        verdict = _run(session, given.paths, options.storage)
        _write(session, verdict, html, out)
        bad_input = {**given.refused, **session.bad_input}
    if json:
        print_json({**verdict.as_dict(), "bad_input": bad_input})
    else:
        _print(verdict, bad_input)
    if not verdict.ranked:
        raise CheckFailedError(f"no trial has a value of {objective}: nothing was traded")


def _check_places(html: Path | None, out: Path | None) -> None:
    """Refuse what cannot be written before any trial has run."""
    for option, path, directory in (("--html", html, html and html.parent), ("--out", out, out)):
        if path is None or directory is None:
            continue
        try:
            directory.mkdir(parents=True, exist_ok=True)
            found = "is a directory" if option == "--html" and path.is_dir() else ""
        except OSError as error:
            found = error.strerror or str(error)
        if found or not os.access(directory, os.W_OK):
            fix = f"a place to write: {found or 'no permission'}"
            raise ConfigError("command line", option, str(path), fix)


def _cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sampler(text: str) -> Any:
    from engine.core.suggest import known_names
    from replay.sweep.sampling import SamplerName

    names = [str(name) for name in SamplerName]
    if text not in names:
        raise ConfigError("command line", "--sampler", text, known_names("samplers", names, text))
    return SamplerName(text)


def _run(session: "Session", logs: list[Path], storage: str | None) -> "Verdict":
    from engine.cli.progress import record_progress

    try:
        if session.missing:
            with record_progress("loading", _records(logs)) as progress:
                session.load(progress)
        with record_progress("trials", session.trials) as progress:
            return session.run(progress)
    except KeyboardInterrupt:
        kept = len(session.ledger.outcomes)
        where = f"are kept in {storage}; --resume goes on" if storage else "were made, none is kept"
        typer.echo(f"heqis: stopped; {kept} trials {where}", err=True)
        raise typer.Exit(_INTERRUPTED) from None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take a request to end as an interruption: workers and the mapped recording go then, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _records(logs: list[Path]) -> int:
    from engine.core.records import Schema
    from feeds.log_reader import LogReader
    from replay.bursts import count_records

    count = 0
    for path in logs:
        with LogReader(path) as reader:
            count += count_records(reader, Schema.TICK, Schema.BAR)
    return count


def _write(session: "Session", verdict: "Verdict", html: Path | None, out: Path | None) -> None:
    if out is not None:
        from replay.sweep.tables import write_tables

        write_tables(verdict, out)
    if html is not None:
        from replay.sweep.report import write_report

        write_report(verdict, session.space, html)


def _print(verdict: "Verdict", bad_input: dict[str, int]) -> None:
    from rich.console import Console

    from replay.backtest.report_text import tally_lines
    from replay.sweep.text import summary_lines, top_table

    console = Console()
    refused = [": ".join(line) for line in tally_lines({"bad input": bad_input})]
    for line in (*summary_lines(verdict), *refused):
        console.print(line, soft_wrap=True, markup=False)
    if verdict.ranked:
        console.print(top_table(verdict))
