"""``heqis top``: look at a running engine."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from engine.cli.reach import CaFile, Token, access_of

if TYPE_CHECKING:
    from engine.view_state import ViewState

_DEFAULT_URL: Final = "ws://127.0.0.1:8765"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="top")(top)


def top(
    url: Annotated[str, typer.Argument(help="The engine's stream.")] = _DEFAULT_URL,
    plain: Annotated[bool, typer.Option(help="Print lines even on a terminal.")] = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Show a running engine live: signals, rates, stage percentiles, refusals, health.

    Waits for the engine if it is not there, and comes back to it if it restarts. Where stdout is
    not a terminal, signals are printed as lines and a status line every five seconds.

    Example: heqis top ws://127.0.0.1:8765
    """
    import asyncio

    from rich.console import Console

    from engine.supervise import stop_on_signals
    from engine.watch import watch

    async def show() -> "ViewState":
        access = access_of(token, ca)
        return await watch(url, Console(), stop_on_signals(), plain=plain, access=access)

    asyncio.run(show())
