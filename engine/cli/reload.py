"""``heqis reload``: have a running engine read its configuration again."""

from typing import Annotated

import typer

from engine.cli.common import AsJson, print_json
from engine.cli.reach import CaFile, Token, access_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="reload")(reload)


def reload(
    url: Annotated[str, typer.Argument(help="Where the engine listens.")] = "ws://127.0.0.1:8765",
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Have the engine read its configuration again: all of it is taken over, or nothing.

    Limits of the risk gate, budgets, and bounds of stream and journal change at once; the answer
    names them, and the keys that wait for a restart. Files that are wrong, half written, or lack
    keys they had are refused with the reason, and the engine goes on as it was. It is journaled
    either way. SIGHUP does the same.

    Example: heqis reload
    """
    import asyncio

    from engine.operating import operate
    from engine.stream_messages import Operate

    told = asyncio.run(operate(url, Operate(command="reload"), access_of(token, ca)))
    if json:
        print_json(told)
        return
    typer.echo(f"changed: {', '.join(told['changed']) or 'nothing'}")
    if told["needs_restart"]:
        typer.echo(f"needs a restart: {', '.join(told['needs_restart'])}")
