"""``heqis backtest``: what trading the signals on a recording would have come to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.common import AsJson, ConfigFiles, make_directory, need, print_json
from engine.core.errors import ConfigError

if TYPE_CHECKING:
    from replay.backtest.bar_files import Logs
    from replay.backtest.metrics import Metrics
    from replay.backtest.prepared import Prepared
    from replay.backtest.records import BacktestResult

_FIRST_NS = -(2**62)
_LAST_NS = 2**62


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="backtest")(backtest)


def backtest(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs of ticks or bars, or Parquet files of daily bars.")
    ],
    config: ConfigFiles = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for trades, fills, equity and an HTML report.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Begin at this UTC date or time; what is before warms up."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="End before this UTC date or time.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Trade the signals on recorded ticks or bars, with fees and the market's rules.

    The pipeline is the live one; the configuration's table `backtest` says how its signals are
    traded. Without -c, configs/replay.toml is used.

    Example: heqis backtest shares.hql -c mine.toml --out var/backtest
    """
    need("empyrical", "lab")
    if out is not None:
        need("plotly", "lab")
        make_directory("--out", out)
    from replay.backtest.bar_files import as_logs
    from replay.backtest.metrics import measure

    with as_logs(logs) as given:
        result = _run(given, [Path(file) for file in config or ()], (since, until))
        result.check()
        metrics = measure(result)
        files = _write(result, out, logs, given)
    if json:
        print_json(_as_json(result, metrics, files))
    else:
        _print(result, metrics, files)


def _run(logs: "Logs", files: list[Path], span: tuple[str | None, str | None]) -> "BacktestResult":
    from engine.cli.progress import record_progress
    from engine.composition import resolve
    from engine.config import CONFIGS, load_config
    from engine.core.records import Schema
    from feeds.log_reader import LogReader
    from replay.backtest.run import backtest as run
    from replay.bursts import count_records

    traded = _time_ns("--from", span[0], _FIRST_NS), _time_ns("--to", span[1], _LAST_NS)
    if traded[0] >= traded[1]:
        raise ConfigError("command line", "--to", span[1], "a time after --from")
    blueprint = resolve(load_config(files or [CONFIGS / "replay.toml"]))
    total = 0
    for path in logs.paths:
        with LogReader(path) as reader:
            total += count_records(reader, Schema.TICK, Schema.BAR)
    with record_progress("reading", total) as advance:
        prepared = logs.load(advance)
    prepared = _inside(prepared, traded, span)
    with record_progress("trading", prepared.records) as advance:
        result = run(prepared, blueprint, span=traded, progress=advance)
    return replace(result, equity=result.equity[result.equity["ts"] >= traded[0]])


def _inside(
    prepared: "Prepared", traded: tuple[int, int], span: tuple[str | None, str | None]
) -> "Prepared":
    """Return the records before the end; there must be some, and some after the beginning."""
    from replay.backtest.trading_days import received_before

    if traded[1] <= prepared.first_ns:
        told = f"a time after the first record, {_told(prepared.first_ns)}"
        raise ConfigError("command line", "--to", span[1], told)
    known = received_before(prepared, traded[1])
    if traded[0] > known.last_ns:
        told = f"a time up to the last record, {_told(known.last_ns)}"
        raise ConfigError("command line", "--from", span[0], told)
    return known


def _told(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time_ns(option: str, text: str | None, absent: int) -> int:
    if text is None:
        return absent
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        expected = "a date or time such as 2020-01-31 or 2020-01-31T09:30"
        raise ConfigError("command line", option, text, expected) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _write(
    result: "BacktestResult", out: Path | None, named: list[Path], logs: "Logs"
) -> list[Path]:
    if out is None:
        return []
    from replay.backtest.report import ReportOptions, write_report

    title = "Backtest of " + ", ".join(path.name for path in named)
    try:
        return write_report(result, out, ReportOptions(title=title, logs=logs.paths))
    except OSError as error:
        told = f"a directory to write to: {error.strerror or error}"
        raise ConfigError("command line", "--out", str(out), told) from None


def _as_json(result: "BacktestResult", metrics: "Metrics", files: list[Path]) -> dict[str, Any]:
    from replay.backtest.report import as_json

    return {**as_json(result, metrics), "files": [str(path) for path in files]}


def _print(result: "BacktestResult", metrics: "Metrics", files: list[Path]) -> None:
    from rich.console import Console

    from replay.backtest.report_text import count_lines, summary_table

    console = Console()
    rate = f"{result.records / max(result.wall_s, 1e-9):,.0f} records/s"
    console.print(f"{result.records:,} records in {result.wall_s:.3f} s ({rate})")
    console.print(summary_table(metrics))
    for kind, told in count_lines(result):
        console.print(f"{kind}: {told}", soft_wrap=True)
    for path in files:
        console.print(f"written: {path}", soft_wrap=True)
