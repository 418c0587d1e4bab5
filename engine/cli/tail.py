"""``heqis tail``: print signals as they come, from wherever one wants to begin."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.reach import CaFile, Token, access_of

if TYPE_CHECKING:
    from rich.console import Console

    from engine.client import DataGap, Item, Signal, SignalClient
    from engine.core.signals import Side

DEFAULT_URL = "ws://127.0.0.1:8765"
FIRST_ATTEMPTS = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tail)


def tail(
    url: Annotated[str, typer.Argument(help="Address of the engine's stream.")] = DEFAULT_URL,
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", "-i", help="Only this one; repeatable.")
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", "-s", help="Only this one; repeatable.")
    ] = None,
    side: Annotated[str | None, typer.Option(help="Only BUY, or only SELL.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Only signals at least so sure.")
    ] = None,
    from_seq: Annotated[
        int | None, typer.Option(min=0, help="Begin with this sequence number of the stream.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after so many signals.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Print signals as the engine sends them; what was missed is said, never skipped.

    Reconnects and resumes by itself; Ctrl-C ends it. Exit status 2 if no engine answers.

    Example: heqis tail -i BTCUSDT.BINANCE --side BUY --min-confidence 0.6
    """
    from engine.client import SignalClient

    client = SignalClient(
        url,
        instruments=instrument,
        strategies=strategy,
        sides=parse_side(side),
        min_confidence=min_confidence,
        from_seq=from_seq,
        topics=("signals", "data"),
        first_attempts=FIRST_ATTEMPTS,
        access=access_of(token, ca),
    )
    try:
        asyncio.run(_follow(client, count, as_json=as_json))
    except KeyboardInterrupt:
        return


def parse_side(text: str | None) -> "list[Side] | None":
    """Return the sides of ``--side``.

    Raises:
        ConfigError: neither BUY nor SELL.
    """
    from engine.core.errors import ConfigError

    match None if text is None else text.upper():
        case None:
            return None
        case "BUY":
            return ["BUY"]
        case "SELL":
            return ["SELL"]
        case _:
            raise ConfigError("command line", "--side", text, "give BUY or SELL")


async def _follow(client: "SignalClient", count: int | None, *, as_json: bool) -> None:
    from rich.console import Console

    from engine.client import Signal

    console = Console(highlight=False, soft_wrap=True)
    left = count
    async with client:
        while (item := await client.next_item()) is not None:
            _show(console, item, as_json=as_json)
            if isinstance(item, Signal) and left is not None:
                left -= 1
                if left == 0:
                    return


def _show(console: "Console", item: "Item", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_line(item))
    else:
        console.print(people_line(item))


def json_line(item: "Item") -> str:
    """Return one item as a JSON object: its fields, and ``type``."""
    import msgspec
    import orjson

    fields: dict[str, Any] = {"type": type(item).__name__.lower(), **msgspec.to_builtins(item)}
    return orjson.dumps(fields).decode()


def people_line(item: "Item") -> str:
    """Return one item as a line of rich markup."""
    from rich.markup import escape

    from engine.client import DataGap, Gap, Signal

    if isinstance(item, Signal):
        colour = "green" if item.side == "BUY" else "red"
        edge = "" if item.edge_bps is None else f"  edge {item.edge_bps:.1f} bps"
        return (
            f"[dim]{clock(item.ts_emit)} {item.seq:>8}[/dim]  [bold {colour}]{item.side:<4}[/]  "
            f"[bold]{escape(item.instrument)}[/] @ {item.price:g}  {escape(item.strategy)}  "
            f"confidence {item.confidence:.2f}{edge}{escape(_scored(item))}"
        )
    if isinstance(item, Gap):
        end = "?" if item.to_seq is None else item.to_seq
        latest = f"; {len(item.snapshot)} latest known" if item.snapshot else ""
        return (
            f"[bold yellow]gap[/] signals {item.from_seq} to {end} of epoch {item.epoch}: "
            f"{escape(item.reason)}{latest}"
        )
    if isinstance(item, DataGap):
        return f"{clock(item.ts)} [bold yellow]data gap[/] {_missing(item)}"
    return f"[dim]status {clock(item.ts)}[/dim]"


def _missing(gap: "DataGap") -> str:
    """Return what of the market data did not come."""
    what = f"{gap.missing} records of gateway {gap.gateway} from {gap.first_missing} on"
    if gap.previous_epoch is not None:
        before = "?" if gap.previous_missing is None else gap.previous_missing
        what = f"gateway {gap.gateway} began anew, {before} records before and {gap.missing} after"
    return f"{what}: {gap.reason or 'not asked for'}; indicators warm up again"


def _scored(signal: "Signal") -> str:
    """Return what scored a signal and how long that took; "" where only a rule had a say."""
    from engine.view_models import scored_by
    from engine.view_text import bundle_text

    if signal.model is None:
        return ""
    return f"  {bundle_text(signal.model)} {scored_by(signal, wide=True)[0]}"


def clock(wall_ns: int) -> str:
    """Return a wall time in nanoseconds as UTC hours, minutes, seconds and milliseconds."""
    moment = datetime.fromtimestamp(wall_ns // 1_000_000 / 1_000, tz=UTC)
    return moment.strftime("%H:%M:%S.%f")[:-3]
