"""``heqis log``: look into tick logs, check them, print them, merge them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engine.core.errors import CheckFailedError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from engine.core.records import Ticks
    from feeds.log_reader import LogReader
    from feeds.log_verify import VerifyReport

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
LogPath = Annotated[Path, typer.Argument(help="A log: a file, or a directory of segments.")]

_HELP: Final = """Tick logs: look into, check, print, merge.

Example: heqis log info aig.hql
"""
_SHOWN: Final = 20
_MAX_SEQ: Final = 1 << 62


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    for command in (info, verify, cat, merge):
        group.command()(command)
    app.add_typer(group, name="log")


def info(log: LogPath, as_json: AsJson = False) -> None:
    """Say what is in a log: records, times, numbers, instruments.

    Example: heqis log info aig.hql
    """
    from feeds.log_reader import LogReader

    summary = LogReader(log).summary()
    if as_json:
        _echo_json(summary)
        return
    rows = [(name, _as_text(name, value)) for name, value in summary.items()]
    _print_rows(rows)


def verify(log: LogPath, as_json: AsJson = False) -> None:
    """Check every frame of a log, and that no number is missing; exit 1 if something is wrong.

    Example: heqis log verify aig.hql
    """
    from feeds.log_verify import verify as verify_log

    report = verify_log(log)
    fields = _report_fields(report)
    if as_json:
        _echo_json(fields)
    else:
        _print_rows([(name, _as_text(name, value)) for name, value in fields.items()])
    if not report.ok:
        raise CheckFailedError(
            f"{log}: {report.bad_frames} bad frames, {report.missing_records} records missing, "
            f"{report.duplicate_records} twice, {report.torn_bytes} torn bytes"
        )


def cat(
    log: LogPath,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="First sequence number, or receive time (ISO 8601, UTC)."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last sequence number, or receive time.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Most ticks to print.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line on stdout.")
    ] = False,
) -> None:
    """Print a log's ticks, one a line, as they would reach the engine.

    Examples: heqis log cat aig.hql --limit 10;
    heqis log cat aig.hql --from 2013-10-07T14:30:00 --to 2013-10-07T14:31:00 --json
    """
    from feeds.log_reader import LogReader

    reader = LogReader(log)
    lines = _json_lines if as_json else _text_lines
    left = _MAX_SEQ if limit is None else limit
    for ticks, seqs in _selected(reader, from_, to):
        if left <= 0:
            break
        text = "\n".join(lines(reader, ticks[:left], seqs[:left].tolist()))
        left -= len(ticks)
        if text:
            typer.echo(text)


def merge(
    logs: Annotated[list[Path], typer.Argument(help="Logs, files or directories.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The log to write.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge logs by receive time into one; ticks of the same time in the order of the arguments.

    Bars, depth records and raw frames are left out, and counted.

    Example: heqis log merge btc.hql eth.hql -o both.hql
    """
    from feeds.log_merge import left_out, merge_logs

    count = merge_logs(logs, output, overwrite=overwrite)
    left = left_out(logs)
    if as_json:
        _echo_json({"output": str(output), "logs": len(logs), "ticks": count, "left_out": left})
    else:
        typer.echo(f"{count:,} ticks of {len(logs)} logs in {output}")
        if left:
            typer.echo(f"left out: {_as_text('left_out', left)}")


def _selected(
    reader: "LogReader", from_: str | None, to: str | None
) -> Iterator[tuple["Ticks", "npt.NDArray[np.uint64]"]]:
    """Yield the ticks, and their numbers, between two places of a log."""
    first_seq, first_ts = _read_place("--from", from_, 0)
    last_seq, last_ts = _read_place("--to", to, _MAX_SEQ)
    start = reader.seek_seq(first_seq) if first_seq else reader.seek_time(first_ts)
    for batch in reader.batches(start):
        seqs, times = batch.origins["seq"], batch.ticks["ts_recv"]
        if seqs[0] > last_seq or times.min() > last_ts:
            return
        keep = (seqs >= first_seq) & (seqs <= last_seq) & (times >= first_ts) & (times <= last_ts)
        yield batch.ticks[keep], seqs[keep]


def _read_place(option: str, value: str | None, default: int) -> tuple[int, int]:
    """Read a sequence number or a time; the one not given is the default."""
    if value is None:
        return default, default
    if value.isdigit():
        return int(value), default
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ConfigError(
            "command line", option, value, 'give a sequence number or a time "2024-08-08T01:00:00"'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return default, (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _json_lines(reader: "LogReader", ticks: "Ticks", seqs: list[int]) -> Iterator[str]:
    import orjson

    from engine.core.records import TickKind

    symbols = _symbols(reader)
    for seq, tick in zip(seqs, ticks, strict=True):
        fields = dict(zip(ticks.dtype.names or (), tick.tolist(), strict=True))
        fields["kind"] = TickKind(fields["kind"]).name
        fields["instrument"] = symbols.get(fields["instrument"])
        yield orjson.dumps({"seq": seq} | fields).decode()


def _text_lines(reader: "LogReader", ticks: "Ticks", seqs: list[int]) -> Iterator[str]:
    from engine.core.records import TickKind

    symbols = _symbols(reader)
    for seq, tick in zip(seqs, ticks, strict=True):
        kind = TickKind(int(tick["kind"]))
        yield (
            f"{seq:>10} {_moment(int(tick['ts_recv']))} {kind.name:9} "
            f"{symbols.get(int(tick['instrument']), '*'):16} {tick['price']:>12g} "
            f"{tick['size']:>10g} {tick['bid']:>12g} x {tick['bid_size']:<8g} "
            f"{tick['ask']:>12g} x {tick['ask_size']:<8g} {int(tick['flags']) or ''}"
        ).rstrip()


def _symbols(reader: "LogReader") -> dict[int, str]:
    return {i: s.decode() for i, s in enumerate(reader.instruments["symbol"].tolist())}


def _moment(ts_ns: int) -> str:
    seconds, rest = divmod(ts_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}"


def _report_fields(report: "VerifyReport") -> dict[str, Any]:
    import msgspec

    fields: dict[str, Any] = msgspec.structs.asdict(report)
    fields["bad_places"] = [place._asdict() for place in report.bad_places]
    fields["gap_list"] = [gap._asdict() for gap in report.gap_list]
    return {"ok": report.ok} | fields


def _as_text(name: str, value: Any) -> str:
    if name.endswith("ts_recv") and value is not None:
        return _moment(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:,}" for key, number in value.items()) or "none"
    if isinstance(value, list):
        return "\n".join(_list_texts(value)) or "none"
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_count else str(value)


def _list_texts(values: list[Any]) -> Iterator[str]:
    for value in values[:_SHOWN]:
        yield ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
    if len(values) > _SHOWN:
        yield f"and {len(values) - _SHOWN:,} more (--json has them)"


def _print_rows(rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows:
        table.add_row(Text(name, "bold"), Text(value))
    Console(soft_wrap=True).print(table)


def _echo_json(fields: dict[str, Any]) -> None:
    import orjson

    typer.echo(orjson.dumps(fields))
