"""``heqis indicators``: any indicator over a bar CSV, and what indicators there are."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from strategies.registry import Registry
    from strategies.spec import IndicatorSpec, Use

_HELP: Final = """Compute indicators over a bar CSV, to check them against other tools.

FILE has a header with [bold]time,open,high,low,close,volume[/bold] in any order; time is ISO 8601,
yyyymmdd or an epoch number (s, ms, µs or ns). Where it also has turnover, buy_volume, sell_volume,
trades, ofi, bid, ask, bid_size or ask_size, those are used; other columns are passed over.

OUT has the same rows: time as it was, then one column an output. The main output is named as you
wrote the indicator, the others with .output behind it: rsi(length=14), macd, macd.signal,
macd.histogram. Cells are empty until the indicator is ready. Numbers are in full precision.

[bold]Examples[/bold]:

heqis indicators --bars bars.csv --indicator 'rsi(length=14)' --indicator macd -o out.csv

heqis indicators --list
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("indicators", help=_HELP)(indicators_command)


def indicators_command(
    bars: Annotated[Path | None, typer.Option(help="The bar CSV.", metavar="FILE")] = None,
    indicator: Annotated[
        list[str] | None, typer.Option(help="name or name(parameter=number, …); repeat for more.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write; standard output if not.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Zone of times that name none, and of trading days.")
    ] = "UTC",
    plugin: Annotated[
        list[Path] | None, typer.Option(help="A Python file with indicators of your own.")
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Say what indicators there are.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the list, or what was computed.")
    ] = False,
) -> None:
    """Compute indicators, or list them."""
    from engine.core.errors import ConfigError
    from strategies.registry import load_registry

    registry = load_registry(plugin or ())
    if list_all:
        _list(registry, as_json=as_json)
        return
    if bars is None or not indicator:
        key = "--indicator" if bars else "--bars"
        expected = "give --bars FILE and at least one --indicator, or --list"
        raise ConfigError("heqis indicators", key, None, expected)
    if as_json and output is None:
        raise ConfigError("heqis indicators", "-o", None, "--json needs -o OUT.csv")
    _compute(registry, bars, indicator, output, _zone(timezone), as_json=as_json)


def _zone(name: str) -> "tzinfo":
    from zoneinfo import ZoneInfo

    from engine.core.errors import ConfigError

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        expected = "a zone is named as in Asia/Shanghai or UTC"
        raise ConfigError("heqis indicators", "--timezone", name, expected) from None


def _compute(
    registry: "Registry",
    path: Path,
    texts: "Sequence[str]",
    output: Path | None,
    zone: "tzinfo",
    *,
    as_json: bool,
) -> None:
    from engine.bar_csv import read_bar_csv, write_columns
    from engine.core.errors import InputFileError
    from strategies.batch import IndicatorBatch, label_of
    from strategies.use_text import parse_use

    uses = {label_of(use): use for use in (parse_use(t, registry, "--indicator") for t in texts)}
    table = read_bar_csv(path, zone)
    _require_fields(registry, path, uses, table.fields)
    batch = IndicatorBatch(list(uses.values()), registry, "--indicator")
    columns = batch.run(table.bars)
    if output is None:
        write_columns(sys.stdout, table.times, batch.columns, columns)
        return
    try:
        with output.open("w", newline="", encoding="utf-8") as file:
            write_columns(file, table.times, batch.columns, columns)
    except OSError as error:
        raise InputFileError(output, f"it cannot be written: {error.strerror}") from None
    ready = {name: _first_ready(row) for name, row in zip(batch.columns, columns, strict=True)}
    if as_json:
        _print_json({"bars": len(table.times), "output": str(output), "first_ready_row": ready})
    else:
        typer.echo(f"{output}: {len(table.times)} bars, {len(ready)} columns", err=True)


def _first_ready(row: Any) -> int | None:
    import numpy as np

    known = np.flatnonzero(~np.isnan(row))
    return int(known[0]) if len(known) else None


def _require_fields(
    registry: "Registry", path: Path, uses: "dict[str, Use]", fields: frozenset[str]
) -> None:
    from engine.core.errors import InputFileError

    for label, use in uses.items():
        missing = [n for n in registry.indicators[use.indicator].needs if n not in fields]
        if missing:
            problem = f"{label} needs the columns {', '.join(missing)}, which this file has not"
            raise InputFileError(path, problem)


def _list(registry: "Registry", *, as_json: bool) -> None:
    specs = [registry.indicators[name] for name in sorted(registry.indicators)]
    if as_json:
        _print_json({"indicators": [_described(spec) for spec in specs]})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    for spec in specs:
        console.print(f"[bold cyan]{spec.name}[/]  {escape(spec.title)}")
        grid = Table.grid(padding=(0, 2), pad_edge=True)
        for name, text in _lines_about(spec):
            grid.add_row("", name, escape(text))
        console.print(grid, "")


def _lines_about(spec: "IndicatorSpec") -> "Iterator[tuple[str, str]]":
    facts = _described(spec)
    for name, param in facts["params"].items():
        bounds = f"{param['low']} to {param['high']}"
        yield f"{name}={param['default']}", f"{param['doc']} ({bounds})"
    yield "outputs", ", ".join(spec.outputs)
    yield "warm-up", f"{facts['warm_up']} samples by default"
    yield "needs", ", ".join(spec.needs)
    yield "formula", spec.formula
    yield "reference", spec.reference


def _described(spec: "IndicatorSpec") -> dict[str, Any]:
    from strategies.spec import resolve_params

    return {
        "name": spec.name,
        "title": spec.title,
        "params": {
            name: {"default": p.default, "low": p.low, "high": p.high, "doc": p.doc}
            for name, p in spec.params.items()
        },
        "outputs": list(spec.outputs),
        "warm_up": spec.warm_up(resolve_params(spec.params, {})),
        "needs": list(spec.needs),
        "formula": spec.formula,
        "reference": spec.reference,
    }


def _print_json(facts: dict[str, Any]) -> None:
    import orjson

    typer.echo(orjson.dumps(facts).decode())
