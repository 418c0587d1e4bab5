"""``heqis state``: the operator's hand on the risk gate."""

from enum import StrEnum
from typing import Annotated

import typer

from engine.cli.common import AsJson, print_json
from engine.cli.reach import CaFile, Token, access_of


class Wanted(StrEnum):
    """States an operator may ask for."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="state")(state)


def state(
    wanted: Annotated[Wanted, typer.Argument(help="What the risk gate shall be.")],
    url: Annotated[str, typer.Argument(help="Where the engine listens.")] = "ws://127.0.0.1:8765",
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Let signals through, only those that reduce a position, or none; it is journaled.

    It holds at once, and is answered when it is on the disk. Exit status 1 if it did not get there.

    Example: heqis state halted
    """
    import asyncio

    from engine.operating import set_state
    from engine.stream_messages import SetState

    message = SetState(state=wanted.value)
    answer = asyncio.run(set_state(url, message, access_of(token, ca)))
    if json:
        told = {"state": wanted.value, "previous": answer.previous, "problem": answer.problem}
        print_json(told)
    else:
        typer.echo(f"the risk gate is {wanted.value}; it was {answer.previous}")
    if answer.problem:
        typer.echo(f"but {answer.problem}", err=True)
        raise typer.Exit(1)
