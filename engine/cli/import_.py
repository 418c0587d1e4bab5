"""``heqis import``: recorded market data of many kinds into a tick log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engine.cli.common import need

if TYPE_CHECKING:
    from feeds.importers.report import ImportReport

_KINDS: Final = (
    "binance-raw", "us-equity-tick", "fx-quote", "cffex-tick", "tushare-daily", "csv", "dbn",
    "event-array",
)  # fmt: skip

_OF_BOOKS: Final = {
    "in_books": "rows in books",
    "quotes_made": "quotes made of books",
    "depth": "depth records",
}

_HELP: Final = """Import recorded market data into a tick log.

Every row is kept as one record, put into an order book or refused by a reason, and all are counted.
The rules of each kind are in docs/importing.md.

[bold]Kinds[/bold]: binance-raw (WebSocket captures), us-equity-tick (quote and trade zips),
fx-quote, cffex-tick (snapshots as CSV), tushare-daily (CSV or Parquet), csv (any columns), dbn
(Databento), event-array (hftbacktest's .npz).

[bold]Examples[/bold]:

heqis import us-equity-tick aig_20131007_quote.zip aig_20131007_trade.zip -o aig.hql

heqis import binance-raw usdm_btcusdt_20240808.gz --depth 10 -o btc.hql

heqis import csv rm705.csv --as snapshots --symbol RM705.CZCE --timezone Asia/Shanghai
--time-format '%Y%m%d %H:%M:%S.%f' --columns 'time=date+time,price=lastPrice' -o rm.hql
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", help=_HELP)(import_command)


def import_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=" | ".join(_KINDS))],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files of that kind.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The log to make.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    venue: Annotated[str, typer.Option(help="Venue of the symbols.")] = "",
    symbol: Annotated[str, typer.Option(help="The instrument, where files do not say it.")] = "",
    timezone: Annotated[str, typer.Option(help="Zone of times without one.")] = "",
    columns: Annotated[str, typer.Option(help="csv: field=column,… (a+b joins two).")] = "",
    records: Annotated[
        str, typer.Option("--as", help="csv: trades | quotes | snapshots | bars.")
    ] = "trades",
    time_format: Annotated[
        str, typer.Option(help="csv: s, ms, us, ns, ms-of-day, iso or a strptime pattern.")
    ] = "",
    header: Annotated[bool, typer.Option(help="csv: the first line names the columns.")] = True,
    date: Annotated[str, typer.Option(help="csv: yyyymmdd of ms-of-day times.")] = "",
    session: Annotated[str, typer.Option(help="csv: HH:MM-HH:MM of dated bars.")] = "",
    bar_length: Annotated[str, typer.Option(help="csv: length of the bars, as in 1m.")] = "0s",
    calendar: Annotated[str, typer.Option(help="csv: trading calendar.")] = "24/7",
    depth: Annotated[
        int | None,
        typer.Option(
            help="binance-raw, dbn, event-array: levels of depth frames, 5 | 10 | 0 for none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Import files, show what became of their rows."""
    from feeds.importers.options import ImportOptions, RecordKind
    from feeds.importers.run import ImportKind, import_files

    options = ImportOptions(
        venue=venue,
        symbol=symbol,
        timezone=timezone,
        columns=columns,
        time_format=time_format,
        records=RecordKind(_one_of("--as", records, [kind.value for kind in RecordKind])),
        header=header,
        date=date,
        session=session,
        bar_length_ns=_duration_ns(bar_length),
        calendar=calendar,
        depth=_depth(depth),
    )
    chosen = ImportKind(_one_of("KIND", kind, _KINDS))
    if chosen is ImportKind.DBN:
        need("databento_dbn", "lab")
    with _progress(files) as meter:
        report = import_files(chosen, tuple(files), output, options, meter)
    if as_json:
        import orjson

        typer.echo(orjson.dumps(report.as_dict()).decode())
    else:
        _show(report)


def _one_of(what: str, found: str, allowed: "tuple[str, ...] | list[str]") -> str:
    from engine.core.errors import ConfigError

    if found not in allowed:
        raise ConfigError("import", what, found, f"it is one of {', '.join(allowed)}")
    return found


def _depth(levels: int | None) -> int | None:
    from engine.core.errors import ConfigError

    if levels not in (None, 0, 5, 10):
        raise ConfigError("import", "--depth", levels, "it is one of 0, 5, 10")
    return levels


def _duration_ns(text: str) -> int:
    from engine.core.errors import ConfigError
    from engine.core.settings import parse_duration_ns

    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise ConfigError("import", "--bar-length", text, str(error)) from None


@contextmanager
def _progress(files: list[Path]) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of the input have been read, if stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("import", total=total)
        yield lambda more: bar.advance(task, more)


def _show(report: "ImportReport") -> None:
    from rich.console import Console
    from rich.table import Table

    facts = report.as_dict()
    table = Table(title=f"{report.kind} → {report.output}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name in ("rows", "ticks", "bars", "raw"):
        table.add_row(name, f"{facts[name]:,}")
    for name, title in _OF_BOOKS.items():
        if facts[name]:
            table.add_row(title, f"{facts[name]:,}")
    for reason, count in facts["refused"].items():
        examples = "; ".join(facts["examples"][reason])
        table.add_row(f"refused: {reason}", f"{count:,}", examples)
    for group, title in (("flags", "flagged"), ("notes", "noted"), ("books", "books")):
        for name, count in facts[group].items():
            table.add_row(f"{title}: {name}", f"{count:,}")
    shown = facts["instruments"]
    more = f" and {len(shown) - 8:,} more" if len(shown) > 8 else ""
    table.add_row("instruments", f"{len(shown):,}", ", ".join(shown[:8]) + more)
    table.add_row("received", "", f"{facts['first']} to {facts['last']}")
    table.add_row("took", f"{report.wall_s:.2f} s")
    Console().print(table)
